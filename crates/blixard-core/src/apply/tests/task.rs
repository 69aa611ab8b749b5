//! The life of a task: it runs to its end, once for each generation that goes well, more often where that does not.

use blixard_types::spec::{Restart, VmKind};
use blixard_types::{Epoch, GenerationNumber, NodeId, Spec};

use crate::apply::Rejection;
use crate::command::{Command, FenceCommand, Outcome};
use crate::drain::{self, Stays};
use crate::fixture::{Cluster, desired, failed, lost, place, report, restart, running, spec, vm};
use crate::ports::UnixMillis;
use crate::rollout::{Stage, stages};
use crate::schedule::{self, WaitingOn};
use crate::state::{Admission, Desired, HealthStatus, VmReport};

/// Three failures, with pauses of 2 s and 4 s.
fn task() -> Spec {
    let restart = Restart { delay_ms: 2000, burst: 3, within_ms: 60_000 };
    Spec { kind: VmKind::Task, restart, ..spec(100) }
}

fn succeeded(generation: u64) -> VmReport {
    VmReport::Succeeded { generation: GenerationNumber(generation) }
}

fn runs(cluster: &mut Cluster, epoch: u64, generation: u64) {
    cluster.ok(place("job", 1, epoch));
    cluster.ok(report(1, "job", epoch, running(generation, HealthStatus::Healthy)));
}

/// A task that has done its work.
fn done() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("job", "a", task());
    runs(&mut cluster, 1, 1);
    cluster.ok(report(1, "job", 1, succeeded(1)));
    cluster
}

fn planned(cluster: &Cluster, now: u64) -> Vec<Epoch> {
    let plan = schedule::plan(&cluster.state, UnixMillis(now));
    plan.placements.iter().map(|placement| placement.epoch).collect()
}

fn waits(cluster: &Cluster, now: u64) -> Option<WaitingOn> {
    schedule::plan(&cluster.state, UnixMillis(now)).waiting.remove(&vm("job"))
}

#[test]
fn a_task_that_has_succeeded_is_placed_no_more() {
    let mut cluster = done();
    assert_eq!((planned(&cluster, u64::MAX), waits(&cluster, 0)), (vec![], None));
    assert_eq!(cluster.apply(place("job", 2, 2)), Err(Rejection::NotWanted { vm: vm("job") }));
    // The same deployment again changes nothing of that, nor does the loss of its host.
    assert!(matches!(cluster.deploy("job", "a", task()), Outcome::Deployed { .. }));
    cluster.ok(lost(1));
    assert_eq!(planned(&cluster, u64::MAX), []);
}

#[test]
fn a_new_generation_and_whoever_starts_it_make_it_run_again() {
    let mut cluster = done();
    cluster.deploy("job", "b", task());
    assert_eq!(planned(&cluster, 0), [Epoch(2)]);
    for again in [desired("job", Desired::Running), restart("job")] {
        let mut cluster = done();
        assert!(matches!(cluster.ok(again.clone()), Outcome::Changed { .. }));
        assert_eq!(planned(&cluster, 0), [Epoch(2)]);
        assert_eq!(cluster.ok(again), Outcome::Unchanged, "it is about to run");
    }
}

#[test]
fn the_end_of_an_older_generation_is_not_that_of_the_newest() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("job", "a", task());
    runs(&mut cluster, 1, 1);
    cluster.deploy("job", "b", task());
    cluster.ok(report(1, "job", 1, succeeded(1)));
    assert_eq!(planned(&cluster, 0), [Epoch(2)]);
}

#[test]
fn a_task_whose_host_is_lost_runs_again_elsewhere_at_the_next_epoch() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("job", "a", task());
    runs(&mut cluster, 1, 1);
    cluster.ok(lost(1));
    let plan = schedule::plan(&cluster.state, UnixMillis(0));
    let [placement] = &plan.placements[..] else { panic!("{plan:?}") };
    assert_eq!((placement.node, placement.epoch), (NodeId(2), Epoch(2)));
    // What the old host says late is of an epoch that is over.
    let late = cluster.apply(report(1, "job", 1, succeeded(1)));
    assert!(late.is_err(), "{late:?}");
}

#[test]
fn a_task_that_fails_is_run_as_often_as_it_says_with_pauses_that_double() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.at = UnixMillis(1000);
    cluster.deploy("job", "a", task());
    for (epoch, until) in [(1, 3000), (2, 5000)] {
        // That it runs well for a while does not make it a first try.
        runs(&mut cluster, epoch, 1);
        cluster.ok(report(1, "job", epoch, failed(1, "panic")));
        let waiting =
            WaitingOn::Backoff { failures: u32::try_from(epoch).unwrap(), until: UnixMillis(until) };
        assert_eq!((planned(&cluster, until - 1), waits(&cluster, until - 1)), (vec![], Some(waiting)));
        assert_eq!(planned(&cluster, until), [Epoch(epoch + 1)]);
    }
    runs(&mut cluster, 3, 1);
    cluster.ok(report(1, "job", 3, failed(1, "panic")));
    assert_eq!(waits(&cluster, u64::MAX), Some(WaitingOn::Operator { failures: 3 }));
    cluster.ok(desired("job", Desired::Running));
    assert_eq!(planned(&cluster, 0), [Epoch(4)]);
}

#[test]
fn a_restart_that_was_asked_for_comes_after_the_end_too_and_a_move_does_not() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("job", "a", task());
    runs(&mut cluster, 1, 1);
    cluster.ok(restart("job"));
    cluster.ok(report(1, "job", 1, succeeded(1)));
    assert_eq!(planned(&cluster, 0), [Epoch(2)]);
    runs(&mut cluster, 2, 1);
    let admission = Admission::Draining { max_parallel: 1, deadline: Some(UnixMillis(10)) };
    cluster.ok(Command::Fence(FenceCommand::SetAdmission { node: NodeId(1), admission }));
    cluster.ok(Command::MoveVm { vm: vm("job"), epoch: Epoch(2) });
    cluster.ok(report(1, "job", 2, succeeded(1)));
    assert_eq!(planned(&cluster, u64::MAX), []);
}

#[test]
fn a_drain_lets_a_task_run_to_its_end_until_its_deadline() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("job", "a", task());
    runs(&mut cluster, 1, 1);
    let admission = Admission::Draining { max_parallel: 1, deadline: Some(UnixMillis(5000)) };
    cluster.ok(Command::Fence(FenceCommand::SetAdmission { node: NodeId(1), admission }));
    let before = drain::plan(&cluster.state, UnixMillis(0));
    assert_eq!((before.moves, before.staying), (vec![], [(vm("job"), Stays::Task)].into()));
    assert_eq!(drain::plan(&cluster.state, UnixMillis(5000)).moves, [(vm("job"), Epoch(1))]);
    cluster.ok(report(1, "job", 1, succeeded(1)));
    assert_eq!(drain::plan(&cluster.state, UnixMillis(5000)).moves, []);
}

#[test]
fn a_deployment_waits_until_a_task_runs_and_not_for_its_end() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let Outcome::Deployed { vms, .. } = cluster.deploy("job", "a", task()) else { panic!() };
    let mut reached = Vec::new();
    cluster.ok(place("job", 1, 1));
    for said in [running(1, HealthStatus::Pending), running(1, HealthStatus::Healthy), succeeded(1)] {
        cluster.ok(report(1, "job", 1, said));
        let stage = stages(&cluster.state, &vms, &[].into()).remove(0).1;
        reached.push((stage.is_final(), stage.is_good(), stage));
    }
    let node = NodeId(1);
    let expected = [
        (false, false, Stage::Checking(node)),
        (true, true, Stage::Runs(node)),
        (true, true, Stage::Succeeded),
    ];
    assert_eq!(reached, expected);
}
