//! Emptying a host: its vms are moved to others a few at a time, each gated on the ones before being healthy.
//!
//! Owns: which vms leave a draining host next, and why the others do not. Refuses to know: how a move is
//! carried out (stopped where it is, then placed elsewhere by the scheduler, one epoch later).
//!
//! ```text
//! placed ── MoveVm ──▶ stopping ── Stopped ──▶ unplaced ── Place ──▶ elsewhere ── healthy ──▶ moved
//! ```
//! A vm counts as on its way until it is healthy, so that one that does not come up stops the drain. Past its
//! deadline all that is left is stopped, whether there is room elsewhere or not.

use std::collections::BTreeMap;

use blixard_types::{Epoch, NodeId, VmId};

use crate::ports::UnixMillis;
use crate::schedule::{Planner, WaitingOn};
use crate::state::{Admission, ClusterState, Run, Vm};

/// What leaves draining hosts now, and what does not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DrainPlan {
    /// Placements that are to end, for the vm to go elsewhere.
    pub moves: Vec<(VmId, Epoch)>,
    /// The vms that stay on draining hosts for now.
    pub staying: BTreeMap<VmId, Stays>,
    /// When to plan again although nothing has changed.
    pub again_at: Option<UnixMillis>,
}

/// Why a vm stays on a draining host for now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Stays {
    /// As many are on their way as may be.
    #[error("{} on the way first, until healthy", list(.0))]
    Others(Vec<VmId>),
    /// It would find no place.
    #[error(transparent)]
    NoHost(WaitingOn),
    /// It is being stopped.
    #[error("is being stopped")]
    Stopping,
    /// It is a task.
    #[error(
        "is a task, which would begin anew elsewhere; it runs to its end here, or until the drain's deadline"
    )]
    Task,
}

fn list(vms: &[VmId]) -> String {
    let names: Vec<String> = vms.iter().map(ToString::to_string).collect();
    if let [one] = names.as_slice() { format!("{one} is") } else { format!("{} are", names.join(", ")) }
}

/// Plans the next moves away from hosts that are drained.
#[must_use]
pub fn plan(state: &ClusterState, now: UnixMillis) -> DrainPlan {
    let mut plan = DrainPlan::default();
    let drains = |(&node, of): (&NodeId, &crate::state::Node)| match of.admission {
        Admission::Draining { max_parallel, deadline } => Some((node, max_parallel, deadline)),
        Admission::Open | Admission::Cordoned => None,
    };
    let drains: Vec<_> = state.nodes.iter().filter_map(drains).collect();
    if drains.is_empty() {
        return plan;
    }
    // Whatever is on its way already has its place before anything else is sent after it.
    let mut planner = Planner::of(state);
    planner.placements(state, now);
    for (id, _) in state.vms.iter().filter(|(_, vm)| is_leaving(vm)) {
        planner.move_away(state, id);
    }
    for (node, max_parallel, deadline) in drains {
        let forced = deadline.is_some_and(|deadline| now >= deadline);
        if let Some(deadline) = deadline.filter(|_| !forced) {
            plan.again_at = Some(plan.again_at.map_or(deadline, |at| at.min(deadline)));
        }
        drain(state, &mut planner, (node, if forced { None } else { Some(max_parallel) }), &mut plan);
    }
    plan
}

/// The moves away from one host: so many at a time, or all.
fn drain(
    state: &ClusterState,
    planner: &mut Planner,
    (node, at_a_time): (NodeId, Option<u32>),
    plan: &mut DrainPlan,
) {
    let on_the_way = state.vms.iter().filter(|(_, vm)| vm.moves_from == Some(node) && vm.wanted());
    let mut on_the_way: Vec<VmId> = on_the_way.map(|(id, _)| id.clone()).collect();
    for (id, vm) in &state.vms {
        let Run::Placed { node: at, epoch, .. } = vm.run else { continue };
        if at != node {
            continue;
        }
        if !vm.wanted_there() {
            plan.staying.insert(id.clone(), Stays::Stopping);
            continue;
        }
        let Some(at_a_time) = at_a_time else {
            plan.moves.push((id.clone(), epoch));
            continue;
        };
        if state.is_task(vm) {
            plan.staying.insert(id.clone(), Stays::Task);
        } else if on_the_way.len() >= at_a_time.max(1) as usize {
            plan.staying.insert(id.clone(), Stays::Others(on_the_way.clone()));
        } else if planner.move_away(state, id).is_some() {
            plan.moves.push((id.clone(), epoch));
            on_the_way.push(id.clone());
        } else if let Some(waiting) = planner.refusals(state, id) {
            plan.staying.insert(id.clone(), Stays::NoHost(waiting));
        }
    }
}

fn is_leaving(vm: &Vm) -> bool {
    vm.wanted() && !vm.wanted_there() && vm.run.host().is_some()
}

#[cfg(test)]
mod tests;
