//! Old generations, forgotten on request.

use super::Moment;
use crate::command::Outcome;
use crate::garbage::forgettable;
use crate::state::ClusterState;

impl ClusterState {
    pub(super) fn forget_generations(&mut self, keep: u64, moment: Moment) -> Outcome {
        let old = forgettable(self, usize::try_from(keep).unwrap_or(usize::MAX));
        if old.is_empty() {
            return Outcome::Unchanged;
        }
        for (vm, generation) in old {
            if let Some(vm) = self.vms.get_mut(&vm) {
                vm.generations.remove(&generation);
            }
        }
        self.drop_unused_specs();
        moment.changed()
    }
}
