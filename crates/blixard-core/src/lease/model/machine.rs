//! A machine: its clock, its processes, the holder of its lease, its disk. What a reboot does to them.

use std::collections::BTreeMap;

use blixard_types::{Epoch, VmId};

use super::agent::Agent;
use super::raft::{Disk, Raft};
use super::server::Leading;
use crate::ports::BootMillis;

/// The clock of one boot. True time is in microseconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct MachineClock {
    booted: u64,
    /// What it showed then, in milliseconds.
    base: u64,
    /// Parts of a million: 990,000 is 1 % slow.
    rate: u64,
    /// How long it stood still: only of the clock that the flaw takes.
    still: u64,
}

impl MachineClock {
    pub(super) fn new(booted: u64, base: u64, rate: u64) -> Self {
        Self { booted, base, rate, still: 0 }
    }

    pub(super) fn at(&self, now: u64) -> BootMillis {
        let true_us = u128::from(now - self.booted - self.still);
        BootMillis(self.base + u64::try_from(true_us * u128::from(self.rate) / 1_000_000_000).unwrap())
    }

    /// The true instant at which the clock shows this, if it does not stand still any more.
    pub(super) fn when(&self, shown: BootMillis) -> u64 {
        let ms = u128::from(shown.0.saturating_sub(self.base));
        let us = (ms * 1_000_000_000).div_ceil(u128::from(self.rate));
        self.booted + self.still + u64::try_from(us).unwrap()
    }

    pub(super) fn stand_still(&mut self, us: u64) {
        self.still += us;
    }
}

/// The process that kills everything at its deadline, if it has one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Holder {
    pub(super) era: u64,
    pub(super) deadline: Option<BootMillis>,
}

/// A vm's process.
#[derive(Debug, Clone, Copy)]
pub(super) struct Process {
    pub(super) epoch: Epoch,
    pub(super) serial: u64,
    pub(super) dies_at: Option<u64>,
}

/// The daemon: server and host agent in one process.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) serial: u64,
    pub(super) paused_until: u64,
    pub(super) raft: Raft,
    pub(super) leading: Option<Leading>,
    /// What it appends reaches nobody before.
    pub(super) entries_wait_until: u64,
    pub(super) agent: Agent,
}

#[derive(Debug)]
pub(super) struct Machine {
    pub(super) up: bool,
    pub(super) boot: u64,
    pub(super) clock: MachineClock,
    pub(super) suspended_until: u64,
    pub(super) disk: Disk,
    pub(super) daemon: Option<Daemon>,
    pub(super) holder: Option<Holder>,
    /// Whether units that were started without a lease are bound to it by now.
    pub(super) bound: bool,
    /// The newest epoch of each vm that is over here: nothing starts at it any more, whoever asked and when.
    pub(super) over: BTreeMap<VmId, Epoch>,
    pub(super) processes: BTreeMap<VmId, Process>,
}

impl Holder {
    pub(super) fn holds(&self, now: BootMillis) -> bool {
        self.deadline.is_none_or(|deadline| now < deadline)
    }
}

impl Machine {
    /// Whether this epoch of the vm was ended here.
    pub(super) fn is_over(&self, vm: &VmId, epoch: Epoch) -> bool {
        self.over.get(vm).is_some_and(|&over| epoch <= over)
    }

    /// Whether a vm executes there now.
    pub(super) fn executes(&self, vm: &VmId, now: u64) -> bool {
        let alive = |process: &Process| process.dies_at.is_none_or(|at| at > now);
        self.up && self.suspended_until <= now && self.processes.get(vm).is_some_and(alive)
    }
}
