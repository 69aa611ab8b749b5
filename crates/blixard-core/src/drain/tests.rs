//! Draining, round by round.

use std::fmt::Write as _;

use super::*;
use crate::command::{Command, FenceCommand};
use crate::fixture::{Cluster, desired, failed, place, report, running, spec, vm};
use crate::schedule;
use crate::state::{Desired, HealthStatus, VmReport};

fn admission(node: u64, admission: Admission) -> Command {
    Command::Fence(FenceCommand::SetAdmission { node: NodeId(node), admission })
}

fn draining(max_parallel: u32, deadline: Option<u64>) -> Admission {
    Admission::Draining { max_parallel, deadline: deadline.map(UnixMillis) }
}

fn shown(cluster: &Cluster, now: u64) -> String {
    let plan = plan(&cluster.state, UnixMillis(now));
    let mut out = String::new();
    for (vm, epoch) in &plan.moves {
        let _ = writeln!(out, "{vm} leaves at {epoch}");
    }
    for (vm, stays) in &plan.staying {
        let _ = writeln!(out, "{vm} stays: {stays}");
    }
    if let Some(at) = plan.again_at {
        let _ = writeln!(out, "again at {}", at.0);
    }
    out
}

/// Three vms on host 1, of which host 2 has room for two and host 3 for one.
fn cluster(max_parallel: u32, deadline: Option<u64>) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 200), (3, 100)]);
    for name in ["a", "b", "c"] {
        cluster.deploy(name, "a", spec(100));
        cluster.ok(place(name, 1, 1));
        cluster.ok(report(1, name, 1, running(1, HealthStatus::Healthy)));
    }
    cluster.ok(admission(1, draining(max_parallel, deadline)));
    cluster
}

/// The leader's part: moves, then placements. Gives where each vm was placed.
fn lead(cluster: &mut Cluster) -> Vec<(String, u64)> {
    for (vm, epoch) in plan(&cluster.state, UnixMillis(0)).moves {
        cluster.ok(Command::MoveVm { vm, epoch });
    }
    let placements = schedule::plan(&cluster.state, UnixMillis(u64::MAX)).placements;
    let mut placed = Vec::new();
    for one in placements {
        cluster.ok(place(&one.vm.to_string(), one.node.0, one.epoch.0));
        placed.push((one.vm.name().to_string(), one.node.0));
    }
    placed
}

#[test]
fn one_vm_after_another_leaves_each_when_the_one_before_is_healthy() {
    let mut cluster = cluster(1, None);
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/a leaves at 1
    default/b stays: default/a is on the way first, until healthy
    default/c stays: default/a is on the way first, until healthy
    ");
    assert_eq!(lead(&mut cluster), vec![], "it is not placed anew before it has stopped");
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/a stays: is being stopped
    default/b stays: default/a is on the way first, until healthy
    default/c stays: default/a is on the way first, until healthy
    ");
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    assert_eq!(lead(&mut cluster), [("a".to_owned(), 2)]);
    assert_eq!(cluster.vm("a").last_epoch, Epoch(2));
    cluster.ok(report(2, "a", 2, running(1, HealthStatus::Pending)));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b stays: default/a is on the way first, until healthy
    default/c stays: default/a is on the way first, until healthy
    ");
    cluster.ok(report(2, "a", 2, running(1, HealthStatus::Healthy)));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b leaves at 1
    default/c stays: default/b is on the way first, until healthy
    ");
}

#[test]
fn a_vm_that_does_not_come_up_stops_the_drain_and_one_that_is_stopped_does_not() {
    let mut cluster = cluster(1, None);
    lead(&mut cluster);
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    lead(&mut cluster);
    cluster.ok(report(2, "a", 2, failed(1, "boom")));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b stays: default/a is on the way first, until healthy
    default/c stays: default/a is on the way first, until healthy
    ");
    cluster.ok(desired("a", Desired::Stopped));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b leaves at 1
    default/c stays: default/b is on the way first, until healthy
    ");
}

#[test]
fn a_vm_that_came_back_to_a_host_is_not_on_its_way_from_it() {
    let mut cluster = cluster(1, None);
    lead(&mut cluster);
    cluster.ok(admission(1, Admission::Open));
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    cluster.ok(place("a", 1, 2));
    cluster.ok(report(1, "a", 2, running(1, HealthStatus::Healthy)));
    cluster.ok(admission(1, draining(1, None)));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/a leaves at 2
    default/b stays: default/a is on the way first, until healthy
    default/c stays: default/a is on the way first, until healthy
    ");
}

#[test]
fn only_what_has_a_place_elsewhere_is_stopped_until_the_deadline() {
    let mut cluster = cluster(9, Some(5000));
    cluster.deploy("d", "a", spec(100));
    cluster.ok(Command::Fence(FenceCommand::SetAdmission { node: NodeId(1), admission: Admission::Open }));
    cluster.ok(place("d", 1, 1));
    cluster.ok(admission(1, draining(9, Some(5000))));
    insta::assert_snapshot!(shown(&cluster, 4999), @"
    default/a leaves at 1
    default/b leaves at 1
    default/c leaves at 1
    default/d stays: no host will do: n1: takes no new vms; n2: needs 100 MiB of memory, 0 free; n3: needs 100 MiB of memory, 0 free
    again at 5000
    ");
    insta::assert_snapshot!(shown(&cluster, 5000), @"
    default/a leaves at 1
    default/b leaves at 1
    default/c leaves at 1
    default/d leaves at 1
    ");
}

#[test]
fn what_is_on_its_way_keeps_its_place() {
    // Both may go at once; there is room for all three elsewhere, and for no fourth.
    let mut cluster = cluster(2, None);
    lead(&mut cluster);
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b stays: is being stopped
    default/c stays: default/a, default/b are on the way first, until healthy
    ");
    cluster.ok(admission(1, draining(3, None)));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/c leaves at 1
    default/b stays: is being stopped
    ");
    // A host less: what is on its way takes what there is.
    cluster.ok(admission(2, Admission::Cordoned));
    insta::assert_snapshot!(shown(&cluster, 0), @"
    default/b stays: is being stopped
    default/c stays: no host will do: n1: takes no new vms; n2: takes no new vms; n3: needs 100 MiB of memory, 0 free
    ");
}

#[test]
fn a_move_is_of_one_placement() {
    let mut cluster = cluster(1, None);
    let of = |epoch| Command::MoveVm { vm: vm("a"), epoch: Epoch(epoch) };
    assert!(cluster.apply(of(2)).is_err());
    cluster.ok(of(1));
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    assert!(cluster.apply(of(1)).is_err(), "it is on no host");
    lead(&mut cluster);
    assert!(cluster.apply(of(1)).is_err(), "it is elsewhere, an epoch later");
    cluster.ok(desired("b", Desired::Stopped));
    assert!(cluster.apply(Command::MoveVm { vm: vm("b"), epoch: Epoch(1) }).is_err());
}

#[test]
fn nothing_is_planned_where_nothing_drains() {
    let mut cluster = cluster(1, None);
    cluster.ok(admission(1, Admission::Cordoned));
    assert_eq!(plan(&cluster.state, UnixMillis(u64::MAX)), DrainPlan::default());
}

#[test]
fn the_place_of_one_that_is_being_stopped_is_not_given_to_the_next() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 100)]);
    for name in ["a", "b"] {
        cluster.deploy(name, "a", spec(100));
        cluster.ok(place(name, 1, 1));
        cluster.ok(report(1, name, 1, running(1, HealthStatus::Healthy)));
    }
    cluster.ok(admission(1, draining(2, None)));
    assert_eq!(plan(&cluster.state, UnixMillis(0)).moves, [(vm("a"), Epoch(1))]);
    cluster.ok(Command::MoveVm { vm: vm("a"), epoch: Epoch(1) });
    let plan = plan(&cluster.state, UnixMillis(0));
    assert_eq!(plan.moves, [], "b would be stopped, and find no place");
    assert!(matches!(plan.staying[&vm("b")], Stays::NoHost(_)), "{:?}", plan.staying);
}
