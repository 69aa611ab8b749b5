//! Vms as clients see them.

use blixard_core::rollout::runs_on;
use blixard_core::schedule::WaitingOn;
use blixard_core::schedule::explain::{Explanation, Verdict};
use blixard_core::state::{
    ClusterState, Deletion, Desired, Generation, HealthStatus, Phase, Run, Unplaced, Vm,
};
use blixard_types::{GenerationNumber, NodeId, VmId};

use super::event::event_view;
use super::{ConvertError, closure_to, spec_to};
use crate::v1::{self, VmStatus};

/// What is wanted of a vm.
///
/// # Errors
/// When the number means nothing.
pub fn desired(number: i32) -> Result<Desired, ConvertError> {
    match v1::Desired::try_from(number) {
        Ok(v1::Desired::Running) => Ok(Desired::Running),
        Ok(v1::Desired::Stopped) => Ok(Desired::Stopped),
        Ok(v1::Desired::Unspecified) | Err(_) => {
            Err(ConvertError::of("desired", &format!("unknown value {number}")))
        }
    }
}

pub(crate) fn desired_to(desired: Desired) -> v1::Desired {
    match desired {
        Desired::Running => v1::Desired::Running,
        Desired::Stopped => v1::Desired::Stopped,
    }
}

/// A vm as clients see it. `waiting` is the scheduler's last word on it.
///
/// # Errors
/// When its spec cannot be written as JSON, which does not happen for one that was parsed.
pub fn vm_view(
    state: &ClusterState,
    id: &VmId,
    vm: &Vm,
    waiting: Option<&WaitingOn>,
) -> Result<v1::Vm, ConvertError> {
    let (status, reason) = status(state, vm, waiting);
    let node = vm.run.host().or(vm.last_host).and_then(|id| state.nodes.get(&id));
    Ok(v1::Vm {
        vm: id.to_string(),
        status: status.into(),
        desired: desired_to(vm.desired).into(),
        node: node.map(|node| node.name.to_string()).unwrap_or_default(),
        epoch: vm.last_epoch.0,
        generation: vm.target.0,
        running_generation: running_generation(vm).map(|generation| generation.0),
        reason,
        source: vm.source.to_string(),
        generations: vm.generations.iter().map(|one| generation_view(state, one)).collect(),
        spec: state.target_spec(vm).map(spec_to).transpose()?.unwrap_or_default(),
        failures: vm.failures,
        wishes: vm.wishes,
    })
}

/// Why a vm is where it is, as clients see it.
#[must_use]
pub fn explanation_view(
    state: &ClusterState,
    id: &VmId,
    vm: &Vm,
    explanation: &Explanation,
) -> v1::ExplainVmResponse {
    let name = |node: Option<NodeId>| {
        node.and_then(|node| state.nodes.get(&node)).map(|node| node.name.to_string()).unwrap_or_default()
    };
    let waiting = explanation.waiting.as_ref();
    v1::ExplainVmResponse {
        vm: id.to_string(),
        status: status(state, vm, waiting).0.into(),
        node: name(explanation.host),
        waiting_on: waiting.map(ToString::to_string).unwrap_or_default(),
        best: name(explanation.best),
        verdicts: explanation.verdicts.iter().map(verdict_view).collect(),
        revision: state.applied.revision().0,
        asked: state.events.last_asked(id).map(|event| event_view(state, event)),
    }
}

fn verdict_view(verdict: &Verdict) -> v1::NodeVerdict {
    use v1::node_verdict::{Merit, Verdict as Shown};
    let shown = match &verdict.result {
        Err(reason) => Shown::Refusal(reason.to_string()),
        Ok(merit) => Shown::Merit(Merit {
            points: merit.points.total(),
            affinity: merit.points.affinity,
            anti_affinity: merit.points.anti_affinity,
            history: merit.points.history,
            free_memory_mib: merit.free_mib,
        }),
    };
    v1::NodeVerdict { node: verdict.node.0, name: verdict.name.to_string(), verdict: Some(shown) }
}

fn generation_view(
    state: &ClusterState,
    (number, generation): (&GenerationNumber, &Generation),
) -> v1::Generation {
    v1::Generation {
        number: number.0,
        closure: Some(closure_to(&generation.closure)),
        drv: generation.drv.to_string(),
        deployment_id: generation.deployment.to_string(),
        at_ms: generation.at.0,
        by: generation.by.map(|by| by.named(state)).unwrap_or_default(),
    }
}

/// What a host that lacks all of it has to fetch.
fn closure_size(generation: &Generation) -> String {
    let closure = &generation.closure;
    let mib = closure.nar_size.div_ceil(1 << 20);
    format!("a closure of {} paths, {mib} MiB", closure.path_count)
}

fn running_generation(vm: &Vm) -> Option<GenerationNumber> {
    match &vm.run {
        Run::Placed { phase: Phase::Running { generation, .. }, .. } => Some(*generation),
        _ => None,
    }
}

/// The target is made ready, or takes over.
fn replaced(vm: &Vm) -> (VmStatus, String) {
    let Some(next) = vm.preparing.as_ref().filter(|next| next.generation == vm.target) else {
        return (VmStatus::Starting, String::new());
    };
    let size = || vm.target_generation().map(closure_size).unwrap_or_default();
    (VmStatus::Fetching, runs_on(vm, &next.trouble.clone().unwrap_or_else(size)))
}

fn status(state: &ClusterState, vm: &Vm, waiting: Option<&WaitingOn>) -> (VmStatus, String) {
    let nothing = String::new();
    if vm.deletion == Deletion::Requested {
        return (VmStatus::Deleting, nothing);
    }
    let wanted = vm.desired == Desired::Running;
    match &vm.run {
        Run::Placed { .. } if !vm.wanted_there() => {
            let by = vm.preempted_by.as_ref();
            let why = by.map(|by| format!("it makes room for {by}, which has a higher priority"));
            (VmStatus::Stopping, why.unwrap_or_default())
        }
        Run::Placed { phase: Phase::Fetching { generation }, .. } => {
            (VmStatus::Fetching, vm.generations.get(generation).map(closure_size).unwrap_or_default())
        }
        Run::Placed { phase: Phase::Assigned | Phase::Starting { .. }, .. } => (VmStatus::Starting, nothing),
        Run::Placed { phase: Phase::Running { generation, health }, .. } => match health {
            // The old generation runs still: it is about to be replaced.
            _ if *generation != vm.target => replaced(vm),
            HealthStatus::Pending => (VmStatus::Running, nothing),
            HealthStatus::Healthy if state.is_task(vm) => (VmStatus::Running, nothing),
            HealthStatus::Healthy => {
                let returned = vm.returned.as_ref().map(|returned| returned.told(vm.target));
                (VmStatus::Healthy, returned.unwrap_or_default())
            }
            HealthStatus::Unhealthy { reason } => (VmStatus::Unhealthy, reason.clone()),
        },
        Run::Unplaced { .. } if !wanted => (VmStatus::Stopped, nothing),
        Run::Unplaced { .. } if vm.is_done() => (VmStatus::Succeeded, nothing),
        Run::Unplaced { why: Unplaced::Failed { reason, .. } } => {
            let next = waiting.map(|waiting| format!("{waiting}: ")).unwrap_or_default();
            (VmStatus::Failed, next + reason)
        }
        Run::Unplaced { .. } => (VmStatus::Pending, waiting.map(ToString::to_string).unwrap_or_default()),
    }
}
