//! What happened, as watchers see it.

use blixard_core::state::{Admission, ClusterState, Event, EventKind, HealthStatus, Phase};
use blixard_types::{Epoch, NodeId, VmId, VolumeName};

use crate::v1;

/// An event as watchers see it.
#[must_use]
pub fn event_view(state: &ClusterState, event: &Event) -> v1::Event {
    let by = event.by.map(|by| by.named(state)).unwrap_or_default();
    v1::Event { by, ..what_happened(event) }
}

fn what_happened(event: &Event) -> v1::Event {
    let of = |kind: &str| v1::Event {
        revision: event.revision.0,
        at_ms: event.at.0,
        kind: kind.to_owned(),
        ..v1::Event::default()
    };
    let node = |kind: &str, node: NodeId| v1::Event { node: Some(node.0), ..of(kind) };
    let vm = |kind: &str, vm: &VmId| v1::Event { vm: vm.to_string(), ..of(kind) };
    let run = |kind: &str, id: &VmId, epoch: Epoch| v1::Event { epoch: Some(epoch.0), ..vm(kind, id) };
    match &event.kind {
        EventKind::NodeRegistered { node: id, name } => {
            v1::Event { detail: name.to_string(), ..node("node-registered", *id) }
        }
        EventKind::NodeLeaving { node: id, name } => {
            v1::Event { detail: name.to_string(), ..node("node-leaving", *id) }
        }
        EventKind::NodeRemoved { node: id, name } => {
            v1::Event { detail: name.to_string(), ..node("node-removed", *id) }
        }
        EventKind::TokenCreated { .. } => of("token-created"),
        EventKind::SessionOpened { node: id } => node("session-opened", *id),
        EventKind::GenerationAdded { vm: id, generation } => {
            v1::Event { generation: Some(generation.0), ..vm("generation-added", id) }
        }
        EventKind::Returned { vm: id, from, to, reason } => v1::Event {
            generation: Some(to.0),
            detail: format!("from {from}: {reason}"),
            ..vm("returned", id)
        },
        EventKind::DesiredSet { vm: id, desired } => {
            v1::Event { detail: format!("{desired:?}").to_lowercase(), ..vm("desired-set", id) }
        }
        EventKind::RestartRequested { vm: id } => vm("restart-requested", id),
        EventKind::MoveRequested { vm: id, node } => {
            v1::Event { node: Some(node.0), ..vm("move-requested", id) }
        }
        EventKind::Placed { vm: id, node, epoch } => {
            v1::Event { node: Some(node.0), ..run("placed", id, *epoch) }
        }
        EventKind::Rebuilt { vm: id, generation, node } => {
            v1::Event { generation: Some(generation.0), node: Some(node.0), ..vm("rebuilt", id) }
        }
        EventKind::Preparing { vm: id, epoch, generation, trouble } => v1::Event {
            generation: Some(generation.0),
            detail: trouble.clone().unwrap_or_default(),
            ..run("preparing", id, *epoch)
        },
        EventKind::PhaseReached { vm: id, epoch, phase } => {
            let (generation, detail) = phase_view(phase);
            v1::Event { generation, detail, ..run("phase-reached", id, *epoch) }
        }
        EventKind::Stopped { vm: id, epoch } => run("stopped", id, *epoch),
        EventKind::Succeeded { vm: id, epoch } => run("succeeded", id, *epoch),
        EventKind::Failed { vm: id, epoch, reason } => {
            v1::Event { detail: reason.clone(), ..run("failed", id, *epoch) }
        }
        EventKind::HostLost { vm: id, epoch } => run("host-lost", id, *epoch),
        EventKind::NodeDeclaredLost { node: id } => node("node-declared-lost", *id),
        EventKind::NodeLost { node: id } => node("node-lost", *id),
        EventKind::NodeBack { node: id } => node("node-back", *id),
        EventKind::NodeFenced { node: id } => node("node-fenced", *id),
        EventKind::AdmissionSet { node: id, admission } => {
            let detail = match admission {
                Admission::Open => "open".to_owned(),
                Admission::Cordoned => "cordoned".to_owned(),
                Admission::Draining { max_parallel, .. } => format!("draining, {max_parallel} at a time"),
            };
            v1::Event { detail, ..node("admission-set", *id) }
        }
        EventKind::LeaseTimesSet { times } => {
            v1::Event { detail: format!("{} ms", times.lease_ms), ..of("lease-times-set") }
        }
        EventKind::RebalanceBegun { moves } => {
            v1::Event { detail: format!("{moves} moves"), ..of("rebalance-begun") }
        }
        EventKind::RebalanceEnded => of("rebalance-ended"),
        EventKind::PreemptionSet { preemption } => {
            v1::Event { detail: format!("{preemption:?}").to_lowercase(), ..of("preemption-set") }
        }
        EventKind::Preempted { vm: id, by } => {
            v1::Event { detail: format!("for {by}"), ..vm("preempted", id) }
        }
        EventKind::IncarnationBegun { incarnation } => {
            v1::Event { detail: incarnation.to_string(), ..of("incarnation-begun") }
        }
        EventKind::DeletionRequested { vm: id } => vm("deletion-requested", id),
        EventKind::Deleted { vm: id } => vm("deleted", id),
        EventKind::VolumeDeletionRequested { vm: id, volume, node } => {
            of_volume(vm("volume-deletion-requested", id), volume, *node)
        }
        EventKind::VolumeDeleted { vm: id, volume, node } => {
            of_volume(vm("volume-deleted", id), volume, *node)
        }
        EventKind::VolumeForgotten { vm: id, volume, node } => {
            of_volume(vm("volume-forgotten", id), volume, *node)
        }
    }
}

fn of_volume(event: v1::Event, volume: &VolumeName, node: NodeId) -> v1::Event {
    v1::Event { node: Some(node.0), detail: volume.to_string(), ..event }
}

fn phase_view(phase: &Phase) -> (Option<u64>, String) {
    match phase {
        Phase::Assigned => (None, "assigned".to_owned()),
        Phase::Fetching { generation } => (Some(generation.0), "fetching".to_owned()),
        Phase::Starting { generation } => (Some(generation.0), "starting".to_owned()),
        Phase::Running { generation, health } => {
            let detail = match health {
                HealthStatus::Pending => "running".to_owned(),
                HealthStatus::Healthy => "healthy".to_owned(),
                HealthStatus::Unhealthy { reason } => format!("unhealthy: {reason}"),
            };
            (Some(generation.0), detail)
        }
    }
}
