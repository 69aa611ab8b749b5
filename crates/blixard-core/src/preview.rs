//! What a deployment would do, without doing it.
//!
//! Owns: how each vm would fare. Refuses to know: how it would be built. The rules are those of
//! [`crate::apply`] and [`crate::schedule`], run on a copy of the state: what they refuse is refused here.

use blixard_types::{ClosureRef, DeploymentId, GenerationNumber, NodeId, RequestId, Sha256Hash, VmId};

use crate::admission::AdmittedVm;
use crate::apply::Rejection;
use crate::command::{Command, Deploy, DeployedVm, Envelope, Outcome, TakeOver, VmChange, VmDefinition};
use crate::ports::UnixMillis;
use crate::schedule::{self, SchedulePlan, WaitingOn};
use crate::state::{ClusterState, Desired, Phase, Run, SourceId, Vm};

/// What a deployment would mean for one vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmPreview {
    /// The vm.
    pub vm: VmId,
    /// How it would differ from what is there.
    pub change: VmChange,
    /// The generation it should run now, if it is there.
    pub before: Option<GenerationNumber>,
    /// The generation it would then have to run.
    pub after: GenerationNumber,
    /// What would become of it.
    pub fate: Fate,
}

/// What would become of a vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It stays as it is on its host.
    Stays(NodeId),
    /// It is replaced by its new generation there.
    Restarts(NodeId),
    /// It is placed on this host.
    Placed(NodeId),
    /// It waits for a host.
    Waits(Option<WaitingOn>),
    /// It stays stopped, as somebody wants it.
    Stopped,
    /// It is a task that is done, and does not run again.
    Done,
}

/// What deploying these vms now would do.
///
/// A vm counts as unchanged if its runner's path and its spec are what they were.
///
/// # Errors
/// Whatever would refuse the deployment.
pub fn preview(
    state: &ClusterState,
    source: &SourceId,
    take_over: TakeOver,
    vms: Vec<AdmittedVm>,
    now: UnixMillis,
) -> Result<Vec<VmPreview>, Rejection> {
    // Ids that nothing else has: no call is made with them, and nothing of the copy is kept.
    let (request, deployment) = (RequestId([0xff; 16]), DeploymentId([0xff; 16]));
    let vms = vms.into_iter().map(|vm| definition(state, vm)).collect();
    let command =
        Command::Deploy(Deploy { deployment, source: source.clone(), take_over, vms, builder: None });
    let mut position = state.applied;
    position.index += 1;
    let mut after = state.clone();
    // What is only foreseen has not been built, and nobody has signed for it.
    after.nodes.values_mut().for_each(|node| node.key = None);
    let outcome = after.apply(&Envelope { request, at: now, by: None, command }, position)?;
    let deployed = match outcome {
        Outcome::Deployed { vms, .. } => vms,
        Outcome::Changed { .. } | Outcome::Unchanged | Outcome::Certified { .. } => Vec::new(),
    };
    let plan = schedule::plan(&after, now);
    Ok(deployed.into_iter().filter_map(|one| forecast(state, &after, &plan, one)).collect())
}

/// The closure of a runner that is not built is not known; that it is another one is enough.
fn definition(state: &ClusterState, vm: AdmittedVm) -> VmDefinition {
    let AdmittedVm { vm, drv, out, system, spec } = vm;
    let present = state.vms.get(&vm).and_then(Vm::target_generation).map(|generation| &generation.closure);
    let nothing = Sha256Hash([0; 32]);
    let closure = present.filter(|closure| closure.root == out).cloned().unwrap_or(ClosureRef {
        root: out,
        nar_hash: nothing,
        closure_digest: nothing,
        path_count: 0,
        nar_size: 0,
    });
    VmDefinition { vm, drv, system, closure, spec }
}

fn forecast(
    before: &ClusterState,
    after: &ClusterState,
    plan: &SchedulePlan,
    deployed: DeployedVm,
) -> Option<VmPreview> {
    let DeployedVm { vm: id, generation, change } = deployed;
    let vm = after.vms.get(&id)?;
    let placement = plan.placements.iter().find(|placement| placement.vm == id);
    let fate = match (&vm.run, placement) {
        _ if vm.desired == Desired::Stopped => Fate::Stopped,
        _ if vm.is_done() => Fate::Done,
        (Run::Placed { node, phase, .. }, _) => match phase {
            Phase::Running { generation: runs, .. } if *runs == generation => Fate::Stays(*node),
            Phase::Assigned | Phase::Fetching { .. } | Phase::Starting { .. }
                if change == VmChange::Unchanged =>
            {
                Fate::Stays(*node)
            }
            Phase::Assigned | Phase::Fetching { .. } | Phase::Starting { .. } | Phase::Running { .. } => {
                Fate::Restarts(*node)
            }
        },
        (Run::Unplaced { .. }, Some(placement)) => Fate::Placed(placement.node),
        (Run::Unplaced { .. }, None) => Fate::Waits(plan.waiting.get(&id).cloned()),
    };
    let present = before.vms.get(&id).map(|vm| vm.target);
    Some(VmPreview { vm: id, change, before: present, after: generation, fate })
}

#[cfg(test)]
mod tests;
