//! What a rebalancing moves: as JSON and as people read it.

use std::io::{self, Write};

use blixard_proto::v1;
use serde::Serialize;

use super::one_line;
use super::table::Table;

/// `rebalance`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rebalance {
    /// In the order in which they are made.
    moves: Vec<Move>,
    /// The hosts that take vms.
    hosts: Vec<Host>,
    /// How many of the moves are not made, or whose vm is not healthy yet.
    unfinished: u64,
    /// How many vms are on their way for earlier moves, or are to go yet.
    under_way: u64,
    /// The revision of the cluster's state that this is.
    revision: u64,
}

/// A vm that goes to another host.
#[derive(Debug, Serialize)]
struct Move {
    vm: String,
    from: String,
    to: String,
    because: String,
}

/// How full a host's memory is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Host {
    node: String,
    now_percent: f64,
    then_percent: f64,
}

/// `cluster preemption`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Preemption {
    /// Whether vms make room for others of higher priority.
    on: bool,
    /// The revision of the cluster's state that this is.
    revision: u64,
}

impl From<v1::RebalanceResponse> for Rebalance {
    fn from(answer: v1::RebalanceResponse) -> Self {
        let moved = |one: v1::VmMove| Move { vm: one.vm, from: one.from, to: one.to, because: one.because };
        let percent = |thousandths: u32| f64::from(thousandths) / 10.0;
        let host = |one: v1::HostShare| {
            let (now_percent, then_percent) = (percent(one.now), percent(one.then));
            Host { node: one.node, now_percent, then_percent }
        };
        Self {
            moves: answer.moves.into_iter().map(moved).collect(),
            hosts: answer.hosts.into_iter().map(host).collect(),
            unfinished: answer.unfinished,
            under_way: answer.under_way,
            revision: answer.revision,
        }
    }
}

impl From<v1::SetPreemptionResponse> for Preemption {
    fn from(answer: v1::SetPreemptionResponse) -> Self {
        Self { on: answer.on, revision: answer.revision }
    }
}

impl Rebalance {
    pub(crate) fn is_done(&self) -> bool {
        self.unfinished == 0
    }

    pub(crate) fn still_under_way(&self) -> String {
        format!("{} of {} moves are not done", self.unfinished, self.moves.len())
    }
}

pub(crate) fn rebalance(out: &mut dyn Write, told: &Rebalance, would: bool) -> io::Result<()> {
    if told.moves.is_empty() && told.under_way > 0 {
        return writeln!(out, "nothing else to move; earlier moves under way: {}", told.under_way);
    }
    if told.moves.is_empty() {
        return writeln!(out, "every microVM is where it is placed best");
    }
    let mut moves = Table::new(["VM", "FROM", if would { "WOULD GO TO" } else { "TO" }, "BECAUSE"]);
    for one in &told.moves {
        moves.row([one.vm.clone(), one.from.clone(), one.to.clone(), one_line(&one.because)]);
    }
    moves.write(out)?;
    writeln!(out)?;
    let mut hosts = Table::new(["NODE", "MEMORY BEFORE", "AFTER"]);
    for host in &told.hosts {
        let percent = |share: f64| format!("{share:.0} %");
        hosts.row([host.node.clone(), percent(host.now_percent), percent(host.then_percent)]);
    }
    hosts.write(out)
}

pub(crate) fn preemption(out: &mut dyn Write, told: &Preemption) -> io::Result<()> {
    writeln!(
        out,
        "{}",
        if told.on {
            "microVMs make room for those of higher priority that say `placement.preempts`"
        } else {
            "microVMs make room for no others"
        }
    )
}
