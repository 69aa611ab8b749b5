//! Refusals, order, backoff; and that `apply` accepts whatever is planned.

mod merits;
mod planner;

use std::fmt::Write as _;

use blixard_types::GenerationNumber;
use blixard_types::spec::KvmUse;
use proptest::prelude::*;

use super::*;
use crate::fixture::{
    Cluster, daemon, definition, delete, deploy, desired, facts, failed, place, register, report, report_of,
    running, session, spec,
};
use crate::state::{Desired, HealthStatus, Role, VmReport};

/// The plan as text: placements in order, then who waits for what.
fn shown(state: &ClusterState, now: u64) -> String {
    let plan = plan(state, UnixMillis(now));
    let mut out = String::new();
    for PlacementDecision { vm, node, epoch } in &plan.placements {
        let _ = writeln!(out, "{vm} -> {node} at {epoch}");
    }
    for (vm, waiting) in &plan.waiting {
        let _ = writeln!(out, "{vm}: {waiting}");
    }
    if let Some(at) = plan.again_at {
        let _ = writeln!(out, "again at {}", at.0);
    }
    out
}

#[test]
fn each_host_that_will_not_do_says_why() {
    let mut cluster = Cluster::with_hosts(&[(1, 100)]);
    cluster.ok(register(2, &[Role::Server]));
    cluster.ok(session(2, 1, facts(9000)));
    cluster.ok(register(3, &[Role::Host]));
    cluster.ok(register(4, &[Role::Host]));
    let mut arm = facts(9000);
    arm.system = "aarch64-linux".to_owned();
    cluster.ok(session(4, 1, arm));
    cluster.ok(register(5, &[Role::Host]));
    let mut emulated = facts(9000);
    emulated.kvm = false;
    cluster.ok(session(5, 1, emulated));
    cluster.arm();
    let mut wanted = spec(200);
    wanted.kvm = KvmUse::Required;
    cluster.deploy("web", "a", wanted.clone());
    wanted.resources.memory_mib = 50;
    wanted.resources.vcpus = 65;
    cluster.deploy("wide", "a", wanted);
    insta::assert_snapshot!(shown(&cluster.state, 0), @"
    default/web: no host will do: n1: needs 200 MiB of memory, 100 free; n2: does not run vms; n3: its daemon has not reported yet; n4: is aarch64-linux, the vm is built for x86_64-linux; n5: has no usable KVM, which the vm requires
    default/wide: no host will do: n1: needs 65 vcpus, 64 free; n2: does not run vms; n3: its daemon has not reported yet; n4: is aarch64-linux, the vm is built for x86_64-linux; n5: has no usable KVM, which the vm requires
    ");
}

#[test]
fn a_cluster_without_nodes_says_so() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(1));
    insta::assert_snapshot!(shown(&cluster.state, 0), @"default/web: no host will do: the cluster has no nodes");
}

#[test]
fn a_vm_that_merely_prefers_kvm_does_without() {
    for (kvm, placed) in [(KvmUse::Required, 0), (KvmUse::Preferred, 1), (KvmUse::Unused, 1)] {
        let mut cluster = Cluster::with_hosts(&[]);
        cluster.ok(register(1, &[Role::Host]));
        let mut emulated = facts(1000);
        emulated.kvm = false;
        cluster.ok(session(1, 1, emulated));
        let mut wanted = spec(1);
        wanted.kvm = kvm;
        cluster.deploy("web", "a", wanted);
        assert_eq!(plan(&cluster.state, UnixMillis(0)).placements.len(), placed, "{kvm:?}");
    }
}

#[test]
fn higher_priority_goes_first_then_the_name_and_each_to_the_emptiest_host() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1500), (3, 1000)]);
    for (name, memory_mib, priority) in
        [("a", 600, 0), ("b", 600, 0), ("c", 600, -1), ("d", 600, 5), ("b/a", 400, 5)]
    {
        let mut wanted = spec(memory_mib);
        wanted.placement.priority = priority;
        cluster.deploy(name, "a", wanted);
    }
    insta::assert_snapshot!(shown(&cluster.state, 0), @"
    b/a -> 2 at 1
    default/d -> 2 at 1
    default/a -> 1 at 1
    default/b -> 3 at 1
    default/c: no host will do: n1: needs 600 MiB of memory, 400 free; n2: needs 600 MiB of memory, 500 free; n3: needs 600 MiB of memory, 400 free
    ");
}

#[test]
fn what_runs_is_stopped_or_is_going_is_not_planned() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    for name in ["runs", "halted", "going"] {
        cluster.deploy(name, "a", spec(100));
    }
    cluster.ok(place("runs", 1, 1));
    cluster.ok(place("going", 1, 1));
    cluster.ok(delete("going"));
    cluster.ok(desired("halted", Desired::Stopped));
    assert_eq!(plan(&cluster.state, UnixMillis(0)), SchedulePlan::default());
}

/// A vm on host 1 that has failed this often in a row, the last time at 1000.
fn failed_times(times: u64) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    cluster.at = UnixMillis(1000);
    cluster.deploy("web", "a", spec(100));
    for epoch in 1..=times {
        cluster.ok(place("web", 1, epoch));
        cluster.ok(report(1, "web", epoch, failed(1, "boom")));
    }
    cluster
}

#[test]
fn the_pause_after_a_failure_doubles_until_a_person_is_needed() {
    let mut out = String::new();
    for times in 0..=6 {
        let _ = write!(out, "{times} failures: {}", shown(&failed_times(times).state, 1000));
    }
    insta::assert_snapshot!(out, @"
    0 failures: default/web -> 1 at 1
    1 failures: default/web: failed 1 times, tried again later
    again at 11000
    2 failures: default/web: failed 2 times, tried again later
    again at 21000
    3 failures: default/web: failed 3 times, tried again later
    again at 41000
    4 failures: default/web: failed 4 times, tried again later
    again at 81000
    5 failures: default/web: failed 5 times in a row; `blixard vm start` or a new generation tries again
    6 failures: default/web: failed 6 times in a row; `blixard vm start` or a new generation tries again
    ");
}

#[test]
fn a_vm_is_placed_again_exactly_when_its_pause_is_over() {
    for (times, pause) in [(1, 10_000), (2, 20_000), (3, 40_000), (4, 80_000)] {
        let cluster = failed_times(times);
        let before = plan(&cluster.state, UnixMillis(1000 + pause - 1));
        assert_eq!(before.again_at, Some(UnixMillis(1000 + pause)));
        assert!(before.placements.is_empty());
        let after = plan(&cluster.state, UnixMillis(1000 + pause));
        assert_eq!(after.again_at, None);
        assert_eq!(after.placements[0].epoch, Epoch(times + 1));
    }
    let never = plan(&failed_times(5).state, UnixMillis(u64::MAX));
    assert!(never.placements.is_empty() && never.again_at.is_none());
}

#[test]
fn the_next_look_is_due_when_the_first_pause_is_over() {
    let mut cluster = failed_times(3);
    cluster.deploy("db", "a", spec(100));
    cluster.ok(place("db", 1, 1));
    cluster.at = UnixMillis(2000);
    cluster.ok(report(1, "db", 1, failed(1, "boom")));
    assert_eq!(plan(&cluster.state, UnixMillis(3000)).again_at, Some(UnixMillis(12_000)));
}

#[test]
fn a_new_generation_or_a_person_ends_the_wait_at_once() {
    for change in [deploy(vec![definition("web", "b", spec(100))]), desired("web", Desired::Running)] {
        let mut cluster = failed_times(5);
        assert!(plan(&cluster.state, UnixMillis(1000)).placements.is_empty());
        cluster.ok(change);
        assert_eq!(plan(&cluster.state, UnixMillis(1000)).placements.len(), 1);
    }
}

/// What becomes of one vm before the plan is made.
#[derive(Debug, Clone)]
struct Past {
    memory_mib: u64,
    vcpus: u32,
    kvm: bool,
    priority: i32,
    system: bool,
    /// Placements that have ended, in failure or not.
    ends: Vec<bool>,
    placed: Option<u64>,
    desired: Desired,
}

fn pasts() -> impl Strategy<Value = Past> {
    let what = (1..900_u64, 1..40_u32, any::<bool>(), -1..2_i32, prop::bool::weighted(0.9));
    let life = (
        prop::collection::vec(any::<bool>(), 0..4),
        prop::option::of(1..4_u64),
        prop_oneof![4 => Just(Desired::Running), 1 => Just(Desired::Stopped)],
    );
    (what, life).prop_map(|((memory_mib, vcpus, kvm, priority, system), (ends, placed, desired))| Past {
        memory_mib,
        vcpus,
        kvm,
        priority,
        system,
        ends,
        placed,
        desired,
    })
}

fn cluster_of(hosts: &[(u64, bool, bool)], pasts: &[Past]) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[]);
    for (at, &(memory_mib, kvm, hosts)) in hosts.iter().enumerate() {
        let node = at as u64 + 1;
        cluster.ok(register(node, if hosts { &[Role::Host] } else { &[Role::Server] }));
        let mut facts = facts(memory_mib);
        facts.kvm = kvm;
        cluster.ok(session(node, 1, facts));
    }
    cluster.arm();
    for (at, past) in pasts.iter().enumerate() {
        let name = format!("vm{at}");
        let mut wanted = spec(past.memory_mib);
        wanted.resources.vcpus = past.vcpus;
        wanted.kvm = if past.kvm { KvmUse::Required } else { KvmUse::Preferred };
        wanted.placement.priority = past.priority;
        let mut vm = definition(&name, "a", wanted);
        if !past.system {
            vm.system = "aarch64-linux".to_owned();
        }
        cluster.ok(deploy(vec![vm]));
        let mut epoch = 1;
        for end in &past.ends {
            if cluster.apply(place(&name, 1, epoch)).is_ok() {
                let end = if *end { VmReport::Stopped } else { failed(1, "boom") };
                cluster.ok(report_of(1, daemon(1, 1), &name, epoch, end));
                epoch += 1;
            }
        }
        if let Some(node) = past.placed
            && cluster.apply(place(&name, node, epoch)).is_ok()
        {
            cluster.ok(report(node, &name, epoch, running(1, HealthStatus::Healthy)));
        }
        cluster.ok(desired(&name, past.desired));
    }
    cluster
}

proptest! {
    #[test]
    fn whatever_is_planned_is_accepted_in_its_order_and_nothing_fits_besides(
        hosts in prop::collection::vec((1..1500_u64, any::<bool>(), prop::bool::weighted(0.8)), 1..4),
        pasts in prop::collection::vec(pasts(), 0..12),
        now in 0..100_000_u64,
    ) {
        let mut cluster = cluster_of(&hosts, &pasts);
        let made = plan(&cluster.state, UnixMillis(now));
        prop_assert_eq!(&made, &plan(&cluster.state.clone(), UnixMillis(now)));
        for PlacementDecision { vm, node, epoch } in &made.placements {
            let facts = &cluster.state.nodes[node].session.as_ref().unwrap().facts;
            let of = &cluster.state.vms[vm];
            prop_assert_eq!(&facts.system, &of.target_generation().unwrap().system);
            let needs_kvm = cluster.state.target_spec(of).unwrap().kvm == KvmUse::Required;
            prop_assert!(facts.kvm || !needs_kvm);
            cluster.ok(place(&vm.to_string(), node.0, epoch.0));
        }
        // Every vm that should run is placed or waits; a second look places nothing more.
        let unplaced = cluster.state.vms.iter().filter(|(_, vm)| vm.wanted() && vm.run.host().is_none());
        let unplaced: Vec<_> = unplaced.map(|(id, _)| id.clone()).collect();
        prop_assert_eq!(made.waiting.keys().cloned().collect::<Vec<_>>(), unplaced);
        prop_assert_eq!(plan(&cluster.state, UnixMillis(now)).placements, vec![]);
    }
}

#[test]
fn what_hindered_its_host_is_tried_again_for_ever_and_no_more_often_than_every_five_minutes() {
    let mut cluster = failed_times(7);
    let hindered = |epoch| {
        let (generation, reason) = (GenerationNumber(1), "nobody has it".to_owned());
        report(1, "web", epoch, VmReport::Hindered { generation, reason })
    };
    cluster.ok(place("web", 1, 8));
    cluster.ok(hindered(8));
    let text = shown(&cluster.state, 1000);
    assert_eq!(text, "default/web: failed 8 times, tried again later\nagain at 301000\n");
    // A guest that fails then is left to a person, as before.
    cluster.ok(place("web", 1, 9));
    cluster.ok(report(1, "web", 9, failed(1, "boom")));
    assert!(shown(&cluster.state, u64::MAX).contains("tries again"), "{}", shown(&cluster.state, u64::MAX));
}

#[test]
fn a_clock_that_was_ahead_holds_nobody_back_once_it_is_set() {
    let mut cluster = failed_times(1);
    let year = 365 * 24 * 3_600_000;
    cluster.ok(place("web", 1, 2));
    cluster.at = UnixMillis(1000 + year);
    cluster.ok(report(1, "web", 2, failed(1, "boom")));
    assert_eq!(shown(&cluster.state, 1000), "default/web -> 1 at 3\n");
    // Another server's clock may be a little behind.
    assert!(shown(&cluster.state, year - 8000).contains("tried again later"));
}
