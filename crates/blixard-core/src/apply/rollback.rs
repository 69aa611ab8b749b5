//! Back to the generation before, when the new one does not become healthy (docs/adr/0079-rollback.md).

use std::collections::BTreeMap;

use blixard_types::spec::VmKind;
use blixard_types::{GenerationNumber, Spec, VmId};

use super::Moment;
use super::fence::runs_next;
use crate::command::Outcome;
use crate::state::{ClusterState, EventKind, Generation, Proof, Returned, Vm};

impl ClusterState {
    /// The generation that a vm should run has had its chance, and lacks this. What comes of the report that says so, if
    /// that came to this without it.
    pub(super) fn give_up_target(
        &mut self,
        id: &VmId,
        reason: &str,
        without: Outcome,
        moment: Moment,
    ) -> Outcome {
        let Some((to, keeps)) = self.vms.get(id).and_then(|vm| self.way_back(id, vm)) else { return without };
        let Some(vm) = self.vms.get_mut(id) else { return without };
        runs_next(vm, keeps);
        let from = std::mem::replace(&mut vm.target, to);
        vm.preparing = None;
        vm.returned = Some(Returned { from, reason: reason.to_owned() });
        // What it did before, it can do again: its next try is a first one.
        vm.forgive();
        let (vm, reason) = (id.clone(), reason.to_owned());
        self.note(moment, EventKind::Returned { vm, from, to, reason });
        moment.changed()
    }

    /// The newest generation before that was healthy, if it can run now where the vm is, with the volumes that there
    /// are, and whether it is kept running in a partition.
    fn way_back(&self, id: &VmId, vm: &Vm) -> Option<(GenerationNumber, bool)> {
        let (tried, spec) = (vm.target_generation()?, self.target_spec(vm)?);
        if tried.proof == Proof::WasHealthy || !spec.update.rollback || !vm.wanted() {
            return None;
        }
        let was_healthy = |(_, one): &(&GenerationNumber, &Generation)| one.proof == Proof::WasHealthy;
        let (&to, before) = vm.generations.range(..vm.target).rev().find(was_healthy)?;
        let then = self.specs.get(&before.spec)?;
        // A task has no health that could be lacking; a volume does not shrink.
        let alike =
            spec.kind == VmKind::Service && then.kind == VmKind::Service && spec.volumes == then.volumes;
        let defined = BTreeMap::from([(id, then)]);
        let fits = alike && self.check_claims(&defined).is_ok() && self.check_growth(&defined).is_ok();
        fits.then(|| (to, Spec::keeps_in_partition(then)))
    }
}
