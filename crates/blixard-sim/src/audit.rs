//! What must never happen, looked for while it might.
//!
//! Owns what all nodes together have shown so far: who led which term, and what stands at which index.
//! A node shows this each time it applies an entry, restores a state, or says who leads.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::consensus::Standing;
use blixard_types::{LogPosition, NodeId};

use crate::linear::NotLinearizable;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Violation {
    /// Two nodes led one term.
    TwoLeaders {
        /// The term.
        term: u64,
        /// Who.
        leaders: [NodeId; 2],
    },
    /// Two nodes applied different entries at one index, or one did at different times.
    Diverged {
        /// Who noticed.
        node: NodeId,
        /// Where.
        index: u64,
        /// What was there before, and what is there now: term and value.
        entries: [(u64, u64); 2],
    },
    /// A node went back in its log, or left entries out, without a restart.
    OutOfOrder {
        /// Who.
        node: NodeId,
        /// The last index it had applied, and the next it did.
        indexes: [u64; 2],
    },
    /// A write was acknowledged, and is not in the state at the end.
    Lost {
        /// Whose state.
        node: NodeId,
        /// What was written.
        value: u64,
    },
    /// The states of two nodes differ at the end.
    StatesDiffer {
        /// Who.
        nodes: [NodeId; 2],
    },
    /// The logs that two nodes have on disk differ in an entry that both have applied.
    LogsDiffer {
        /// Who.
        nodes: [NodeId; 2],
        /// Where.
        index: u64,
    },
    /// No order of the operations on a register explains what was read.
    NotLinearizable {
        /// Which register.
        register: u64,
        /// Where the search ended.
        why: NotLinearizable,
    },
    /// A node stopped, or did not start, though nothing was done to its disk.
    Stopped {
        /// Who.
        node: NodeId,
        /// What it said.
        reason: String,
    },
    /// One write was applied twice.
    Twice {
        /// In whose state.
        node: NodeId,
        /// What was written.
        value: u64,
    },
    /// A watcher was not told what happened.
    NotTold {
        /// Who.
        watcher: NodeId,
        /// When it happened.
        revision: u64,
    },
    /// A watcher was told something that it had been told, or something older.
    ToldAgain {
        /// Who.
        watcher: NodeId,
        /// Of when.
        revision: u64,
    },
    /// A watcher was told something that has not happened.
    ToldOtherwise {
        /// Who.
        watcher: NodeId,
        /// Up to when.
        revision: u64,
    },
    /// A vm is executed on two hosts at once.
    RunsTwice {
        /// The vm.
        vm: String,
        /// The hosts, and at which epochs.
        on: [(NodeId, u64); 2],
    },
    /// A placement was executed on two hosts.
    EpochTwice {
        /// The vm.
        vm: String,
        /// The epoch.
        epoch: u64,
        /// The hosts.
        nodes: [NodeId; 2],
    },
    /// All was healed, and yet nothing can be written or the nodes do not agree.
    Stuck {
        /// What was waited for.
        waiting_for: String,
    },
}

impl fmt::Display for Violation {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TwoLeaders { term, leaders: [one, other] } => {
                write!(out, "nodes {one} and {other} both lead term {term}")
            }
            Self::Diverged { node, index, entries: [before, now] } => write!(
                out,
                "node {node} applied value {} of term {} at index {index}, where value {} of term {} was applied",
                now.1, now.0, before.1, before.0
            ),
            Self::OutOfOrder { node, indexes: [last, next] } => {
                write!(out, "node {node} applied index {next} after index {last}")
            }
            Self::Lost { node, value } => {
                write!(out, "value {value} was acknowledged, and node {node} does not have it")
            }
            Self::StatesDiffer { nodes: [one, other] } => {
                write!(out, "the states of nodes {one} and {other} differ")
            }
            Self::LogsDiffer { nodes: [one, other], index } => {
                write!(out, "the logs of nodes {one} and {other} differ at index {index}")
            }
            Self::NotLinearizable { register, why } => write!(
                out,
                "register {register} is not linearizable: after {} operations none of these fits: {:?}",
                why.placed.len(),
                why.stuck
            ),
            Self::Stopped { node, reason } => {
                write!(out, "node {node} stopped though its disk is well: {reason}")
            }
            Self::Twice { node, value } => write!(out, "value {value} was written twice, says node {node}"),
            Self::NotTold { watcher, revision } => {
                write!(out, "watcher {watcher} was not told of revision {revision}")
            }
            Self::ToldAgain { watcher, revision } => {
                write!(out, "watcher {watcher} was told of revision {revision} again")
            }
            Self::ToldOtherwise { watcher, revision } => {
                write!(out, "watcher {watcher} was told what did not happen, up to revision {revision}")
            }
            Self::RunsTwice { vm, on: [(one, first), (other, second)] } => write!(
                out,
                "vm {vm} is executed on node {one} at epoch {first} and on node {other} at epoch {second}"
            ),
            Self::EpochTwice { vm, epoch, nodes: [one, other] } => {
                write!(out, "epoch {epoch} of vm {vm} was executed on nodes {one} and {other}")
            }
            Self::Stuck { waiting_for } => {
                write!(out, "all is healed, and still: {waiting_for}")
            }
        }
    }
}

/// What was seen; clones see the same.
#[derive(Debug, Clone, Default)]
pub struct Audit(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    leaders: BTreeMap<u64, NodeId>,
    applied: BTreeMap<u64, (u64, u64)>,
    violations: Vec<Violation>,
}

impl Audit {
    /// Looks at who leads; returns whether that is news.
    pub fn standing(&self, standing: &Standing) -> bool {
        let Some(leader) = standing.leader else { return false };
        let mut inner = self.lock();
        match inner.leaders.insert(standing.term, leader) {
            None => true,
            Some(before) if before == leader => false,
            Some(before) => {
                let leaders = [before, leader];
                inner.violate(Violation::TwoLeaders { term: standing.term, leaders });
                false
            }
        }
    }

    /// Looks at an entry that a node applies after all up to `last`.
    pub fn applied(&self, node: NodeId, last: u64, position: LogPosition, value: u64) {
        let mut inner = self.lock();
        if position.index <= last && last != 0 {
            inner.violate(Violation::OutOfOrder { node, indexes: [last, position.index] });
        }
        inner.entry(node, position.index, (position.term, value));
    }

    /// Looks at a state that a node restores: index, term and value of all its entries.
    pub fn restored(&self, node: NodeId, entries: &[(u64, u64, u64)]) {
        let mut inner = self.lock();
        for (index, term, value) in entries {
            inner.entry(node, *index, (*term, *value));
        }
    }

    /// Notes what was found otherwise.
    pub fn violate(&self, violation: Violation) {
        self.lock().violate(violation);
    }

    /// All that was found.
    pub fn violations(&self) -> Vec<Violation> {
        self.lock().violations.clone()
    }

    /// In how many terms somebody led.
    pub fn terms(&self) -> usize {
        self.lock().leaders.len()
    }

    /// How many nodes led.
    pub fn leaders(&self) -> usize {
        self.lock().leaders.values().collect::<BTreeSet<_>>().len()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn entry(&mut self, node: NodeId, index: u64, now: (u64, u64)) {
        let before = *self.applied.entry(index).or_insert(now);
        if before != now {
            self.violate(Violation::Diverged { node, index, entries: [before, now] });
        }
    }

    fn violate(&mut self, violation: Violation) {
        // A cluster that has come apart says so at every entry.
        if self.violations.len() < 20 && !self.violations.contains(&violation) {
            self.violations.push(violation);
        }
    }
}
