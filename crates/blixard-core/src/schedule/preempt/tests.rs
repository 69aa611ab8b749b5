//! Who makes room for whom.

use blixard_types::GenerationNumber;
use proptest::prelude::*;

use super::*;
use crate::apply::Rejection;
use crate::command::{Command, PlacementCommand};
use crate::fixture::{Cluster, place, report, running, spec, vm};
use crate::schedule;
use crate::state::{Desired, HealthStatus, VmReport};

fn preemption(preemption: Preemption) -> Command {
    Command::Placement(PlacementCommand::SetPreemption { preemption })
}

fn runs(cluster: &mut Cluster, name: &str, node: u64, memory: u64, priority: i32) {
    let mut spec = spec(memory);
    spec.placement.priority = priority;
    cluster.deploy(name, name, spec);
    cluster.ok(place(name, node, 1));
    cluster.ok(report(node, name, 1, running(1, HealthStatus::Healthy)));
}

fn wants(cluster: &mut Cluster, name: &str, memory: u64, priority: i32) {
    let mut spec = spec(memory);
    (spec.placement.priority, spec.placement.preempts) = (priority, true);
    cluster.deploy(name, name, spec);
}

/// Two hosts of 400 MiB, full of vms of priorities from 0 to 3.
fn full() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 400), (2, 400)]);
    runs(&mut cluster, "low", 1, 100, 0);
    runs(&mut cluster, "mid", 1, 300, 1);
    runs(&mut cluster, "one", 2, 200, 2);
    runs(&mut cluster, "two", 2, 200, 3);
    cluster
}

fn planned(cluster: &Cluster) -> Vec<String> {
    let shown = |one: &Eviction| format!("{} at {} for {}", one.vm.name(), one.epoch, one.by.name());
    plan(&cluster.state, UnixMillis(0)).iter().map(shown).collect()
}

fn evict(name: &str, by: &str) -> Command {
    Command::Placement(PlacementCommand::Preempt { vm: vm(name), epoch: Epoch(1), by: vm(by) })
}

#[test]
fn nobody_is_stopped_unless_the_cluster_says_so() {
    let mut cluster = full();
    wants(&mut cluster, "vip", 100, 9);
    assert_eq!(planned(&cluster), [] as [&str; 0]);
    assert_eq!(cluster.apply(evict("low", "vip")), Err(Rejection::NoPreemption));
    cluster.ok(preemption(Preemption::On));
    assert_eq!(planned(&cluster), ["low at 1 for vip"]);
    cluster.ok(preemption(Preemption::Off));
    assert_eq!(planned(&cluster), [] as [&str; 0]);
}

#[test]
fn one_that_has_failed_stops_nobody_at_its_next_try() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "vip", 100, 9);
    cluster.ok(evict("low", "vip"));
    cluster.ok(report(1, "low", 1, VmReport::Stopped));
    cluster.ok(place("vip", 1, 1));
    let reason = "it ended".to_owned();
    let failed = VmReport::Failed { generation: GenerationNumber(1), reason };
    cluster.ok(report(1, "vip", 1, failed));
    cluster.ok(place("low", 1, 2));
    cluster.ok(report(1, "low", 2, running(1, HealthStatus::Healthy)));
    let later = UnixMillis(1 << 40);
    assert_eq!(plan(&cluster.state, later), []);
    cluster.state.vms.get_mut(&vm("vip")).unwrap().failures = 0;
    assert_eq!(plan(&cluster.state, later).len(), 1, "only its failure keeps it");
}

#[test]
fn the_lowest_go_and_only_those_whose_room_is_needed() {
    for (memory, expected) in [
        (100, vec!["low at 1 for vip"]),
        (300, vec!["mid at 1 for vip"]),
        (400, vec!["low at 1 for vip", "mid at 1 for vip"]),
        (401, vec![]),
    ] {
        let mut cluster = full();
        cluster.ok(preemption(Preemption::On));
        wants(&mut cluster, "vip", memory, 9);
        assert_eq!(planned(&cluster), expected, "{memory}");
    }
}

#[test]
fn an_equal_or_a_higher_one_makes_no_room_and_who_does_not_ask_gets_none() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "equal", 300, 1);
    assert_eq!(planned(&cluster), [] as [&str; 0]);
    let mut modest = spec(300);
    modest.placement.priority = 9;
    cluster.deploy("modest", "modest", modest);
    assert_eq!(planned(&cluster), [] as [&str; 0]);
    for by in ["equal", "modest"] {
        let expected = Rejection::NoHigherPriority { vm: vm("mid"), by: vm(by) };
        assert_eq!(cluster.apply(evict("mid", by)), Err(expected));
    }
    assert!(cluster.vm("mid").wanted_there());
}

#[test]
fn the_room_that_is_made_is_for_whom_it_was_made_and_is_not_made_twice() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "vip", 100, 9);
    cluster.ok(evict("low", "vip"));
    assert_eq!(planned(&cluster), [] as [&str; 0], "what is being stopped makes the room");
    let waits = schedule::plan(&cluster.state, UnixMillis(0)).waiting;
    assert_eq!(waits[&vm("vip")].to_string(), "default/low makes room for it, which has a lower priority");
    cluster.ok(report(1, "low", 1, VmReport::Stopped));
    let plan = schedule::plan(&cluster.state, UnixMillis(0));
    let placed: Vec<_> = plan.placements.iter().map(|one| (one.vm.clone(), one.node.0)).collect();
    assert_eq!(placed, [(vm("vip"), 1)]);
    cluster.ok(place("vip", 1, 1));
    let plan = schedule::plan(&cluster.state, UnixMillis(0));
    assert_eq!(
        plan.waiting[&vm("low")].to_string(),
        "it has made room for default/vip, which has a higher priority; no host will do: \
         n1: needs 100 MiB of memory, 0 free; n2: needs 100 MiB of memory, 0 free"
    );
    assert_eq!(planned(&cluster), [] as [&str; 0], "it does not take its room back");
}

#[test]
fn those_who_make_room_one_after_another_do_not_take_it_back() {
    for [first, second] in [["low", "mid"], ["mid", "low"]] {
        let mut cluster = full();
        cluster.ok(preemption(Preemption::On));
        wants(&mut cluster, "vip", 400, 9);
        wants(&mut cluster, "small", 100, 0);
        cluster.ok(evict("low", "vip"));
        cluster.ok(evict("mid", "vip"));
        cluster.ok(report(1, first, 1, VmReport::Stopped));
        let plan = schedule::plan(&cluster.state, UnixMillis(0));
        assert_eq!(plan.placements, [], "the room is not whole yet");
        assert_eq!(planned(&cluster), [] as [&str; 0]);
        cluster.ok(report(1, second, 1, VmReport::Stopped));
        let plan = schedule::plan(&cluster.state, UnixMillis(0));
        let placed: Vec<_> = plan.placements.iter().map(|one| (one.vm.clone(), one.node.0)).collect();
        assert_eq!(placed, [(vm("vip"), 1)]);
    }
}

#[test]
fn one_that_is_stopped_and_started_again_meanwhile_is_asked_again() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "vip", 100, 9);
    cluster.ok(evict("low", "vip"));
    for desired in [Desired::Stopped, Desired::Running] {
        cluster.ok(Command::SetDesired { vm: vm("low"), desired });
    }
    assert_eq!(planned(&cluster), ["low at 1 for vip"]);
}

#[test]
fn one_that_has_room_elsewhere_stops_nobody() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    cluster.ok(report(2, "two", 1, VmReport::Stopped));
    cluster.ok(crate::fixture::delete("two"));
    wants(&mut cluster, "vip", 200, 9);
    assert_eq!(planned(&cluster), [] as [&str; 0]);
}

#[test]
fn a_decision_that_is_late_stops_nobody() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "vip", 100, 9);
    cluster.ok(report(1, "low", 1, VmReport::Stopped));
    cluster.ok(place("vip", 1, 1));
    assert_eq!(cluster.apply(evict("mid", "vip")), Err(Rejection::NotWanted { vm: vm("vip") }));
    assert_eq!(cluster.apply(evict("low", "vip")), Err(Rejection::NotPlaced { vm: vm("low") }));
    assert!(cluster.vm("mid").wanted_there());
}

#[test]
fn a_decision_for_a_placement_does_not_stop_the_one_after_it() {
    let mut cluster = full();
    cluster.ok(preemption(Preemption::On));
    wants(&mut cluster, "vip", 100, 9);
    cluster.ok(report(1, "low", 1, VmReport::Stopped));
    cluster.ok(place("low", 1, 2));
    let refused = Rejection::OtherEpoch { vm: vm("low"), node: NodeId(1), epoch: Epoch(1) };
    assert_eq!(cluster.apply(evict("low", "vip")), Err(refused));
    assert!(cluster.vm("low").wanted_there());
}

proptest! {
    #[test]
    fn whoever_is_stopped_is_lower_is_needed_and_makes_room_that_is_taken(
        there in prop::collection::vec((1..3_u64, 1..5_u64, 0..4_i32), 0..8),
        waiting in prop::collection::vec((1..6_u64, 0..5_i32), 1..4),
    ) {
        let mut cluster = Cluster::with_hosts(&[(1, 500), (2, 500)]);
        for (at, (node, memory, priority)) in there.into_iter().enumerate() {
            let name = format!("vm-{at}");
            let mut spec = spec(memory * 100);
            spec.placement.priority = priority;
            cluster.deploy(&name, &name, spec);
            if cluster.apply(place(&name, node, 1)).is_err() {
                cluster.ok(crate::fixture::delete(&name));
            }
        }
        for (at, (memory, priority)) in waiting.into_iter().enumerate() {
            wants(&mut cluster, &format!("vip-{at}"), memory * 100, priority);
        }
        cluster.ok(preemption(Preemption::On));
        // Everything settles: who is stopped stops, and what has room is placed.
        for _ in 0..20 {
            for one in schedule::plan(&cluster.state, UnixMillis(0)).placements {
                cluster.ok(place(&one.vm.to_string(), one.node.0, one.epoch.0));
            }
            let evictions = plan(&cluster.state, UnixMillis(0));
            if evictions.is_empty() {
                return Ok(());
            }
            for one in evictions {
                let command = PlacementCommand::Preempt { vm: one.vm.clone(), epoch: one.epoch, by: one.by.clone() };
                cluster.ok(Command::Placement(command));
                let stopped = report(one.node.0, &one.vm.to_string(), one.epoch.0, VmReport::Stopped);
                cluster.ok(stopped);
            }
            let placed = schedule::plan(&cluster.state, UnixMillis(0)).placements;
            prop_assert!(!placed.is_empty(), "somebody was stopped for nobody");
        }
        prop_assert!(false, "vms push each other around for ever");
    }
}
