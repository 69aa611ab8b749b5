//! How far a deployment has come, vm by vm.

use std::collections::BTreeMap;

use blixard_types::{GenerationNumber, NodeId, VmId};

use crate::command::DeployedVm;
use crate::schedule::WaitingOn;
use crate::state::{ClusterState, HealthStatus, Phase, Preparing, Run, Unplaced, Vm};

/// Where a vm of a deployment is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// On no host yet, with what it waits for, if that is known.
    Placing(Option<WaitingOn>),
    /// A host fetches its closure from other nodes.
    Fetching(NodeId),
    /// A host starts it, or replaces the generation before.
    Starting(NodeId),
    /// It runs and is not known to be healthy yet.
    Checking(NodeId),
    /// It runs and does what it is for.
    Healthy(NodeId),
    /// It is a task and runs: what comes of that is not the deployment's business.
    Runs(NodeId),
    /// It is a task and has run to its end.
    Succeeded,
    /// Someone has stopped it; a deployment does not change that.
    Stopped,
    /// It did not come up, or did not become healthy.
    Failed(String),
    /// Another deployment has given it another generation, or it was deleted.
    Superseded,
}

impl Stage {
    /// Whether the deployment waits no longer for this vm.
    pub fn is_final(&self) -> bool {
        match self {
            Self::Placing(_) | Self::Fetching(_) | Self::Starting(_) | Self::Checking(_) => false,
            Self::Healthy(_)
            | Self::Runs(_)
            | Self::Succeeded
            | Self::Stopped
            | Self::Failed(_)
            | Self::Superseded => true,
        }
    }

    /// Whether the vm is as its user wants it.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Healthy(_) | Self::Runs(_) | Self::Succeeded | Self::Stopped)
    }
}

/// Where each vm of a deployment is. `waiting` is the scheduler's last word.
#[must_use]
pub fn stages(
    state: &ClusterState,
    vms: &[DeployedVm],
    waiting: &BTreeMap<VmId, WaitingOn>,
) -> Vec<(VmId, Stage)> {
    let stage = |deployed: &DeployedVm| stage(state, &deployed.vm, deployed.generation, waiting);
    vms.iter().map(|deployed| (deployed.vm.clone(), stage(deployed))).collect()
}

/// Why a generation does not replace the one before yet.
#[must_use]
pub fn runs_on(vm: &Vm, reason: &str) -> String {
    let runs = vm
        .run
        .generation()
        .map(|generation| format!("generation {generation} runs on: "))
        .unwrap_or_default();
    format!("{runs}{reason}")
}

fn stage(
    state: &ClusterState,
    id: &VmId,
    wanted: GenerationNumber,
    waiting: &BTreeMap<VmId, WaitingOn>,
) -> Stage {
    let Some(vm) = state.vms.get(id) else {
        return Stage::Superseded;
    };
    if let Some(returned) = vm.returned.as_ref().filter(|returned| returned.from == wanted) {
        return Stage::Failed(returned.told(vm.target));
    }
    if vm.target != wanted {
        return Stage::Superseded;
    }
    if vm.is_done() {
        return Stage::Succeeded;
    }
    if !vm.wanted() {
        return Stage::Stopped;
    }
    match &vm.run {
        Run::Unplaced { why: Unplaced::Failed { reason, generation, .. } } if *generation == wanted => {
            Stage::Failed(reason.clone())
        }
        Run::Unplaced { .. } => Stage::Placing(waiting.get(id).cloned()),
        Run::Placed { node, phase: Phase::Running { generation, health }, .. } if *generation == wanted => {
            match health {
                HealthStatus::Pending => Stage::Checking(*node),
                HealthStatus::Healthy if state.is_task(vm) => Stage::Runs(*node),
                HealthStatus::Healthy => Stage::Healthy(*node),
                HealthStatus::Unhealthy { reason } => Stage::Failed(reason.clone()),
            }
        }
        Run::Placed { node, phase: Phase::Fetching { generation }, .. } if *generation == wanted => {
            Stage::Fetching(*node)
        }
        Run::Placed { node, .. } => match vm.preparing.as_ref().filter(|next| next.generation == wanted) {
            None => Stage::Starting(*node),
            Some(Preparing { trouble: None, .. }) => Stage::Fetching(*node),
            Some(Preparing { trouble: Some(reason), .. }) => {
                Stage::Failed(format!("{}; its host goes on trying", runs_on(vm, reason)))
            }
        },
    }
}

#[cfg(test)]
mod tests;
