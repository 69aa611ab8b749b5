//! Placed, reported on, stopped, deleted.

use blixard_types::{Epoch, GenerationNumber, NodeId, RequestId};

use super::scene;
use crate::apply::Rejection;
use crate::command::{Command, Envelope, Outcome};
use crate::fixture::{Cluster, delete, desired, failed, place, report, running, session, spec, starting, vm};
use crate::ports::UnixMillis;
use crate::state::{ClusterState, Desired, EventKind, HealthStatus, Phase, Run, Unplaced, VmReport};

fn web_on_host_1() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "a", spec(600));
    cluster.ok(place("web", 1, 1));
    cluster
}

fn unplaced(why: Unplaced) -> Run {
    Run::Unplaced { why }
}

#[test]
fn a_placement_goes_through_its_phases() {
    let mut cluster = web_on_host_1();
    let generation = GenerationNumber(1);
    let unhealthy = HealthStatus::Unhealthy { reason: "no answer".to_owned() };
    for (said, reached) in [
        (None, Phase::Assigned),
        (Some(starting(1)), Phase::Starting { generation }),
        (
            Some(running(1, HealthStatus::Pending)),
            Phase::Running { generation, health: HealthStatus::Pending },
        ),
        (Some(running(1, unhealthy.clone())), Phase::Running { generation, health: unhealthy.clone() }),
        (
            Some(running(1, HealthStatus::Healthy)),
            Phase::Running { generation, health: HealthStatus::Healthy },
        ),
    ] {
        if let Some(said) = said {
            assert!(matches!(cluster.ok(report(1, "web", 1, said.clone())), Outcome::Changed { .. }));
            assert_eq!(cluster.ok(report(1, "web", 1, said)), Outcome::Unchanged);
        }
        let placed = Run::Placed { node: NodeId(1), epoch: Epoch(1), phase: reached };
        assert_eq!(cluster.vm("web").run, placed);
    }
}

#[test]
fn a_report_that_a_newer_one_has_overtaken_undoes_nothing() {
    let mut cluster = web_on_host_1();
    let (late, newer) =
        (report(1, "web", 1, starting(1)), report(1, "web", 1, running(1, HealthStatus::Healthy)));
    cluster.ok(newer.clone());
    let before = cluster.vm("web").clone();
    for overtaken in [late, newer] {
        assert_eq!(cluster.apply(overtaken), Err(Rejection::Overtaken { vm: vm("web") }));
    }
    assert_eq!(*cluster.vm("web"), before);
}

#[test]
fn a_new_daemon_counts_its_reports_from_one() {
    let mut cluster = web_on_host_1();
    cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
    let facts = cluster.state.nodes[&NodeId(1)].session.as_ref().unwrap().facts.clone();
    cluster.ok(session(1, 2, facts));
    assert_eq!(cluster.vm("web").heard, 0);
}

#[test]
fn an_end_is_for_good_and_the_next_placement_may_be_elsewhere() {
    for end in [VmReport::Stopped, failed(1, "exit-code")] {
        let mut cluster = web_on_host_1();
        cluster.ok(report(1, "web", 1, end.clone()));
        assert_eq!(cluster.vm("web").run.host(), None);
        let other = |node, epoch| {
            let (vm, node, epoch) = (vm("web"), NodeId(node), Epoch(epoch));
            Err(Rejection::OtherEpoch { vm, node, epoch })
        };
        for late in [starting(1), running(1, HealthStatus::Healthy), end.clone()] {
            assert_eq!(cluster.apply(report(1, "web", 1, late)), other(1, 1));
        }
        assert_eq!(cluster.apply(place("web", 2, 1)), other(2, 1));
        cluster.ok(place("web", 2, 2));
        for late in [starting(1), running(1, HealthStatus::Healthy), end] {
            assert_eq!(cluster.apply(report(1, "web", 1, late.clone())), other(1, 1));
            assert_eq!(cluster.apply(report(1, "web", 2, late)), other(1, 2));
        }
        assert_eq!(cluster.vm("web").run.host(), Some(NodeId(2)));
        assert_eq!(cluster.vm("web").last_epoch, Epoch(2));
    }
}

#[test]
fn two_racing_placements_cannot_overbook_a_host() {
    let mut cluster = web_on_host_1();
    cluster.deploy("db", "a", spec(500));
    cluster.deploy("api", "a", spec(500));
    let no_room = |cluster: &mut Cluster, name, node| {
        let refused = cluster.apply(place(name, node, 1));
        assert!(matches!(refused, Err(Rejection::NoRoom { .. })), "{refused:?}");
    };
    no_room(&mut cluster, "db", 1);
    cluster.ok(place("db", 2, 1));
    cluster.ok(place("api", 2, 1));
    cluster.deploy("last", "a", spec(1));
    no_room(&mut cluster, "last", 2);
    cluster.ok(place("last", 1, 1));
    assert_eq!(cluster.state.usage(NodeId(2)).memory_mib, 1000);
}

#[test]
fn vcpus_are_overcommitted_sixteen_times_and_no_more() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let mut wide = spec(1);
    wide.resources.vcpus = 4 * 16;
    cluster.deploy("wide", "a", wide.clone());
    cluster.ok(place("wide", 1, 1));
    cluster.deploy("thin", "a", spec(1));
    assert!(matches!(cluster.apply(place("thin", 1, 1)), Err(Rejection::NoRoom { .. })));
}

#[test]
fn a_vm_that_is_told_to_stop_keeps_its_room_until_it_has() {
    let mut cluster = web_on_host_1();
    cluster.ok(desired("web", Desired::Stopped));
    cluster.deploy("db", "a", spec(500));
    assert!(matches!(cluster.apply(place("db", 1, 1)), Err(Rejection::NoRoom { .. })));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    cluster.ok(place("db", 1, 1));
}

#[test]
fn failures_in_a_row_are_counted_until_the_vm_is_healthy() {
    let mut cluster = web_on_host_1();
    for epoch in 1..=3 {
        assert_eq!(u64::from(cluster.vm("web").failures), epoch - 1);
        cluster.ok(report(1, "web", epoch, running(1, HealthStatus::Pending)));
        cluster.at = UnixMillis(epoch);
        cluster.ok(report(1, "web", epoch, failed(1, "boom")));
        let why = Unplaced::Failed {
            reason: "boom".to_owned(),
            at: UnixMillis(epoch),
            generation: GenerationNumber(1),
            hindered: false,
        };
        assert_eq!(cluster.vm("web").run, unplaced(why));
        cluster.ok(place("web", 1, epoch + 1));
    }
    assert_eq!(cluster.vm("web").failures, 3);
    cluster.ok(report(1, "web", 4, running(1, HealthStatus::Healthy)));
    assert_eq!(cluster.vm("web").failures, 0);
    cluster.ok(report(1, "web", 4, failed(1, "boom")));
    assert_eq!(cluster.vm("web").failures, 1);
}

#[test]
fn a_stop_is_no_failure() {
    let mut cluster = web_on_host_1();
    cluster.ok(report(1, "web", 1, failed(1, "boom")));
    cluster.ok(place("web", 1, 2));
    cluster.ok(report(1, "web", 2, VmReport::Stopped));
    assert_eq!(cluster.vm("web").failures, 1);
    assert_eq!(cluster.vm("web").run, unplaced(Unplaced::Stopped));
}

#[test]
fn a_new_generation_starts_with_no_failures_and_is_not_charged_with_those_of_the_old() {
    let mut cluster = web_on_host_1();
    cluster.ok(report(1, "web", 1, failed(1, "boom")));
    cluster.deploy("web", "a", spec(600));
    assert_eq!(cluster.vm("web").failures, 1, "nothing has changed");
    cluster.deploy("web", "b", spec(600));
    assert_eq!(cluster.vm("web").failures, 0);
    cluster.ok(place("web", 1, 2));
    // The host was still at the old one.
    cluster.ok(report(1, "web", 2, failed(1, "boom")));
    assert_eq!(cluster.vm("web").failures, 0);
    cluster.ok(place("web", 1, 3));
    cluster.ok(report(1, "web", 3, failed(2, "boom")));
    assert_eq!(cluster.vm("web").failures, 1);
}

#[test]
fn starting_a_vm_that_has_failed_is_another_try_at_once() {
    let mut cluster = web_on_host_1();
    cluster.ok(report(1, "web", 1, failed(1, "boom")));
    assert!(matches!(cluster.ok(desired("web", Desired::Running)), Outcome::Changed { .. }));
    assert_eq!(cluster.vm("web").failures, 0);
    assert_eq!(cluster.vm("web").run, unplaced(Unplaced::Stopped));
    assert_eq!(cluster.ok(desired("web", Desired::Running)), Outcome::Unchanged);
}

#[test]
fn starting_a_vm_that_runs_does_not_touch_its_placement() {
    let mut cluster = web_on_host_1();
    let before = cluster.vm("web").run.clone();
    for (wanted, changed) in [
        (Desired::Running, false),
        (Desired::Stopped, true),
        (Desired::Stopped, false),
        (Desired::Running, true),
    ] {
        let outcome = cluster.ok(desired("web", wanted));
        assert_eq!(outcome != Outcome::Unchanged, changed, "{wanted:?}");
        assert_eq!(cluster.vm("web").run, before);
        assert_eq!(cluster.vm("web").desired, wanted);
    }
}

#[test]
fn a_placed_vm_is_gone_only_when_its_host_has_stopped_it() {
    for end in [VmReport::Stopped, failed(1, "boom")] {
        let mut cluster = web_on_host_1();
        cluster.ok(delete("web"));
        assert_eq!(cluster.ok(delete("web")), Outcome::Unchanged);
        assert_eq!(cluster.vm("web").run.host(), Some(NodeId(1)));
        cluster.ok(report(1, "web", 1, running(1, HealthStatus::Healthy)));
        assert!(cluster.state.vms.contains_key(&vm("web")));
        cluster.ok(report(1, "web", 1, end));
        assert!(cluster.state.vms.is_empty());
        let last = cluster.state.events.iter().next_back().unwrap();
        assert_eq!(last.kind, EventKind::Deleted { vm: vm("web") });
    }
}

#[test]
fn a_vm_that_is_on_no_host_is_gone_at_once() {
    let mut cluster = scene();
    cluster.ok(delete("idle"));
    assert!(!cluster.state.vms.contains_key(&vm("idle")));
}

#[test]
fn a_vm_that_comes_back_under_its_name_is_not_hit_by_late_words_on_the_one_before() {
    let mut cluster = web_on_host_1();
    cluster.ok(delete("web"));
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    cluster.deploy("web", "b", spec(600));
    let next = cluster.vm("web").last_epoch.next();
    cluster.ok(place("web", 1, next.0));
    // The acknowledgement was lost: the same daemon says again that epoch 1 is over.
    let late: Command = report(1, "web", 1, VmReport::Stopped);
    assert!(matches!(cluster.apply(late), Err(Rejection::OtherEpoch { .. })));
    assert_eq!(cluster.vm("web").run.host(), Some(NodeId(1)));
}

#[test]
fn long_reasons_are_cut_between_characters() {
    let long = "é".repeat(5000);
    let cut = "é".repeat(2048);
    let mut cluster = web_on_host_1();
    let health = |reason: &str| HealthStatus::Unhealthy { reason: reason.to_owned() };
    cluster.ok(report(1, "web", 1, running(1, health(&long))));
    let Run::Placed { phase: Phase::Running { health: kept, .. }, .. } = &cluster.vm("web").run else {
        panic!()
    };
    assert_eq!(*kept, health(&cut));
    assert_eq!(cluster.ok(report(1, "web", 1, running(1, health(&long)))), Outcome::Unchanged);
    cluster.ok(report(1, "web", 1, failed(1, &long)));
    let Run::Unplaced { why: Unplaced::Failed { reason, .. } } = &cluster.vm("web").run else { panic!() };
    assert_eq!(*reason, cut);
}

#[test]
fn a_state_reads_back_from_json_as_it_was() {
    let mut cluster = scene();
    cluster.ok(report(1, "placed", 1, running(1, HealthStatus::Healthy)));
    cluster.ok(place("idle", 2, 1));
    cluster.ok(report(2, "idle", 1, failed(1, "boom")));
    cluster.ok(session(2, 2, crate::fixture::facts(1)));
    for refused in
        [place("placed", 1, 7), place("big", 1, 1), delete("nobody"), session(2, 1, crate::fixture::facts(1))]
    {
        assert!(cluster.apply(refused).is_err());
    }
    let json = serde_json::to_string(&cluster.state).unwrap();
    assert_eq!(serde_json::from_str::<ClusterState>(&json).unwrap(), cluster.state);
}

#[test]
fn a_call_that_starts_or_stops_a_vm_counts_once_however_often_it_is_applied() {
    let mut cluster = web_on_host_1();
    let envelope = |call: u8| Envelope {
        request: RequestId([call; 16]),
        at: UnixMillis(1),
        by: None,
        command: desired("web", Desired::Stopped),
    };
    for (call, wishes) in [(201, 1), (201, 1), (202, 2), (201, 2)] {
        let mut position = cluster.state.applied;
        position.index += 1;
        cluster.state.apply(&envelope(call), position).unwrap();
        assert_eq!(cluster.vm("web").wishes, wishes, "after call {call}");
    }
}
