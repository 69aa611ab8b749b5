//! What has to hold when all has come to rest.

use std::collections::BTreeMap;

use blixard_core::ports::consensus::Consensus as _;
use blixard_types::NodeId;

use crate::audit::Violation;
use crate::linear;
use crate::mistakes;
use crate::shared::Shared;

/// Whether all nodes are up, follow one leader and have applied all that it has.
pub(super) fn agree(shared: &Shared) -> bool {
    let up = shared.up();
    let standings: Vec<_> = up.iter().map(|(_, node, _)| node.standing()).collect();
    let Some(leader) = standings.iter().find(|standing| standing.leads()) else { return false };
    let last = leader.last_log;
    up.len() == shared.nodes().len()
        && standings.iter().all(|standing| standing.applied == last && standing.last_log == last)
}

/// Looks for what was lost, what differs, and what was read that cannot have been there.
pub(super) fn at_the_end(shared: &Shared) {
    let states: Vec<_> = shared.up().into_iter().map(|(id, _, machine)| (id, machine.state())).collect();
    for (id, state) in &states {
        for value in shared.history.acknowledged() {
            if !state.has(value) {
                shared.audit.violate(Violation::Lost { node: *id, value });
            }
        }
    }
    if let Some(((one, first), others)) = states.split_first() {
        for (other, state) in others {
            if state != first {
                shared.audit.violate(Violation::StatesDiffer { nodes: [*one, *other] });
            }
        }
    }
    logs(shared);
    for (register, operations) in shared.history.registers() {
        if let Err(why) = linear::check(&operations) {
            shared.audit.violate(Violation::NotLinearizable { register, why });
        }
    }
}

/// Compares, byte for byte, the entries that nodes have on disk and have applied.
fn logs(shared: &Shared) {
    let log = |(id, node, _): &(NodeId, blixard_raft::RaftNode, _)| {
        let applied = node.standing().applied.map_or(0, |position| position.index);
        let mut entries = mistakes::log(&shared.disk(*id).copied());
        entries.retain(|index, _| *index <= applied);
        (*id, entries)
    };
    let logs: Vec<(NodeId, BTreeMap<u64, Vec<u8>>)> = shared.up().iter().map(log).collect();
    for (one, first) in &logs {
        for (other, second) in logs.iter().filter(|(other, _)| other > one) {
            let differs = first.iter().find(|(index, entry)| second.get(index).is_some_and(|e| e != *entry));
            if let Some((index, _)) = differs {
                shared.audit.violate(Violation::LogsDiffer { nodes: [*one, *other], index: *index });
            }
        }
    }
}
