//! Room for higher priorities: which vms are stopped for one that finds no host.
//!
//! Owns: who has to go. Refuses to know: how a vm is stopped and placed again, which is as for a restart. Nothing
//! is stopped unless the cluster says so, the vm's spec says `placement.preempts`, and all that is missing on a host
//! is room, which vms of lower priority have. The host is taken whose highest victim is lowest, then the one with
//! the fewest; nobody is stopped whose room is not needed. What is being stopped already has made its room.

use blixard_types::{Epoch, NodeId, VmId};

use super::filter::{self, Gate};
use super::fleet::Planner;
use super::shape::Shape;
use super::volumes::Tie;
use crate::ports::UnixMillis;
use crate::state::{ClusterState, Preemption, Run, Usage, Vm};

/// A vm that is stopped for another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Eviction {
    /// The vm.
    pub vm: VmId,
    /// The placement that ends.
    pub epoch: Epoch,
    /// Its host.
    pub node: NodeId,
    /// The one that has a higher priority.
    pub by: VmId,
}

/// A vm that could make room.
#[derive(Debug, Clone)]
struct Victim {
    priority: i32,
    vm: VmId,
    epoch: Epoch,
    takes: Usage,
}

/// Plans who is stopped now. Nobody, where the cluster does not preempt.
#[must_use]
pub fn plan(state: &ClusterState, now: UnixMillis) -> Vec<Eviction> {
    let asks = |vm: &Vm| vm.run.host().is_none() && preempts(state, vm).is_some();
    if state.preemption == Preemption::Off || !state.vms.values().any(asks) {
        return Vec::new();
    }
    let mut planner = Planner::of(state);
    let waiting = planner.plan(state, now).waiting;
    let waits = waiting.iter().filter(|(_, why)| why.is_for_a_host()).map(|(id, _)| id);
    let mut waits: Vec<(i32, VmId)> =
        waits.filter_map(|id| Some((preempts(state, state.vms.get(id)?)?, id.clone()))).collect();
    if waits.is_empty() {
        return Vec::new();
    }
    // Higher priority first, then by name.
    waits.sort_by(|(one, a), (other, b)| other.cmp(one).then_with(|| a.cmp(b)));
    for (id, _) in state.vms.iter().filter(|(_, vm)| vm.run.host().is_some() && !vm.wanted_there()) {
        planner.leave(id);
    }
    let mut evictions = Vec::new();
    for (priority, id) in waits {
        let Some(vm) = state.vms.get(&id) else { continue };
        let Some(victims) = room_for(state, &mut planner, (&id, vm), priority) else { continue };
        let gone = victims.into_iter().map(|(node, victim)| Eviction {
            vm: victim.vm,
            epoch: victim.epoch,
            node,
            by: id.clone(),
        });
        evictions.extend(gone);
    }
    evictions
}

/// The priority of a vm that may ask others to make room. One that has failed since it was last well may not:
/// others would be stopped at each of its tries.
fn preempts(state: &ClusterState, vm: &Vm) -> Option<i32> {
    let placement = &state.target_spec(vm)?.placement;
    (placement.preempts && vm.failures == 0).then_some(placement.priority)
}

/// Takes the room for a vm, and gives those who make it; none if it has room once others are gone, or never.
fn room_for(
    state: &ClusterState,
    planner: &mut Planner,
    (id, vm): (&VmId, &Vm),
    priority: i32,
) -> Option<Vec<(NodeId, Victim)>> {
    let gate = Gate::of(state);
    if let Some((node, new)) = planner.choose(state, gate, id, vm) {
        planner.take(id, node, new);
        return None;
    }
    let (shape, tie) = (planner.shape_of(id)?, Tie::of(state, id, vm));
    let takes = shape.takes.and(tie.new);
    let mut best: Option<((i32, usize, NodeId), Vec<Victim>)> = None;
    for &node in state.nodes.keys() {
        let Some(victims) = victims(state, planner, gate, (node, &shape, &tie), (takes, priority)) else {
            continue;
        };
        let highest = victims.iter().map(|victim| victim.priority).max()?;
        let rank = (highest, victims.len(), node);
        if best.as_ref().is_none_or(|(other, _)| rank < *other) {
            best = Some((rank, victims));
        }
    }
    let ((.., node), victims) = best?;
    for victim in &victims {
        planner.leave(&victim.vm);
    }
    planner.take(id, node, tie.new);
    Some(victims.into_iter().map(|victim| (node, victim)).collect())
}

/// The vms of a host that make room for one, as few and as low as will do; none if they do not suffice.
fn victims(
    state: &ClusterState,
    planner: &Planner,
    gate: Gate,
    (node, shape, tie): (NodeId, &Shape, &Tie),
    (takes, priority): (Usage, i32),
) -> Option<Vec<Victim>> {
    let of = state.nodes.get(&node)?;
    tie.admits(state, node).ok()?;
    filter::admits(of).ok()?;
    filter::meets(of, &shape.requirement).ok()?;
    gate.check(state, node).ok()?;
    let mut lower: Vec<Victim> = state
        .vms
        .iter()
        .filter_map(|(id, vm)| victim(planner, node, id, vm))
        .filter(|victim| victim.priority < priority)
        .collect();
    // The lowest first, and of those the largest: few have to go.
    lower.sort_by_key(|victim| (victim.priority, std::cmp::Reverse(victim.takes.memory_mib)));
    let fits = |gone: &[Victim]| {
        let freed = gone.iter().fold(Usage::default(), |freed, victim| freed.and(victim.takes));
        planner.fits_without(node, freed, takes)
    };
    let needed = (1..=lower.len()).find(|&count| lower.get(..count).is_some_and(fits))?;
    lower.truncate(needed);
    // The highest of them may not be needed once lower ones have gone.
    for at in (0..lower.len()).rev() {
        let mut fewer = lower.clone();
        fewer.remove(at);
        if !fewer.is_empty() && fits(&fewer) {
            lower = fewer;
        }
    }
    Some(lower)
}

fn victim(planner: &Planner, on: NodeId, id: &VmId, vm: &Vm) -> Option<Victim> {
    let Run::Placed { epoch, .. } = vm.run else { return None };
    let shape = planner.shape_of(id)?;
    // One that goes for another already is not there any more.
    let stays = planner.host_of(id) == Some(on) && vm.wanted_there();
    stays.then(|| Victim { priority: shape.priority, vm: id.clone(), epoch, takes: shape.takes })
}

#[cfg(test)]
mod tests;
