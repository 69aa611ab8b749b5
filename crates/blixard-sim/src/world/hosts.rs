//! Whether every vm is where it should be, runs there, and nowhere else.

use std::fmt::Write as _;

use blixard_core::state::{ClusterState, Desired, HealthStatus, Phase, Run};

use super::checks;
use crate::ground::Executed;
use crate::people::VMS;
use crate::shared::Shared;

/// Whether they are, and else the first thing that is not so.
pub(super) fn settled(shared: &Shared) -> Result<(), String> {
    let replicas = checks::replicas(shared);
    let newest = replicas.iter().max_by_key(|(_, replica)| replica.read(|state| state.applied));
    let (_, replica) = newest.ok_or("no server is up")?;
    replica.read(|state| as_the_state_says(shared, state))
}

fn as_the_state_says(shared: &Shared, state: &ClusterState) -> Result<(), String> {
    let defined = state.vms.len() as u64;
    if defined != VMS {
        return Err(format!("{defined} vms are defined"));
    }
    for (id, vm) in &state.vms {
        let Run::Placed { node, epoch, phase: Phase::Running { generation, health } } = &vm.run else {
            return Err(format!("{id} does not run: {:?}", vm.run));
        };
        let well = vm.desired == Desired::Running && *health == HealthStatus::Healthy;
        if !well || *generation != vm.target {
            return Err(format!("{id} is not well: {:?}", vm.run));
        }
        let said = Executed { vm: id.clone(), epoch: *epoch, generation: *generation };
        let executed = shared.ground(*node).is_some_and(|ground| ground.running().contains(&said));
        if !executed {
            return Err(format!("{id} is said to run on node {node}, and does not"));
        }
    }
    let executed: usize = shared.grounds.values().map(|ground| ground.running().len()).sum();
    if executed as u64 == VMS { Ok(()) } else { Err(format!("{executed} vms are executed")) }
}

/// What is not well with hosts and people, in words; nothing where nodes are none.
pub(super) fn trouble(shared: &Shared) -> String {
    let mut said = String::new();
    if shared.grounds.is_empty() {
        return said;
    }
    if let Err(reason) = settled(shared) {
        // Writing to a string does not fail.
        let _ = write!(said, " ({reason})");
    }
    if !shared.people.is_done() {
        let _ = write!(said, " (people were told: {})", shared.people.last_refusal());
    }
    said
}
