//! What a host is granted, at each point of a vm's life.

use super::*;
use crate::fixture::{Cluster, closure, delete, desired, failed, place, report, running, spec, starting, vm};
use crate::state::{Desired, HealthStatus, VmReport};

fn run(generation: u64, runner: &str, memory_mib: u64) -> Intent {
    Intent::Run(Box::new(RunIntent {
        generation: GenerationNumber(generation),
        closure: closure(runner),
        spec: spec(memory_mib),
        sources: vec![],
        volumes: [].into(),
    }))
}

/// Host 1 is granted this for `web`, with this epoch, and keeps these generations; host 2 has neither.
#[track_caller]
fn check(cluster: &Cluster, granted: Option<(u64, Intent)>, retained: &[u64]) {
    let set = assignments_of(&cluster.state, NodeId(1));
    let granted = granted.map(|(epoch, intent)| (vm("web"), Assignment { epoch: Epoch(epoch), intent }));
    assert_eq!(set.assignments, granted.into_iter().collect());
    let retained = (!retained.is_empty())
        .then(|| (vm("web"), retained.iter().copied().map(GenerationNumber).collect::<BTreeSet<_>>()));
    assert_eq!(set.retained, retained.into_iter().collect());
    assert_eq!(assignments_of(&cluster.state, NodeId(2)), AssignmentSet::default());
}

#[test]
fn a_host_is_granted_what_is_placed_on_it_until_it_says_that_it_has_ended() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "a", spec(100));
    check(&cluster, None, &[]);
    cluster.ok(place("web", 1, 1));
    check(&cluster, Some((1, run(1, "a", 100))), &[1]);
    for said in [starting(1), running(1, HealthStatus::Healthy)] {
        cluster.ok(report(1, "web", 1, said));
        check(&cluster, Some((1, run(1, "a", 100))), &[1]);
    }
    cluster.deploy("web", "b", spec(200));
    check(&cluster, Some((1, run(2, "b", 200))), &[1, 2]);
    cluster.ok(desired("web", Desired::Stopped));
    check(&cluster, Some((1, Intent::Stop)), &[1, 2]);
    cluster.ok(desired("web", Desired::Running));
    check(&cluster, Some((1, run(2, "b", 200))), &[1, 2]);
    cluster.ok(report(1, "web", 1, failed(2, "boom")));
    check(&cluster, None, &[1, 2]);
    cluster.ok(place("web", 1, 2));
    check(&cluster, Some((2, run(2, "b", 200))), &[1, 2]);
    cluster.ok(delete("web"));
    check(&cluster, Some((2, Intent::Stop)), &[1, 2]);
    cluster.ok(report(1, "web", 2, VmReport::Stopped));
    check(&cluster, None, &[]);
}

#[test]
fn a_host_keeps_nothing_of_a_vm_once_it_runs_elsewhere_and_gives_its_closure_until_then() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000), (3, 1000)]);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 2, 1));
    cluster.ok(report(2, "web", 1, running(1, HealthStatus::Healthy)));
    cluster.ok(report(2, "web", 1, VmReport::Stopped));
    let keeps = |cluster: &Cluster, host| !assignments_of(&cluster.state, NodeId(host)).retained.is_empty();
    let sources = |cluster: &Cluster, host| {
        let set = assignments_of(&cluster.state, NodeId(host));
        let Intent::Run(run) = &set.assignments[&vm("web")].intent else { panic!("it should run") };
        run.sources.clone()
    };
    // It does not come up on the first host that it goes to, which has nothing to give.
    for (host, epoch) in [(3, 2), (1, 3)] {
        cluster.ok(place("web", host, epoch));
        assert_eq!(sources(&cluster, host), [NodeId(2)]);
        assert!(keeps(&cluster, 2) && keeps(&cluster, host));
        if host == 3 {
            cluster.ok(report(host, "web", epoch, failed(1, "no closure")));
        }
    }
    assert!(!keeps(&cluster, 3));
    cluster.ok(report(1, "web", 3, running(1, HealthStatus::Pending)));
    check(&cluster, Some((3, run(1, "a", 100))), &[1]);
}

#[test]
fn a_vm_that_goes_back_to_where_it_was_has_left_nobody() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.deploy("web", "a", spec(100));
    for (host, epoch) in [(1, 1), (2, 2), (1, 3)] {
        cluster.ok(place("web", host, epoch));
        if epoch < 3 {
            cluster.ok(report(host, "web", epoch, failed(1, "boom")));
        }
    }
    check(&cluster, Some((3, run(1, "a", 100))), &[1]);
}

#[test]
fn a_generation_that_is_no_longer_kept_is_no_longer_retained() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    for round in 1..=10 {
        cluster.deploy("web", "a", spec(round));
    }
    cluster.ok(place("web", 1, 1));
    cluster.deploy("web", "a", spec(11));
    check(&cluster, Some((1, run(11, "a", 11))), &[2, 3, 4, 5, 6, 7, 8, 9, 10, 11]);
}

#[test]
fn a_host_is_told_who_has_the_closure_the_builder_first_and_never_itself() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000), (3, 1000)]);
    for name in ["web", "db"] {
        cluster.deploy(name, "a", spec(100));
    }
    cluster.ok(place("db", 2, 1));
    let built = |cluster: &mut Cluster, by: Option<NodeId>| {
        let vm = cluster.state.vms.get_mut(&vm("web")).unwrap();
        vm.generations.values_mut().for_each(|generation| generation.builder = by);
        cluster.ok(place("web", 1, vm_epoch(cluster)));
        let set = assignments_of(&cluster.state, NodeId(1));
        let Intent::Run(run) = set.assignments[&super::super::fixture::vm("web")].intent.clone() else {
            panic!("it should run")
        };
        cluster.ok(report(1, "web", vm_epoch(cluster) - 1, VmReport::Stopped));
        run.sources
    };
    assert_eq!(built(&mut cluster, Some(NodeId(3))), [NodeId(3), NodeId(2)]);
    assert_eq!(built(&mut cluster, Some(NodeId(1))), [NodeId(2)]);
    assert_eq!(built(&mut cluster, Some(NodeId(2))), [NodeId(2)]);
    assert_eq!(built(&mut cluster, None), [NodeId(2)]);
    cluster.state.nodes.get_mut(&NodeId(3)).unwrap().presence = Presence::Lost;
    assert_eq!(built(&mut cluster, Some(NodeId(3))), [NodeId(2), NodeId(3)], "who is lost is asked last");
}

fn vm_epoch(cluster: &Cluster) -> u64 {
    cluster.vm("web").last_epoch.0 + 1
}

#[test]
fn an_index_says_whom_a_change_may_concern() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000), (3, 1000)]);
    let mut index = Index::of(&cluster.state);
    let mut touched = |cluster: &Cluster| match index.follow(&cluster.state) {
        Touched::Hosts(hosts) => hosts.into_iter().map(|host| host.0).collect::<Vec<_>>(),
        Touched::All => panic!("all"),
    };
    cluster.deploy("web", "a", spec(100));
    assert_eq!(touched(&cluster), [0; 0]);
    cluster.ok(place("web", 1, 1));
    assert_eq!(touched(&cluster), [1]);
    assert_eq!(touched(&cluster), [0; 0], "nothing has happened since");
    cluster.ok(report(1, "web", 1, VmReport::Stopped));
    cluster.ok(place("web", 2, 2));
    assert_eq!(touched(&cluster), [1, 2]);
    cluster.ok(desired("web", Desired::Stopped));
    cluster.ok(report(2, "web", 2, VmReport::Stopped));
    assert_eq!(touched(&cluster), [1, 2]);
    cluster.ok(delete("web"));
    assert_eq!(touched(&cluster), [1, 2], "it is gone, and those that had it learn of it");
    assert_eq!(assignments_of(&cluster.state, NodeId(2)), AssignmentSet::default());
}

#[test]
fn an_index_that_is_far_behind_reads_all_anew() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    let mut index = Index::of(&cluster.state);
    cluster.deploy("web", "a", spec(100));
    cluster.ok(place("web", 1, 1));
    for _ in 0..crate::state::EVENTS_KEPT {
        cluster.ok(desired("web", Desired::Stopped));
        cluster.ok(desired("web", Desired::Running));
    }
    assert_eq!(index.follow(&cluster.state), Touched::All);
    let set = index.assignments(&cluster.state, NodeId(1));
    assert_eq!(set.assignments.len(), 1);
    assert_eq!(set, assignments_of(&cluster.state, NodeId(1)));
}
