//! Where vms are executed: that no vm is on two hosts at once, and no placement on two hosts at any time.
//!
//! Looked at outside of all nodes, on the simulation's own time, in the units of all machines.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use blixard_types::{Epoch, NodeId, VmId};

use crate::audit::{Audit, Violation};
use crate::ground::{Executed, Ground};

/// What was executed; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Executions(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    count: u64,
    placements: BTreeMap<(VmId, Epoch), NodeId>,
}

impl Executions {
    /// Looks at what has just begun on a node, beside all that runs.
    pub(crate) fn begun(
        &self,
        node: NodeId,
        run: &Executed,
        grounds: &BTreeMap<NodeId, Ground>,
        audit: &Audit,
    ) {
        for (&other, ground) in grounds.iter().filter(|(other, _)| **other != node) {
            for there in ground.running().iter().filter(|there| there.vm == run.vm) {
                let on = [(other, there.epoch.0), (node, run.epoch.0)];
                audit.violate(Violation::RunsTwice { vm: run.vm.to_string(), on });
            }
        }
        let mut inner = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        inner.count += 1;
        let before = *inner.placements.entry((run.vm.clone(), run.epoch)).or_insert(node);
        if before != node {
            let (vm, epoch) = (run.vm.to_string(), run.epoch.0);
            audit.violate(Violation::EpochTwice { vm, epoch, nodes: [before, node] });
        }
    }

    /// How many there were.
    pub(crate) fn count(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).count
    }
}
