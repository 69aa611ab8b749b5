//! What is out of balance, and what is done about it.

use std::fmt::Write as _;

use blixard_types::Spec;
use blixard_types::spec::{Constraint, ConstraintOperator, VolumeKind};
use proptest::prelude::*;

use super::*;
use crate::command::{Command, FenceCommand, PlacementCommand};
use crate::fixture::{Cluster, facts, place, report, running, session, spec, volume};
use crate::ports::UnixMillis;
use crate::rebalance::{Next, next};
use crate::schedule;
use crate::state::VmReport;

/// Places vms, which are healthy.
fn runs(cluster: &mut Cluster, name: &str, node: u64, spec: Spec) {
    cluster.deploy(name, name, spec);
    cluster.ok(place(name, node, 1));
    cluster.ok(report(node, name, 1, running(1, HealthStatus::Healthy)));
}

fn shown(cluster: &Cluster) -> String {
    let plan = plan(&cluster.state);
    let mut out = String::new();
    for one in &plan.moves {
        let _ = writeln!(out, "{} n{} -> n{}: {}", one.vm, one.from.0, one.to.0, one.because);
    }
    for (node, (now, then)) in &plan.hosts {
        let _ = write!(out, "n{} {now} -> {then}; ", node.0);
    }
    out
}

fn labelled(cluster: &mut Cluster, node: u64, start: u64, zone: &str) {
    let mut facts = facts(1000);
    facts.terms.labels.insert("zone".to_owned(), zone.to_owned());
    cluster.ok(session(node, start, facts));
}

#[test]
fn a_fuller_host_gives_to_an_emptier_one_as_few_as_will_do() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    for (name, memory) in [("a", 100), ("b", 400), ("c", 100), ("d", 200)] {
        runs(&mut cluster, name, 1, spec(memory));
    }
    insta::assert_snapshot!(shown(&cluster), @"
    default/b n1 -> n2: its host is 80 % full, the other 0 %; 40 % and 40 % with it there
    n1 80 % -> 40 %; n2 0 % -> 40 %;
    ");
}

#[test]
fn what_gains_little_is_not_worth_a_restart() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    runs(&mut cluster, "a", 1, spec(40));
    runs(&mut cluster, "b", 1, spec(500));
    runs(&mut cluster, "c", 2, spec(480));
    insta::assert_snapshot!(shown(&cluster), @"n1 54 % -> 54 %; n2 48 % -> 48 %;");
}

#[test]
fn a_vm_leaves_a_host_that_is_not_what_it_requires_any_more() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    labelled(&mut cluster, 1, 2, "a");
    labelled(&mut cluster, 2, 2, "a");
    let mut choosy = spec(10);
    let (label, operator, values) = ("zone".to_owned(), ConstraintOperator::In, vec!["a".to_owned()]);
    choosy.placement.constraints = vec![Constraint { label, operator, values }];
    cluster.deploy("web", "web", choosy);
    cluster.ok(place("web", 1, 1));
    cluster.ok(crate::fixture::report_of(
        1,
        crate::fixture::daemon(1, 2),
        "web",
        1,
        running(1, HealthStatus::Healthy),
    ));
    assert_eq!(plan(&cluster.state).moves, []);
    labelled(&mut cluster, 1, 3, "b");
    insta::assert_snapshot!(shown(&cluster), @"
    default/web n1 -> n2: its host does not meet: label zone in [a]
    n1 1 % -> 0 %; n2 0 % -> 1 %;
    ");
}

#[test]
fn vms_that_avoid_each_other_part_and_one_that_likes_another_follows() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    let replica = || {
        let mut spec = spec(10);
        spec.labels.insert("app".to_owned(), "web".to_owned());
        spec.placement.anti_affinity.insert("app".to_owned(), "web".to_owned());
        spec
    };
    runs(&mut cluster, "web-1", 1, replica());
    runs(&mut cluster, "web-2", 1, replica());
    let mut near = spec(10);
    near.placement.affinity.insert("blixard/vm".to_owned(), "default/db".to_owned());
    runs(&mut cluster, "cache", 1, near);
    runs(&mut cluster, "db", 2, spec(10));
    insta::assert_snapshot!(shown(&cluster), @"
    default/cache n1 -> n2: +10 points by affinities there, +0 here
    default/web-1 n1 -> n2: +0 points by affinities there, -10 here
    n1 3 % -> 1 %; n2 1 % -> 3 %;
    ");
}

#[test]
fn what_is_packed_or_pinned_or_on_its_way_or_not_well_stays() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    let mut packed = spec(200);
    packed.placement.strategy = blixard_types::spec::Strategy::Binpack;
    runs(&mut cluster, "packed", 1, packed);
    let mut pinned = spec(200);
    pinned.volumes = vec![volume("data", 1, VolumeKind::Local)];
    runs(&mut cluster, "pinned", 1, pinned);
    runs(&mut cluster, "sick", 1, spec(200));
    cluster.ok(report(1, "sick", 1, running(1, HealthStatus::Pending)));
    insta::assert_snapshot!(shown(&cluster), @"n1 60 % -> 60 %; n2 0 % -> 0 %;");
}

#[test]
fn a_host_that_is_cordoned_keeps_what_it_has_and_is_given_nothing() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000), (3, 1000)]);
    runs(&mut cluster, "a", 1, spec(400));
    runs(&mut cluster, "b", 1, spec(400));
    for node in [1, 2] {
        let cordon = FenceCommand::SetAdmission { node: NodeId(node), admission: Admission::Cordoned };
        cluster.ok(Command::Fence(cordon));
    }
    insta::assert_snapshot!(shown(&cluster), @"n3 0 % -> 0 %;");
}

/// Carries a rebalancing out, as leader and hosts do; gives where each vm went.
fn carry_out(cluster: &mut Cluster, moves: &[Move]) -> Vec<(VmId, NodeId)> {
    let named = moves.iter().map(|one| (one.vm.clone(), one.epoch)).collect();
    cluster.ok(Command::Placement(PlacementCommand::Rebalance { moves: named, max_parallel: 1 }));
    let mut went = Vec::new();
    loop {
        let due = match next(&cluster.state) {
            Next::Wait => return went,
            Next::End => {
                cluster.ok(Command::Placement(PlacementCommand::EndRebalance));
                return went;
            }
            Next::Moves(due) => due,
        };
        for (id, epoch) in due {
            let from = cluster.state.vms[&id].run.host().unwrap().0;
            let name = id.to_string();
            cluster.ok(Command::MoveVm { vm: id.clone(), epoch });
            cluster.ok(report(from, &name, epoch.0, VmReport::Stopped));
            for one in schedule::plan(&cluster.state, UnixMillis(0)).placements {
                assert_eq!(one.vm, id);
                cluster.ok(place(&name, one.node.0, one.epoch.0));
                cluster.ok(report(one.node.0, &name, one.epoch.0, running(1, HealthStatus::Healthy)));
                went.push((one.vm, one.node));
            }
        }
    }
}

proptest! {
    #[test]
    fn every_vm_goes_where_it_was_foretold_once_and_then_nothing_moves(
        vms in prop::collection::vec((1..4_u64, 1..30_u64, 0..3_u8), 1..14),
        memories in prop::collection::vec(300..1200_u64, 3),
    ) {
        let hosts: Vec<_> = memories.iter().zip(1..).map(|(&memory, node)| (node, memory)).collect();
        let mut cluster = Cluster::with_hosts(&hosts);
        for (at, (node, memory, company)) in vms.into_iter().enumerate() {
            let mut spec = spec(memory * 10);
            match company {
                1 => drop(spec.placement.anti_affinity.insert("app".to_owned(), "x".to_owned())),
                2 => drop(spec.labels.insert("app".to_owned(), "x".to_owned())),
                _ => {}
            }
            let name = format!("vm-{at}");
            cluster.deploy(&name, &name, spec);
            if cluster.apply(place(&name, node, 1)).is_ok() {
                cluster.ok(report(node, &name, 1, running(1, HealthStatus::Healthy)));
            } else {
                cluster.ok(crate::fixture::delete(&name));
            }
        }
        let planned = plan(&cluster.state);
        let mut names: Vec<_> = planned.moves.iter().map(|one| one.vm.clone()).collect();
        let foretold: Vec<_> = planned.moves.iter().map(|one| (one.vm.clone(), one.to)).collect();
        names.sort();
        names.dedup();
        prop_assert_eq!(names.len(), planned.moves.len(), "a vm moves twice");
        prop_assert!(planned.moves.iter().all(|one| one.from != one.to));
        if planned.moves.is_empty() {
            return Ok(());
        }
        let worst = |of: fn(&(Share, Share)) -> Share| planned.hosts.values().map(of).max();
        let for_room = planned.moves.iter().all(|one| matches!(one.because, Because::Room { .. }));
        prop_assert!(!for_room || worst(|share| share.1) <= worst(|share| share.0), "it is no better");
        prop_assert_eq!(carry_out(&mut cluster, &planned.moves), foretold);
        prop_assert!(cluster.state.rebalancing.is_none());
        let then: BTreeMap<_, _> = plan(&cluster.state).hosts.iter().map(|(&node, share)| (node, share.0)).collect();
        let said: BTreeMap<_, _> = planned.hosts.iter().map(|(&node, share)| (node, share.1)).collect();
        prop_assert_eq!(then, said, "hosts are not as full as was foretold");
    }
}
