//! New generations that do not become healthy, and the one before.

use blixard_types::spec::{Interface, InterfaceKind, VmKind, VolumeKind};
use blixard_types::{GenerationNumber, Spec};

use crate::command::{Command, Outcome, VmChange};
use crate::fixture::{
    Cluster, definition, deploy, desired, failed, place, report, restart, running, spec, vm, volume,
};
use crate::rollout::{Stage, stages};
use crate::schedule::FAILURES_MAX;
use crate::state::{Desired, EventKind, HealthStatus, VmReport};

fn unhealthy(generation: u64) -> VmReport {
    running(generation, HealthStatus::Unhealthy { reason: "no answer".to_owned() })
}

/// `web` has been healthy with the first of these specs, and then is to run the second.
fn upgraded(first: Spec, second: Spec) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "a", first);
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster.deploy("web", "b", second);
    cluster
}

fn target(cluster: &Cluster) -> u64 {
    cluster.vm("web").target.0
}

/// Whether the second generation is given up when it is not healthy in time.
#[track_caller]
fn check(first: Spec, second: Spec, between: impl FnOnce() -> Vec<Command>, returns: bool) {
    let mut cluster = upgraded(first, second);
    for command in between() {
        cluster.ok(command);
    }
    cluster.ok(report(1, "web", 1, unhealthy(2)));
    assert_eq!(target(&cluster), if returns { 1 } else { 2 });
    assert_eq!(cluster.vm("web").returned.is_some(), returns);
}

#[test]
fn a_generation_that_is_not_healthy_in_time_gives_way_to_the_one_before() {
    let mut cluster = upgraded(spec(100), spec(100));
    let Outcome::Deployed { vms, .. } = cluster.deploy("web", "c", spec(100)) else { panic!() };
    cluster.ok(report(1, "web", 1, running(3, HealthStatus::Pending)));
    assert_eq!(target(&cluster), 3);
    cluster.ok(report(1, "web", 1, unhealthy(3)));
    assert_eq!(target(&cluster), 1, "the second was never seen to be healthy");
    let event = cluster.state.events.iter().next_back().unwrap().kind.clone();
    let (from, to, reason) = (GenerationNumber(3), GenerationNumber(1), "no answer".to_owned());
    assert_eq!(event, EventKind::Returned { vm: vm("web"), from, to, reason });
    let [(_, Stage::Failed(told))] = &stages(&cluster.state, &vms, &[].into())[..] else { panic!() };
    assert_eq!(told, "generation 3 did not become healthy, so generation 1 is to run again: no answer");
    // What is still said of the one that is given up changes nothing.
    cluster.ok(report(1, "web", 1, unhealthy(3)));
    cluster.ok(report(1, "web", 1, failed(3, "boom")));
    assert_eq!((target(&cluster), cluster.vm("web").failures), (1, 0));
}

#[test]
fn one_that_cannot_be_started_does_so_once_it_would_wait_for_a_person() {
    let mut cluster = upgraded(spec(100), spec(100));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    for epoch in 2..2 + u64::from(FAILURES_MAX) {
        assert_eq!(target(&cluster), 2);
        cluster.ok(place("web", 1, epoch));
        cluster.ok(report(1, "web", epoch, failed(2, "boom")));
    }
    assert_eq!((target(&cluster), cluster.vm("web").failures), (1, 0), "and is tried at once");
}

#[test]
fn what_hindered_its_hosts_says_nothing_of_a_generation_however_often() {
    let mut cluster = upgraded(spec(100), spec(100));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    for epoch in 2..3 + u64::from(FAILURES_MAX) {
        cluster.ok(place("web", 1, epoch));
        let (generation, reason) = (GenerationNumber(2), "nobody has it".to_owned());
        cluster.ok(report(1, "web", epoch, VmReport::Hindered { generation, reason }));
        assert_eq!(target(&cluster), 2);
    }
}

#[test]
fn what_was_healthy_stays_whatever_becomes_of_it() {
    let healthy = || vec![report(1, "web", 1, running(2, HealthStatus::Healthy))];
    check(spec(100), spec(100), healthy, false);
    let mut cluster = upgraded(spec(100), spec(100));
    cluster.ok(report(1, "web", 1, unhealthy(2)));
    cluster.ok(report(1, "web", 1, unhealthy(1)));
    assert_eq!(target(&cluster), 1);
}

#[test]
fn the_first_generation_has_none_before() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    cluster.ok(report(1, "web", 1, unhealthy(1)));
    assert_eq!((target(&cluster), &cluster.vm("web").returned), (1, &None));
}

#[test]
fn who_does_not_want_it_or_cannot_have_it_keeps_the_new_one() {
    let new = |change: fn(&mut Spec)| {
        let mut new = spec(100);
        change(&mut new);
        new
    };
    check(spec(100), spec(100), Vec::new, true);
    check(spec(100), spec(100), || vec![restart("web")], true);
    check(spec(100), new(|spec| spec.update.rollback = false), Vec::new, false);
    check(spec(100), new(|spec| spec.kind = VmKind::Task), Vec::new, false);
    check(spec(100), new(|spec| spec.volumes = vec![volume("v", 5, VolumeKind::Ephemeral)]), Vec::new, false);
    check(spec(100), spec(100), || vec![desired("web", Desired::Stopped)], false);
    // Meanwhile others have what the one before had.
    let other = |node| vec![deploy(vec![definition("other", "o", spec(800))]), place("other", node, 1)];
    check(spec(500), spec(100), || other(1), false);
    check(spec(500), spec(100), || other(2), true);
    let tap = || {
        let (id, mac) = ("vm-web".to_owned(), "02:00:00:00:00:01".to_owned());
        let tap = Interface { kind: InterfaceKind::Tap, id, mac, bridge: None, multi_queue: false };
        let mut spec = spec(100);
        spec.interfaces = vec![tap];
        spec
    };
    let replaced = || report(1, "web", 1, running(2, HealthStatus::Pending));
    check(tap(), spec(100), || vec![replaced()], true);
    check(tap(), spec(100), || vec![replaced(), deploy(vec![definition("other", "o", tap())])], false);
}

#[test]
fn the_same_deployed_again_is_another_generation_and_another_chance() {
    let mut cluster = upgraded(spec(100), spec(100));
    cluster.ok(report(1, "web", 1, unhealthy(2)));
    let deployed = |outcome| {
        let Outcome::Deployed { vms, .. } = outcome else { panic!() };
        (vms[0].generation.0, vms[0].change)
    };
    assert_eq!(deployed(cluster.deploy("web", "a", spec(100))), (1, VmChange::Unchanged));
    assert_eq!(deployed(cluster.deploy("web", "b", spec(100))), (3, VmChange::Changed));
    assert_eq!(cluster.vm("web").returned, None);
    cluster.ok(report(1, "web", 1, running(3, HealthStatus::Healthy)));
    assert_eq!(target(&cluster), 3);
}
