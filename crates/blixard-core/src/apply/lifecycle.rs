//! The life of a vm: placed, reported on, started and stopped, deleted. The legal transitions are
//! drawn in [`crate::state::Vm`]'s module and are all here.

use blixard_types::{Epoch, NodeId, Spec, VmId};

use super::fence::in_partition;
use super::{MembershipRejection, Moment, Rejection, Speaker};
use crate::command::Outcome;
use crate::schedule::FAILURES_MAX;
use crate::state::{
    Admission, ClusterState, Deletion, Departure, Desired, EventKind, HealthStatus, Phase, Preparing, Proof,
    Restart, Role, Run, Unplaced, Vm,
};
use crate::state::{Files, VmReport, cut_reason};

impl ClusterState {
    fn known_vm(&mut self, vm: &VmId) -> Result<&mut Vm, Rejection> {
        self.vms.get_mut(vm).ok_or_else(|| Rejection::UnknownVm { vm: vm.clone() })
    }

    /// At most one host may run a vm: a placement is accepted only when the one before has ended.
    pub(super) fn place(
        &mut self,
        id: &VmId,
        node: NodeId,
        epoch: Epoch,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let vm = self.vms.get(id).ok_or_else(|| Rejection::UnknownVm { vm: id.clone() })?;
        if let Run::Placed { node: host, epoch, .. } = vm.run {
            return Err(Rejection::StillPlaced { vm: id.clone(), host, epoch });
        }
        if !vm.wanted() {
            return Err(Rejection::NotWanted { vm: id.clone() });
        }
        if epoch != vm.last_epoch.next() {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        }
        self.check_room(id, vm, node)?;
        self.check_pin(id, vm, node)?;
        self.check_terms(id, vm, node)?;
        let keeps = self.target_spec(vm).is_some_and(Spec::keeps_in_partition);
        let vm = self.known_vm(id)?;
        vm.in_partition = in_partition(vm, keeps);
        vm.run = Run::Placed { node, epoch, phase: Phase::Assigned };
        vm.last_epoch = epoch;
        vm.goes_to(node);
        // Where it is placed it has not left.
        vm.moves_from = vm.moves_from.filter(|&from| from != node);
        vm.preempted_by = None;
        vm.heard = 0;
        self.promise_volumes(id, node, epoch);
        self.note(moment, EventKind::Placed { vm: id.clone(), node, epoch });
        Ok(moment.changed())
    }

    fn check_room(&self, id: &VmId, vm: &Vm, node: NodeId) -> Result<(), Rejection> {
        let host = self.nodes.get(&node).ok_or(Rejection::UnknownNode { node })?;
        let session = host.session.as_ref().filter(|_| host.roles.contains(&Role::Host));
        let session = session.ok_or(Rejection::NotAHost { node })?;
        if host.departure == Departure::Requested {
            return Err(MembershipRejection::Leaving { name: host.name.clone() }.into());
        }
        self.check_fence(node, host)?;
        let spec = self.target_spec(vm).ok_or_else(|| Rejection::UnknownVm { vm: id.clone() })?;
        let fits = session.facts.capacity().fits(self.usage(node), self.needs(id, spec));
        fits.map_err(|shortage| Rejection::NoRoom { vm: id.clone(), node, shortage })
    }

    /// A planner may have looked before the host's daemon said on which other terms it takes vms, or before a
    /// new generation asked for something else.
    fn check_terms(&self, id: &VmId, vm: &Vm, node: NodeId) -> Result<(), Rejection> {
        let host = self.nodes.get(&node).ok_or(Rejection::UnknownNode { node })?;
        crate::schedule::meets(self, vm, host).map_err(|reason| {
            let (vm, node, reason) = (id.clone(), host.name.clone(), Box::new(reason));
            Rejection::Unfit { vm, node, reason }
        })
    }

    pub(super) fn report(
        &mut self,
        Speaker { node, daemon, sequence }: Speaker,
        id: &VmId,
        epoch: Epoch,
        report: &VmReport,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let host = self.nodes.get(&node).ok_or(Rejection::UnknownNode { node })?;
        if host.session.as_ref().is_none_or(|session| session.daemon != daemon) {
            return Err(Rejection::StaleSession { node });
        }
        if *report == VmReport::FilesGone {
            return self.files_gone(id, (node, epoch), moment);
        }
        if let VmReport::VolumeGone { volume } = report {
            return self.volume_gone(id, volume, (node, epoch), moment);
        }
        let is_task = self.vms.get(id).is_some_and(|vm| self.is_task(vm));
        let vm = self.known_vm(id)?;
        let Run::Placed { node: host, epoch: at, phase } = &vm.run else {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        };
        if (*host, *at) != (node, epoch) {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        }
        // A report that was delayed must not undo what the host has said since: it would not repeat it.
        if sequence <= vm.heard {
            return Err(Rejection::Overtaken { vm: id.clone() });
        }
        vm.heard = sequence;
        match report {
            VmReport::Fetching { generation } => {
                let reached = Phase::Fetching { generation: *generation };
                Ok(self.reach(id, epoch, reached, moment))
            }
            VmReport::Preparing { generation, trouble } => {
                let trouble = trouble.as_deref().map(cut);
                Ok(self.prepares(id, epoch, Preparing { generation: *generation, trouble }, moment))
            }
            VmReport::Starting { generation } => {
                let reached = Phase::Starting { generation: *generation };
                Ok(self.reach(id, epoch, reached, moment))
            }
            VmReport::Running { generation, health } => {
                let reached = Phase::Running { generation: *generation, health: bounded(health) };
                if *health == HealthStatus::Healthy && reached != *phase {
                    // A task is well as soon as it runs, and may fail all the same.
                    if !is_task {
                        vm.forgive();
                    }
                    vm.moves_from = vm.moves_from.filter(|&from| from == node);
                    if let Some(proven) = vm.generations.get_mut(generation) {
                        proven.proof = Proof::WasHealthy;
                    }
                }
                vm.came_from = None;
                let is_target = *generation == vm.target;
                self.volumes_are_made(id, node, *generation);
                let outcome = self.reach(id, epoch, reached, moment);
                Ok(match health {
                    HealthStatus::Unhealthy { reason } if is_target => {
                        self.give_up_target(id, cut_reason(reason), outcome, moment)
                    }
                    _ => outcome,
                })
            }
            VmReport::Stopped => Ok(self.end(id, epoch, Unplaced::Stopped, moment)),
            // Said of an epoch that is over, and heard above.
            VmReport::FilesGone | VmReport::VolumeGone { .. } => Ok(Outcome::Unchanged),
            VmReport::Succeeded { generation } => {
                vm.forgive();
                let why = Unplaced::Succeeded { at: moment.at, generation: *generation };
                Ok(self.end(id, epoch, why, moment))
            }
            VmReport::Failed { generation, reason } | VmReport::Hindered { generation, reason } => {
                // The end of an older generation says nothing of the one that is wanted now.
                if *generation == vm.target {
                    vm.failures = vm.failures.saturating_add(1);
                    vm.failed_on.insert(node);
                }
                // What hindered a host says nothing of the generation.
                let hindered = matches!(report, VmReport::Hindered { .. });
                let given_up = !hindered && *generation == vm.target && vm.failures >= FAILURES_MAX;
                let (at, generation) = (moment.at, *generation);
                let why = Unplaced::Failed { reason: cut(reason), at, generation, hindered };
                let outcome = self.end(id, epoch, why, moment);
                Ok(if given_up {
                    self.give_up_target(id, cut_reason(reason), outcome, moment)
                } else {
                    outcome
                })
            }
        }
    }

    /// The host makes a generation ready. How far the one that runs has come is not touched by that.
    fn prepares(&mut self, id: &VmId, epoch: Epoch, preparing: Preparing, moment: Moment) -> Outcome {
        let Preparing { generation, trouble } = preparing.clone();
        match self.vms.get_mut(id) {
            Some(vm) if vm.preparing.as_ref() != Some(&preparing) => vm.preparing = Some(preparing),
            _ => return Outcome::Unchanged,
        }
        self.note(moment, EventKind::Preparing { vm: id.clone(), epoch, generation, trouble });
        moment.changed()
    }

    fn reach(&mut self, id: &VmId, epoch: Epoch, reached: Phase, moment: Moment) -> Outcome {
        let Some(vm) = self.vms.get_mut(id) else {
            return Outcome::Unchanged;
        };
        vm.preparing = None;
        match &mut vm.run {
            Run::Placed { phase, .. } if *phase != reached => *phase = reached.clone(),
            _ => return Outcome::Unchanged,
        }
        self.note(moment, EventKind::PhaseReached { vm: id.clone(), epoch, phase: reached });
        moment.changed()
    }

    /// Ends an epoch: the host has no process of the vm any more, or cannot execute it.
    pub(super) fn end(&mut self, id: &VmId, epoch: Epoch, why: Unplaced, moment: Moment) -> Outcome {
        let kind = match &why {
            Unplaced::Failed { reason, .. } => {
                EventKind::Failed { vm: id.clone(), epoch, reason: reason.clone() }
            }
            Unplaced::Succeeded { .. } => EventKind::Succeeded { vm: id.clone(), epoch },
            Unplaced::Lost { .. } => EventKind::HostLost { vm: id.clone(), epoch },
            Unplaced::New | Unplaced::Stopped => EventKind::Stopped { vm: id.clone(), epoch },
        };
        self.note(moment, kind);
        let Some(vm) = self.vms.get_mut(id) else {
            return Outcome::Unchanged;
        };
        let was_done = matches!(why, Unplaced::Succeeded { .. });
        vm.preparing = None;
        vm.run = Run::Unplaced { why };
        if vm.restart == Restart::Requested {
            // Who asked for another run gets it; who only wanted it gone from there does not.
            if was_done && vm.moves_from.is_none() && vm.preempted_by.is_none() {
                vm.run = Run::Unplaced { why: Unplaced::Stopped };
            }
            // It was to end: however it did, the next try is a first one.
            vm.restart = Restart::No;
            vm.forgive();
        }
        if vm.deletion == Deletion::Requested && vm.discards().is_none() {
            self.forget(id, moment);
        }
        moment.changed()
    }

    /// The host has removed the files of a vm that goes away: that was the last thing to be done.
    fn files_gone(
        &mut self,
        id: &VmId,
        (node, epoch): (NodeId, Epoch),
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let vm = self.known_vm(id)?;
        if (vm.discards(), vm.last_epoch) != (Some(node), epoch) {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        }
        if let Some(volumes) = self.volumes.get_mut(id) {
            volumes.retain(|_, volume| volume.node != node);
        }
        self.forget(id, moment);
        Ok(moment.changed())
    }

    pub(super) fn set_desired(
        &mut self,
        id: &VmId,
        desired: Desired,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let vm = self.known_vm(id)?;
        if vm.deletion == Deletion::Requested {
            return Err(Rejection::BeingDeleted { vm: id.clone() });
        }
        vm.wishes += 1;
        let again = desired == Desired::Running && try_again(vm);
        if desired == Desired::Stopped {
            (vm.restart, vm.moves_from, vm.preempted_by) = (Restart::No, None, None);
        }
        if vm.desired == desired && !again {
            return Ok(Outcome::Unchanged);
        }
        vm.desired = desired;
        self.note(moment, EventKind::DesiredSet { vm: id.clone(), desired });
        Ok(moment.changed())
    }

    /// A restart is a new placement: the epoch ends when its host says so, and the next one follows.
    pub(super) fn restart_vm(&mut self, id: &VmId, moment: Moment) -> Result<Outcome, Rejection> {
        let vm = self.known_vm(id)?;
        if vm.deletion == Deletion::Requested {
            return Err(Rejection::BeingDeleted { vm: id.clone() });
        }
        if vm.desired == Desired::Stopped {
            return Err(Rejection::IsStopped { vm: id.clone() });
        }
        let placed = vm.run.host().is_some();
        let asked = placed && vm.restart == Restart::No;
        if asked {
            vm.restart = Restart::Requested;
        }
        if !asked && !try_again(vm) {
            return Ok(Outcome::Unchanged);
        }
        self.note(moment, EventKind::RestartRequested { vm: id.clone() });
        Ok(moment.changed())
    }

    /// A move is a restart that is remembered until the vm is healthy on another host. What was decided for a
    /// placement is not done to the one after it, and what was decided for a drain not once that has ended.
    pub(super) fn move_vm(&mut self, id: &VmId, epoch: Epoch, moment: Moment) -> Result<Outcome, Rejection> {
        let balanced = self.is_rebalanced(id, epoch);
        let drained = self.vms.get(id).and_then(|vm| self.nodes.get(&vm.run.host()?));
        let drained = drained.is_some_and(|host| matches!(host.admission, Admission::Draining { .. }));
        let vm = self.known_vm(id)?;
        let Run::Placed { node, epoch: at, .. } = vm.run else {
            return Err(Rejection::NotPlaced { vm: id.clone() });
        };
        if at != epoch {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch });
        }
        if !vm.wanted() {
            return Err(Rejection::NotWanted { vm: id.clone() });
        }
        if vm.restart == Restart::Requested && vm.moves_from == Some(node) {
            return Ok(Outcome::Unchanged);
        }
        if !drained && !balanced {
            return Err(Rejection::NotLeaving { vm: id.clone(), node });
        }
        (vm.restart, vm.moves_from) = (Restart::Requested, Some(node));
        self.is_moved(id);
        self.note(moment, EventKind::MoveRequested { vm: id.clone(), node });
        Ok(moment.changed())
    }

    /// Who asks again may ask for more: then the files go, too.
    pub(super) fn delete_vm(
        &mut self,
        id: &VmId,
        files: Files,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let vm = self.known_vm(id)?;
        if vm.deletion == Deletion::Requested && (vm.files == Files::Discard || files == Files::Keep) {
            return Ok(Outcome::Unchanged);
        }
        // A new vm of that name would know nothing of the old one's writes, which may land yet.
        self.check_written(id)?;
        let vm = self.known_vm(id)?;
        (vm.deletion, vm.files) = (Deletion::Requested, files);
        let runs_nowhere = vm.run.host().is_none() && vm.discards().is_none();
        self.note(moment, EventKind::DeletionRequested { vm: id.clone() });
        if runs_nowhere {
            self.forget(id, moment);
        }
        Ok(moment.changed())
    }

    pub(super) fn forget(&mut self, id: &VmId, moment: Moment) {
        if let Some(vm) = self.vms.remove(id) {
            self.retired_epoch = self.retired_epoch.max(vm.last_epoch);
            if vm.files == Files::Discard {
                self.discard_volumes(id, moment);
            }
        }
        self.drop_unused_specs();
        self.note(moment, EventKind::Deleted { vm: id.clone() });
    }
}

/// Asking for a vm that has failed to run is asking for another try, at once; asking for a task that is done, for
/// another run of it.
pub(super) fn try_again(vm: &mut Vm) -> bool {
    let over = Run::Unplaced { why: Unplaced::Stopped };
    let again = match &vm.run {
        Run::Unplaced { why } => matches!(why, Unplaced::Failed { .. } | Unplaced::Succeeded { .. }),
        Run::Placed { .. } => false,
    };
    if again {
        vm.forgive();
        vm.run = over;
    }
    again
}

fn bounded(health: &HealthStatus) -> HealthStatus {
    match health {
        HealthStatus::Unhealthy { reason } => HealthStatus::Unhealthy { reason: cut(reason) },
        HealthStatus::Pending | HealthStatus::Healthy => health.clone(),
    }
}

fn cut(reason: &str) -> String {
    cut_reason(reason).to_owned()
}
