//! Tells how the vms of a deployment come up, until each is final.

use std::collections::BTreeMap;
use std::time::Duration;

use blixard_core::command::DeployedVm;
use blixard_core::ports::{BootMillis, UnixMillis};
use blixard_core::rollout::{Stage, stages};
use blixard_core::schedule;
use blixard_proto::v1::DeployEvent;
use blixard_proto::v1::deploy_event::{Event, Finished};
use blixard_types::VmId;
use tonic::Status;

use super::{Events, send, tell};
use crate::Server;

/// How long a vm may wait for a host before the deployment is reported as failed. It stays in the
/// state and is placed when there is room; the caller only stops waiting.
const PLACEMENT_PATIENCE_MS: u64 = 10_000;

/// How often patience is looked at when nothing changes.
const LOOK_EVERY: Duration = Duration::from_secs(1);

pub(super) async fn follow(server: &Server, vms: &[DeployedVm], events: &Events) -> Result<(), Status> {
    let mut changes = server.replica.changes();
    let mut told: BTreeMap<VmId, Stage> = BTreeMap::new();
    let mut unplaced_since: BTreeMap<VmId, BootMillis> = BTreeMap::new();
    loop {
        changes.mark_unchanged();
        let now = (server.clock.wall(), server.clock.boot());
        let stages = current(server, vms, now, &mut unplaced_since);
        for (vm, stage, event) in &stages {
            if told.get(vm) != Some(stage) {
                send(events, event.clone()).await;
                told.insert(vm.clone(), stage.clone());
            }
        }
        if stages.iter().all(|(_, stage, _)| stage.is_final()) {
            let good = stages.iter().all(|(_, stage, _)| stage.is_good());
            tell(events, Event::Finished(Finished { good })).await;
            return Ok(());
        }
        if let Ok(Err(_)) = tokio::time::timeout(LOOK_EVERY, changes.changed()).await {
            return Err(Status::unavailable("this server has stopped"));
        }
    }
}

fn current(
    server: &Server,
    vms: &[DeployedVm],
    (wall, now): (UnixMillis, BootMillis),
    unplaced_since: &mut BTreeMap<VmId, BootMillis>,
) -> Vec<(VmId, Stage, DeployEvent)> {
    server.replica.read(|state| {
        let waiting = schedule::plan(state, wall).waiting;
        let stages = stages(state, vms, &waiting);
        let mut told = Vec::with_capacity(stages.len());
        for (vm, stage) in stages {
            let stage = patient(&vm, stage, now, unplaced_since);
            let event = blixard_proto::stage_reached(state, &vm, &stage);
            told.push((vm, stage, event));
        }
        told
    })
}

/// A vm that waits for a host has failed to come up once patience is over.
fn patient(
    vm: &VmId,
    stage: Stage,
    now: BootMillis,
    unplaced_since: &mut BTreeMap<VmId, BootMillis>,
) -> Stage {
    let Stage::Placing(waiting) = stage else {
        unplaced_since.remove(vm);
        return stage;
    };
    let since = *unplaced_since.entry(vm.clone()).or_insert(now);
    match waiting {
        Some(waiting) if now.since(since) >= PLACEMENT_PATIENCE_MS => Stage::Failed(waiting.to_string()),
        waiting => Stage::Placing(waiting),
    }
}
