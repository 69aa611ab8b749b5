//! A restart: the placement ends, and the next one follows.

use blixard_types::{Epoch, NodeId};

use crate::apply::Rejection;
use crate::assignment::{Intent, assignments_of};
use crate::command::Outcome;
use crate::fixture::{Cluster, delete, desired, failed, place, report, restart, running, spec, vm};
use crate::ports::UnixMillis;
use crate::schedule;
use crate::state::{Desired, HealthStatus, InPartition, Restart, VmReport};

fn healthy_web() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "a", spec(600));
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster
}

fn intent(cluster: &Cluster) -> Intent {
    assignments_of(&cluster.state, NodeId(1)).assignments[&vm("web")].intent.clone()
}

fn planned(cluster: &Cluster) -> Vec<Epoch> {
    let plan = schedule::plan(&cluster.state, UnixMillis(0));
    plan.placements.iter().map(|placement| placement.epoch).collect()
}

#[test]
fn a_restart_stops_the_run_that_is_there_and_places_the_vm_anew() {
    let mut cluster = healthy_web();
    assert!(matches!(cluster.ok(restart("web")), Outcome::Changed { .. }));
    assert_eq!(cluster.ok(restart("web")), Outcome::Unchanged);
    assert_eq!(intent(&cluster), Intent::Stop);
    assert_eq!(planned(&cluster), []);
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    assert_eq!(planned(&cluster), [Epoch(2)]);
    cluster.ok(place("web", 1, 2));
    assert!(matches!(intent(&cluster), Intent::Run(_)));
}

#[test]
fn a_vm_that_fails_while_it_is_to_be_restarted_is_placed_without_a_pause() {
    let mut cluster = healthy_web();
    cluster.ok(restart("web"));
    cluster.ok(report(1, "web", 1, failed(1, "boom")));
    assert_eq!(planned(&cluster), [Epoch(2)]);
}

#[test]
fn a_restart_of_a_vm_that_has_failed_is_another_try() {
    let mut cluster = healthy_web();
    cluster.ok(report(1, "web", 1, failed(1, "boom")));
    assert_eq!(planned(&cluster), []);
    assert!(matches!(cluster.ok(restart("web")), Outcome::Changed { .. }));
    assert_eq!(planned(&cluster), [Epoch(2)]);
    assert_eq!(cluster.ok(restart("web")), Outcome::Unchanged, "it is about to be placed");
}

#[test]
fn a_stop_takes_a_restart_back() {
    let mut cluster = healthy_web();
    cluster.ok(restart("web"));
    cluster.ok(desired("web", Desired::Stopped));
    assert_eq!(cluster.vm("web").restart, Restart::No);
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    assert_eq!(planned(&cluster), []);
}

#[test]
fn what_is_stopped_going_or_unknown_is_not_restarted() {
    let mut cluster = healthy_web();
    cluster.ok(desired("web", Desired::Stopped));
    assert_eq!(cluster.apply(restart("web")), Err(Rejection::IsStopped { vm: vm("web") }));
    cluster.ok(delete("web"));
    assert_eq!(cluster.apply(restart("web")), Err(Rejection::BeingDeleted { vm: vm("web") }));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    assert_eq!(cluster.apply(restart("web")), Err(Rejection::UnknownVm { vm: vm("web") }));
}

#[test]
fn another_word_on_what_a_cut_off_host_may_do_takes_a_new_placement() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut kept = spec(100);
    kept.placement.on_partition = blixard_types::spec::OnPartition::Keep;
    for (before, after, then) in
        [(spec(100), kept.clone(), InPartition::MayRun), (kept, spec(100), InPartition::Stops)]
    {
        cluster.deploy("web", "a", before);
        let epoch = cluster.vm("web").last_epoch.0 + 1;
        if cluster.vm("web").run.host().is_none() {
            cluster.ok(place("web", 1, epoch));
        }
        cluster.deploy("web", "b", after);
        let vm = cluster.vm("web");
        assert_eq!((vm.in_partition, vm.restart), (InPartition::Either, Restart::Requested));
        let epoch = vm.last_epoch.0;
        cluster.ok(report(1, "web", epoch, VmReport::Stopped));
        cluster.ok(place("web", 1, epoch + 1));
        assert_eq!(cluster.vm("web").in_partition, then);
    }
}
