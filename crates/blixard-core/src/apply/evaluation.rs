//! Remembering evaluations.

use super::Moment;
use crate::command::{Outcome, RememberEvaluation};
use crate::state::{ClusterState, Evaluation};

impl ClusterState {
    /// Remembers an evaluation, if the state still has its specs: they come with the deployment that was
    /// made of it, and a vm may have been deleted since.
    pub(super) fn remember_evaluation(&mut self, remember: &RememberEvaluation, moment: Moment) -> Outcome {
        let mut bytes = 0;
        for vm in &remember.vms {
            let spec = self.specs.get(&vm.spec).and_then(|spec| spec.to_canonical_json().ok());
            let Some(spec) = spec else { return Outcome::Unchanged };
            bytes += vm.bytes(spec.len());
        }
        let evaluation = Evaluation { vms: remember.vms.clone(), bytes };
        if !self.evaluations.remember(remember.key, evaluation) {
            return Outcome::Unchanged;
        }
        self.drop_unused_specs();
        moment.changed()
    }
}
