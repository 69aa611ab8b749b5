//! The stage of a vm at each point of its life.

use blixard_types::Epoch;

use super::*;
use crate::command::{Command, Outcome};
use crate::fixture::{
    Cluster, definition, delete, deploy, desired, failed, place, report, running, spec, starting, vm,
};
use crate::ports::UnixMillis;
use crate::schedule::plan;
use crate::state::{Desired, VmReport};

fn unhealthy() -> HealthStatus {
    HealthStatus::Unhealthy { reason: "no answer".to_owned() }
}

/// After `before`, a deployment gives `web` generation 2; after these commands it is at this stage.
#[track_caller]
fn check(before: &[Command], after: &[Command], expected: &Stage, ends: bool, good: bool) {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "a", spec(100));
    for command in before {
        cluster.ok(command.clone());
    }
    let Outcome::Deployed { vms, .. } = cluster.deploy("web", "b", spec(100)) else { panic!() };
    for command in after {
        cluster.ok(command.clone());
    }
    let waiting = plan(&cluster.state, UnixMillis(0)).waiting;
    let reached = stages(&cluster.state, &vms, &waiting);
    assert_eq!(reached, [(vm("web"), expected.clone())]);
    assert_eq!((expected.is_final(), expected.is_good()), (ends, good), "{expected:?}");
}

#[test]
fn a_vm_that_was_not_placed_goes_through_every_stage() {
    let node = NodeId(1);
    let placed = place("web", 1, 1);
    let said = |said| [place("web", 1, 1), report(1, "web", 1, said)];
    check(&[], &[], &Stage::Placing(None), false, false);
    check(&[], &[placed], &Stage::Starting(node), false, false);
    check(&[], &said(starting(2)), &Stage::Starting(node), false, false);
    check(&[], &said(running(2, HealthStatus::Pending)), &Stage::Checking(node), false, false);
    check(&[], &said(running(2, HealthStatus::Healthy)), &Stage::Healthy(node), true, true);
    check(&[], &said(running(2, unhealthy())), &Stage::Failed("no answer".into()), true, false);
    check(&[], &said(failed(2, "boom")), &Stage::Failed("boom".into()), true, false);
    check(&[], &said(VmReport::Stopped), &Stage::Placing(None), false, false);
}

#[test]
fn what_is_said_of_the_generation_before_is_not_taken_for_the_new_one() {
    let node = NodeId(1);
    let was = |said| [place("web", 1, 1), report(1, "web", 1, said)];
    for old in [running(1, HealthStatus::Healthy), running(1, unhealthy()), starting(1)] {
        check(&was(old.clone()), &[], &Stage::Starting(node), false, false);
        check(&[], &was(old), &Stage::Starting(node), false, false);
    }
    let ready = |trouble: Option<&str>| {
        let trouble = trouble.map(str::to_owned);
        report(1, "web", 1, VmReport::Preparing { generation: GenerationNumber(2), trouble })
    };
    let runs = was(running(1, HealthStatus::Healthy));
    check(&runs, &[ready(None)], &Stage::Fetching(node), false, false);
    let told = "generation 1 runs on: n2 is away; its host goes on trying".to_owned();
    check(&runs, &[ready(None), ready(Some("n2 is away"))], &Stage::Failed(told), true, false);
    let tried = [ready(Some("n2 is away")), report(1, "web", 1, starting(2))];
    check(&runs, &tried, &Stage::Starting(node), false, false);
    check(&was(failed(1, "boom")), &[], &Stage::Placing(None), false, false);
    check(&[], &was(failed(1, "boom")), &Stage::Placing(None), false, false);
}

#[test]
fn a_vm_that_someone_has_stopped_keeps_no_deployment_waiting() {
    let stop = || desired("web", Desired::Stopped);
    check(&[stop()], &[], &Stage::Stopped, true, true);
    check(&[], &[place("web", 1, 1), stop()], &Stage::Stopped, true, true);
}

#[test]
fn another_deployment_or_a_deletion_supersedes() {
    let newer = deploy(vec![definition("web", "c", spec(100))]);
    check(&[], &[newer], &Stage::Superseded, true, false);
    check(&[], &[delete("web")], &Stage::Superseded, true, false);
    let again = deploy(vec![definition("web", "b", spec(100))]);
    check(&[], &[again], &Stage::Placing(None), false, false);
}

#[test]
fn a_vm_that_waits_says_what_for() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let Outcome::Deployed { vms, .. } = cluster.deploy("web", "a", spec(1001)) else { panic!() };
    let waiting = plan(&cluster.state, UnixMillis(0)).waiting;
    let stages = stages(&cluster.state, &vms, &waiting);
    assert_eq!(stages, [(vm("web"), Stage::Placing(waiting.get(&vm("web")).cloned()))]);
    assert!(matches!(stages[0].1, Stage::Placing(Some(WaitingOn::Host { .. }))));
    assert_eq!(cluster.vm("web").last_epoch, Epoch(0));
}
