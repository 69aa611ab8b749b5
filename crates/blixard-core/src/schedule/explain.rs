//! Every decision with its reasons: what each host lacks for a vm, or how many points it has.

use blixard_types::{NodeId, NodeName, VmId};

use super::filter::Gate;
use super::fleet::Planner;
use super::reason::{RefusalReason, WaitingOn};
use super::score::Points;
use crate::ports::UnixMillis;
use crate::state::{ClusterState, Run};

/// Where a vm would go if it were placed now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// Where it is.
    pub host: Option<NodeId>,
    /// What it waits for, if it should run and is on no host and no host is chosen for it.
    pub waiting: Option<WaitingOn>,
    /// The host that would be chosen, if any will do. One that is running is looked at as if it were not.
    pub best: Option<NodeId>,
    /// Every node: those that will do first, the best first; then the others, in the order of their numbers.
    pub verdicts: Vec<Verdict>,
}

/// What is to be said of a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verdict {
    /// The node.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Why it will not do, or how good it is.
    pub result: Result<Merit, RefusalReason>,
}

/// How good a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merit {
    /// Its points.
    pub points: Points,
    /// Its free memory without the vm, in MiB.
    pub free_mib: u64,
}

/// Why a vm is where it is, or is on no host; `None` if there is no such vm.
#[must_use]
pub fn explain(state: &ClusterState, id: &VmId, now: UnixMillis) -> Option<Explanation> {
    let vm = state.vms.get(id)?;
    let waiting = match vm.run {
        Run::Unplaced { .. } => super::plan(state, now).waiting.remove(id),
        Run::Placed { .. } => None,
    };
    let (mut planner, gate) = (Planner::of(state), Gate::of(state));
    planner.forget(id);
    let shape = planner.shape(state, vm.target_generation()?)?;
    let mut good = Vec::new();
    let mut bad = Vec::new();
    for (&node, of) in &state.nodes {
        let name = of.name.clone();
        match planner.merit(state, gate, node, &shape, (id, vm)) {
            Ok((rank, merit)) => good.push((rank, Verdict { node, name, result: Ok(merit) })),
            Err(reason) => bad.push(Verdict { node, name, result: Err(reason) }),
        }
    }
    good.sort_by_key(|(rank, _)| std::cmp::Reverse(*rank));
    let best = good.first().map(|(rank, _)| rank.node());
    let verdicts = good.into_iter().map(|(_, verdict)| verdict).chain(bad).collect();
    Some(Explanation { host: vm.run.host(), waiting, best, verdicts })
}
