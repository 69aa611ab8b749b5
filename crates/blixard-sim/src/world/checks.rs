//! What has to hold when all has come to rest.

use std::collections::BTreeMap;
use std::sync::Arc;

use blixard_core::ports::consensus::Consensus as _;
use blixard_server::Replica;
use blixard_types::NodeId;

use crate::audit::Violation;
use crate::linear;
use crate::mistakes;
use crate::shared::{Machine, Shared};

/// Whether all nodes are up, follow one leader and have applied all that it has.
pub(super) fn agree(shared: &Shared) -> bool {
    let up = shared.up();
    let standings: Vec<_> = up.iter().map(|(_, node, _)| node.standing()).collect();
    let Some(leader) = standings.iter().find(|standing| standing.leads()) else { return false };
    let last = leader.last_log;
    up.len() == shared.remaining().len()
        && standings.iter().all(|standing| standing.applied == last && standing.last_log == last)
}

/// Looks for what was lost, what differs, and what was read that cannot have been there.
pub(super) fn at_the_end(shared: &Shared) {
    registers(shared);
    servers(shared);
    logs(shared);
    for (register, operations) in shared.history.registers() {
        if let Err(why) = linear::check(&operations) {
            shared.audit.violate(Violation::NotLinearizable { register, why });
        }
    }
}

/// The servers, if the nodes are some.
pub(super) fn replicas(shared: &Shared) -> Vec<(NodeId, Arc<Replica>)> {
    let replica = |(id, _, machine)| match machine {
        Machine::Server(replica) => Some((id, replica)),
        Machine::Registers(_) => None,
    };
    shared.up().into_iter().filter_map(replica).collect()
}

/// Whether the watchers were told all that the servers know.
pub(super) fn watchers_know(shared: &Shared) -> bool {
    let applied = |(_, replica): &(_, Arc<Replica>)| replica.read(|state| state.applied.revision());
    replicas(shared).iter().map(applied).max().is_none_or(|newest| shared.told.all_up_to(newest))
}

fn servers(shared: &Shared) {
    let replicas = replicas(shared);
    let written = shared.chronicle.values_written().map(|mut values| {
        values.sort_unstable();
        values
    });
    if let Some(((id, _), written)) = replicas.first().zip(written) {
        for value in shared.history.acknowledged() {
            if written.binary_search(&value).is_err() {
                shared.audit.violate(Violation::Lost { node: *id, value });
            }
        }
        for pair in written.windows(2) {
            if let [one, other] = pair
                && one == other
            {
                shared.audit.violate(Violation::Twice { node: *id, value: *one });
            }
        }
    }
    for violation in shared.told.check(&shared.chronicle) {
        shared.audit.violate(violation);
    }
    if let Some(((one, first), others)) = replicas.split_first() {
        for (other, replica) in others {
            if replica.digest_now() != first.digest_now() {
                shared.audit.violate(Violation::StatesDiffer { nodes: [*one, *other] });
            }
        }
    }
}

fn registers(shared: &Shared) {
    let state = |(id, _, machine)| match machine {
        Machine::Registers(registers) => Some((id, registers.state())),
        Machine::Server(_) => None,
    };
    let states: Vec<_> = shared.up().into_iter().filter_map(state).collect();
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
