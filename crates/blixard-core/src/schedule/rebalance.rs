//! Which vms would be better elsewhere now, and as few moves as will do.
//!
//! Owns: what is out of balance, and where each vm that moves would go. Refuses to know: how a move is carried out,
//! and how many at a time ([`crate::rebalance`]).
//!
//! A vm moves for one of three reasons, looked for in this order: its host is not what it requires any more; another
//! host has more points by affinities; or its host is fuller than others. The last is greedy: of the vms on the
//! fullest host the one is taken that leaves the fuller of the two hosts least full, until no move gains enough. A
//! vm moves once at most, and goes where the scheduler would place it: the same choice, after the moves before it.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::fmt;

use blixard_types::spec::Strategy;
use blixard_types::{Epoch, NodeId, VmId};

use super::filter::{self, Gate};
use super::fleet::Planner;
use super::reason::RefusalReason;
use super::score;
use crate::rebalance::MOVES_MAX;
use crate::state::{Admission, ClusterState, HealthStatus, Phase, Run, Vm};

/// How much less full the fuller of two hosts has to be after a move for the sake of room: a guest's restart is not
/// free.
pub const GAIN: Share = Share(50);

/// A part of a host's memory, in thousandths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Share(pub u64);

impl Share {
    pub(super) fn of(used_mib: u64, capacity_mib: u64) -> Self {
        Self(used_mib.saturating_mul(1000).checked_div(capacity_mib).unwrap_or(1000))
    }
}

impl fmt::Display for Share {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} %", (self.0 + 5) / 10)
    }
}

/// What moves, and what that comes to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RebalancePlan {
    /// In the order in which they are made.
    pub moves: Vec<Move>,
    /// How full each host that takes vms is, and would be.
    pub hosts: BTreeMap<NodeId, (Share, Share)>,
}

/// A vm goes to another host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Move {
    /// The vm.
    pub vm: VmId,
    /// The placement that ends.
    pub epoch: Epoch,
    /// Where it is.
    pub from: NodeId,
    /// Where it goes.
    pub to: NodeId,
    /// Why.
    pub because: Because,
}

/// Why a vm is better elsewhere.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Because {
    /// It would not be placed there any more.
    #[error("its host {0}")]
    Unfit(RefusalReason),
    /// More of its affinities are met elsewhere.
    #[error("{there:+} points by affinities there, {here:+} here")]
    Company {
        /// Points where it is.
        here: i32,
        /// Points where it goes.
        there: i32,
    },
    /// Its host is fuller.
    #[error("its host is {from} full, the other {to}; {from_then} and {to_then} with it there")]
    Room {
        /// Its host.
        from: Share,
        /// The other one.
        to: Share,
        /// Its host, without it.
        from_then: Share,
        /// The other one, with it.
        to_then: Share,
    },
}

/// Plans as few moves as will do. Nothing moves that is on its way, is not healthy, or has its volumes where it is;
/// nor from hosts that are drained or cordoned. What is left after [`MOVES_MAX`] is found by the next plan.
#[must_use]
pub fn plan(state: &ClusterState) -> RebalancePlan {
    let mut rebalancer = Rebalancer::of(state);
    let before = rebalancer.planner.shares();
    rebalancer.leave_unfit_hosts();
    rebalancer.seek_company();
    rebalancer.seek_room();
    let after = rebalancer.planner.shares();
    let share = |of: &BTreeMap<NodeId, Share>, node| of.get(&node).copied().unwrap_or_default();
    let hosts = before.keys().map(|&node| (node, (share(&before, node), share(&after, node)))).collect();
    RebalancePlan { moves: rebalancer.moves, hosts }
}

struct Rebalancer<'a> {
    state: &'a ClusterState,
    gate: Gate,
    planner: Planner,
    /// The vms that may move and have not.
    settled: BTreeMap<VmId, (NodeId, Epoch)>,
    moves: Vec<Move>,
}

/// A host that a vm could go to.
struct Prospect {
    to: NodeId,
    here: i32,
    there: i32,
}

impl<'a> Rebalancer<'a> {
    fn of(state: &'a ClusterState) -> Self {
        let open = |node: NodeId| {
            let node = state.nodes.get(&node);
            node.is_some_and(|node| node.admission == Admission::Open && filter::admits(node).is_ok())
        };
        let settled = state.vms.iter().filter_map(|(id, vm)| Some((id.clone(), settled(vm)?)));
        // A task would begin anew.
        let is_task = |id: &VmId| state.vms.get(id).is_some_and(|vm| state.is_task(vm));
        let settled = settled.filter(|(id, (node, _))| open(*node) && !is_task(id)).collect();
        let (gate, planner) = (Gate::of(state), Planner::of(state));
        Self { state, gate, planner, settled, moves: Vec::new() }
    }

    fn candidates(&self) -> Vec<(VmId, NodeId)> {
        self.settled.iter().map(|(id, (node, _))| (id.clone(), *node)).collect()
    }

    fn leave_unfit_hosts(&mut self) {
        for (id, from) in self.candidates() {
            let Some(vm) = self.state.vms.get(&id) else { continue };
            let Some(host) = self.state.nodes.get(&from) else { continue };
            let Err(reason) = super::meets(self.state, vm, host) else { continue };
            if let Some(prospect) = self.prospect(&id, from) {
                self.settle_on(&id, prospect.to, Because::Unfit(reason));
            }
        }
    }

    /// One that has moved may change the points of others, so it is looked at until nobody wants to move.
    fn seek_company(&mut self) {
        loop {
            let before = self.moves.len();
            for (id, from) in self.candidates() {
                let Some(Prospect { to, here, there }) = self.prospect(&id, from) else { continue };
                if there > here {
                    self.settle_on(&id, to, Because::Company { here, there });
                }
            }
            if self.moves.len() == before {
                return;
            }
        }
    }

    fn seek_room(&mut self) {
        while self.moves.len() < MOVES_MAX
            && let Some((id, to, because)) = self.best_for_room()
        {
            self.settle_on(&id, to, because);
        }
    }

    /// The move that gains most for the fullest host that gains by any.
    fn best_for_room(&mut self) -> Option<(VmId, NodeId, Because)> {
        let shares = self.planner.shares();
        let mut fullest: Vec<(Share, Reverse<NodeId>)> =
            shares.iter().map(|(&node, &share)| (share, Reverse(node))).collect();
        fullest.sort_by(|one, other| other.cmp(one));
        for (share, Reverse(from)) in fullest {
            let here = self.candidates().into_iter().filter(|(_, on)| *on == from);
            let found: Vec<_> =
                here.filter_map(|(id, _)| self.for_room(&shares, share, (id, from))).collect();
            let best = found.into_iter().min_by(|(one, ..), (other, ..)| one.cmp(other));
            if let Some((_, id, to, because)) = best {
                return Some((id, to, because));
            }
        }
        None
    }

    /// How full the fuller of the two hosts is after this vm's move, if that is enough less than before.
    fn for_room(
        &mut self,
        shares: &BTreeMap<NodeId, Share>,
        share: Share,
        (id, from): (VmId, NodeId),
    ) -> Option<(Share, VmId, NodeId, Because)> {
        let shape = self.planner.shape_of(&id)?;
        if shape.requirement.strategy == Strategy::Binpack {
            return None;
        }
        let Prospect { to, here, there } = self.prospect(&id, from)?;
        if there < here {
            return None;
        }
        let from_then = self.planner.share_with(from, |used| used.without(shape.takes))?;
        let to_then = self.planner.share_with(to, |used| used.and(shape.takes))?;
        let fuller = from_then.max(to_then);
        let gains = fuller.0.saturating_add(GAIN.0) <= share.0;
        let because = Because::Room { from: share, to: *shares.get(&to)?, from_then, to_then };
        gains.then_some((fuller, id, to, because))
    }

    /// Where a vm would be placed if it had to leave its host, and its points by affinities here and there.
    fn prospect(&mut self, id: &VmId, from: NodeId) -> Option<Prospect> {
        let vm = leaving(self.state.vms.get(id)?, from);
        let shape = self.planner.shape_of(id)?;
        self.planner.aside(id, |planner| {
            let (to, _) = planner.choose(self.state, self.gate, id, &vm)?;
            let points = score::points(planner.company(), &shape, &vm);
            let of = |node| points.get(&node).map_or(0, |points| points.affinity + points.anti_affinity);
            (to != from).then(|| Prospect { to, here: of(from), there: of(to) })
        })
    }

    fn settle_on(&mut self, id: &VmId, to: NodeId, because: Because) {
        if self.moves.len() >= MOVES_MAX {
            return;
        }
        let Some((from, epoch)) = self.settled.remove(id) else { return };
        self.planner.relocate(id, to);
        self.moves.push(Move { vm: id.clone(), epoch, from, to, because });
    }
}

/// Where a vm is that may be moved.
fn settled(vm: &Vm) -> Option<(NodeId, Epoch)> {
    let Run::Placed { node, epoch, phase: Phase::Running { generation, health } } = &vm.run else {
        return None;
    };
    let well = *health == HealthStatus::Healthy && *generation == vm.target;
    (well && vm.wanted_there() && vm.moves_from.is_none()).then_some((*node, *epoch))
}

/// A vm as it is once it has been told to move.
pub(crate) fn leaving(vm: &Vm, from: NodeId) -> Vm {
    Vm { moves_from: Some(from), ..vm.clone() }
}

#[cfg(test)]
mod tests;
