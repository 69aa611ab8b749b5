//! Deployments as clients see them.

use std::collections::BTreeSet;

use blixard_core::command::{DeployedVm, VmChange};
use blixard_core::ports::nix::LockedSource;
use blixard_core::ports::sources::ContentSource;
use blixard_core::preview::{Fate, VmPreview};
use blixard_core::rollout::Stage;
use blixard_core::state::ClusterState;
use blixard_types::{DeploymentId, NodeId, VmId};

use super::{ConvertError, store_path};
use crate::v1::{self, deploy_event};

/// The flake that a client has locked.
///
/// # Errors
/// When a field is missing or malformed.
pub fn locked_source(source: &v1::FlakeSource) -> Result<LockedSource, ConvertError> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.chars().any(char::is_control);
    if !source.subdir.is_empty() && !source.subdir.split('/').all(plain) {
        return Err(ConvertError::of("source.subdir", "must be a folder within the source"));
    }
    let hex =
        |rev: &String| (40..=64).contains(&rev.len()) && rev.bytes().all(|byte| byte.is_ascii_hexdigit());
    if source.rev.as_ref().is_some_and(|rev| !hex(rev)) {
        return Err(ConvertError::of("source.rev", "must be a commit hash"));
    }
    Ok(LockedSource {
        path: store_path("source.path", &source.path)?,
        nar_hash: source.nar_hash.parse().map_err(|error| ConvertError::of("source.nar_hash", &error))?,
        rev: source.rev.clone(),
        rev_count: source.rev_count,
        last_modified: source.last_modified,
        subdir: source.subdir.clone(),
        lock: source.lock.as_ref().map(|lock| store_path("source.lock", lock)).transpose()?,
    })
}

/// A source that a client offers.
///
/// # Errors
/// When its path is not the one that its hash gives.
pub fn offered_source(source: &v1::OfferedSource) -> Result<ContentSource, ConvertError> {
    let path = store_path("offer.path", &source.path)?;
    let hash = source.nar_hash.parse().map_err(|error| ConvertError::of("offer.nar_hash", &error))?;
    ContentSource::new(path, hash).map_err(|error| ConvertError::of("offer.path", &error))
}

/// Says what a deployment would do. `builds` says which vms' runners the store lacks.
#[must_use]
pub fn planned(state: &ClusterState, vms: &[VmPreview], builds: &BTreeSet<VmId>) -> v1::DeployEvent {
    let name = |id: &NodeId| state.nodes.get(id).map(|node| node.name.to_string()).unwrap_or_default();
    let vm = |vm: &VmPreview| {
        let (fate, node, detail) = match &vm.fate {
            Fate::Stays(node) => (v1::Fate::Stays, name(node), String::new()),
            Fate::Restarts(node) => (v1::Fate::Restarts, name(node), String::new()),
            Fate::Placed(node) => (v1::Fate::Placed, name(node), String::new()),
            Fate::Waits(waiting) => (
                v1::Fate::Waits,
                String::new(),
                waiting.as_ref().map(ToString::to_string).unwrap_or_default(),
            ),
            Fate::Stopped => (v1::Fate::Stopped, String::new(), String::new()),
            Fate::Done => (v1::Fate::Done, String::new(), String::new()),
        };
        v1::PlannedVm {
            vm: vm.vm.to_string(),
            change: change(vm.change).into(),
            generation_before: vm.before.map(|number| number.0),
            generation: vm.after.0,
            builds: builds.contains(&vm.vm),
            fate: fate.into(),
            node,
            detail,
        }
    };
    let planned = deploy_event::Planned { vms: vms.iter().map(vm).collect() };
    v1::DeployEvent { event: Some(deploy_event::Event::Planned(planned)) }
}

fn change(change: VmChange) -> v1::VmChange {
    match change {
        VmChange::Added => v1::VmChange::Added,
        VmChange::Changed => v1::VmChange::Changed,
        VmChange::Unchanged => v1::VmChange::Unchanged,
    }
}

/// Says that a deployment is in the state.
#[must_use]
pub fn accepted(deployment: DeploymentId, vms: &[DeployedVm]) -> v1::DeployEvent {
    let vm = |vm: &DeployedVm| v1::DeployedVm {
        vm: vm.vm.to_string(),
        generation: vm.generation.0,
        change: change(vm.change).into(),
    };
    let accepted =
        deploy_event::Accepted { deployment_id: deployment.to_string(), vms: vms.iter().map(vm).collect() };
    v1::DeployEvent { event: Some(deploy_event::Event::Accepted(accepted)) }
}

/// Says where a vm of a deployment is.
#[must_use]
pub fn stage_reached(state: &ClusterState, vm: &VmId, stage: &Stage) -> v1::DeployEvent {
    let name = |id: &NodeId| state.nodes.get(id).map(|node| node.name.to_string()).unwrap_or_default();
    let (kind, node, detail) = match stage {
        Stage::Placing(waiting) => {
            (v1::Stage::Placing, String::new(), waiting.as_ref().map(ToString::to_string).unwrap_or_default())
        }
        Stage::Fetching(node) => (v1::Stage::Fetching, name(node), String::new()),
        Stage::Starting(node) => (v1::Stage::Starting, name(node), String::new()),
        Stage::Checking(node) => (v1::Stage::Checking, name(node), String::new()),
        Stage::Healthy(node) => (v1::Stage::Healthy, name(node), String::new()),
        Stage::Runs(node) => (v1::Stage::Runs, name(node), String::new()),
        Stage::Succeeded => (v1::Stage::Succeeded, String::new(), String::new()),
        Stage::Stopped => (v1::Stage::Stopped, String::new(), String::new()),
        Stage::Failed(reason) => (v1::Stage::Failed, String::new(), reason.clone()),
        Stage::Superseded => (v1::Stage::Superseded, String::new(), String::new()),
    };
    let reached = deploy_event::StageReached { vm: vm.to_string(), stage: kind.into(), node, detail };
    v1::DeployEvent { event: Some(deploy_event::Event::Stage(reached)) }
}
