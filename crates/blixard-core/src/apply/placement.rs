//! Vms that leave hosts: rebalancing, and room for higher priorities.

use blixard_types::{Epoch, VmId};

use super::{Moment, Rejection};
use crate::command::{Outcome, PlacementCommand};
use crate::rebalance::{MOVES_MAX, Rebalancing};
use crate::state::{ClusterState, EventKind, Preemption, Restart, Run};

impl ClusterState {
    pub(super) fn change_placement(
        &mut self,
        command: &PlacementCommand,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        match command {
            PlacementCommand::Rebalance { moves, max_parallel } => {
                self.begin_rebalance(moves, *max_parallel, moment)
            }
            PlacementCommand::EndRebalance => Ok(match self.rebalancing.take() {
                Some(_) => {
                    self.note(moment, EventKind::RebalanceEnded);
                    moment.changed()
                }
                None => Outcome::Unchanged,
            }),
            PlacementCommand::SetPreemption { preemption } => Ok(self.set_preemption(*preemption, moment)),
            PlacementCommand::Preempt { vm, epoch, by } => self.preempt(vm, *epoch, by, moment),
        }
    }

    /// Every move names a placement that there is; which of them are still made is looked at one by one.
    fn begin_rebalance(
        &mut self,
        moves: &[(VmId, Epoch)],
        max_parallel: u32,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        if moves.len() > MOVES_MAX {
            return Err(Rejection::TooManyMoves { moves: moves.len() });
        }
        for (id, epoch) in moves {
            let vm = self.vms.get(id).ok_or_else(|| Rejection::UnknownVm { vm: id.clone() })?;
            let Run::Placed { node, epoch: at, .. } = vm.run else {
                return Err(Rejection::NotPlaced { vm: id.clone() });
            };
            if at != *epoch {
                return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch: *epoch });
            }
        }
        if moves.is_empty() && self.rebalancing.is_none() {
            return Ok(Outcome::Unchanged);
        }
        let begun = Rebalancing { max_parallel, moves: moves.iter().cloned().collect() };
        self.rebalancing = Some(begun).filter(|begun| !begun.moves.is_empty());
        self.note(moment, EventKind::RebalanceBegun { moves: moves.len() as u64 });
        Ok(moment.changed())
    }

    /// Whether a placement is to end for the sake of balance.
    pub(super) fn is_rebalanced(&self, id: &VmId, epoch: Epoch) -> bool {
        let moves = self.rebalancing.as_ref().map(|rebalancing| &rebalancing.moves);
        moves.is_some_and(|moves| moves.iter().any(|(vm, at)| (vm, *at) == (id, epoch)))
    }

    /// A move that is made is not to be made again.
    pub(super) fn is_moved(&mut self, id: &VmId) {
        let Some(rebalancing) = &mut self.rebalancing else { return };
        rebalancing.moves.retain(|(vm, _)| vm != id);
        if rebalancing.moves.is_empty() {
            self.rebalancing = None;
        }
    }

    fn set_preemption(&mut self, preemption: Preemption, moment: Moment) -> Outcome {
        if self.preemption == preemption {
            return Outcome::Unchanged;
        }
        self.preemption = preemption;
        self.note(moment, EventKind::PreemptionSet { preemption });
        moment.changed()
    }

    /// A vm makes room for another only while that one wants it, may ask for it, and has a higher priority.
    fn preempt(&mut self, id: &VmId, epoch: Epoch, by: &VmId, moment: Moment) -> Result<Outcome, Rejection> {
        if self.preemption == Preemption::Off {
            return Err(Rejection::NoPreemption);
        }
        let vm = self.vms.get(id).ok_or_else(|| Rejection::UnknownVm { vm: id.clone() })?;
        let Run::Placed { node, epoch: at, .. } = vm.run else {
            return Err(Rejection::NotPlaced { vm: id.clone() });
        };
        if at != epoch {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        }
        let other = self.vms.get(by).ok_or_else(|| Rejection::UnknownVm { vm: by.clone() })?;
        if !other.wanted() || other.run.host().is_some() {
            return Err(Rejection::NotWanted { vm: by.clone() });
        }
        let placement = |vm| self.target_spec(vm).map(|spec| &spec.placement);
        let higher = placement(other).zip(placement(vm));
        if higher.is_none_or(|(other, own)| !other.preempts || other.priority <= own.priority) {
            return Err(Rejection::NoHigherPriority { vm: id.clone(), by: by.clone() });
        }
        if !vm.wanted_there() {
            return Ok(Outcome::Unchanged);
        }
        if let Some(vm) = self.vms.get_mut(id) {
            (vm.restart, vm.preempted_by) = (Restart::Requested, Some(by.clone()));
        }
        self.note(moment, EventKind::Preempted { vm: id.clone(), by: by.clone() });
        Ok(moment.changed())
    }
}
