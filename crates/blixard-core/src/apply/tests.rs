//! Every command and every refusal; what must hold of all sequences is in [`safety`].

mod builder;
mod deploy;
mod discard;
mod evaluation;
mod lifecycle;
mod membership;
mod principal;
mod restart;
mod rollback;
mod rules;
mod safety;
mod task;
mod terms;
mod volume;
mod volume_safety;

use blixard_types::{ClusterId, Epoch, NodeId, RequestId, Revision};

use super::Rejection;
use crate::command::{Command, Outcome, TakeOver};
use crate::fixture::{
    Cluster, daemon, definition, delete, deploy, desired, facts, place, register, report, report_of, session,
    spec, starting, vm,
};
use crate::ports::UnixMillis;
use crate::rules::RULES;
use crate::state::{
    ClusterState, Desired, EVENTS_KEPT, REQUESTS_KEPT_MS, REQUESTS_MAX, Resource, Role, Shortage, VmReport,
};

/// Hosts 1 and 2, a server 3 that runs no vms, a host 4 whose daemon has not spoken; vms in every
/// stage of life, and `big`, which fits nowhere.
fn scene() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 1000)]);
    cluster.ok(register(3, &[Role::Server]));
    cluster.ok(session(3, 1, facts(1000)));
    cluster.ok(register(4, &[Role::Host]));
    cluster.deploy("idle", "a", spec(100));
    cluster.deploy("halted", "a", spec(100));
    cluster.ok(desired("halted", Desired::Stopped));
    cluster.deploy("placed", "a", spec(100));
    cluster.ok(place("placed", 1, 1));
    cluster.deploy("going", "a", spec(100));
    cluster.ok(place("going", 1, 1));
    cluster.ok(delete("going"));
    cluster.deploy("big", "a", spec(1001));
    cluster
}

/// The state without the two things that even a refused command changes.
fn but_for_the_log(mut state: ClusterState) -> ClusterState {
    state.applied = ClusterState::default().applied;
    state.requests = ClusterState::default().requests;
    state
}

/// The command is refused with this, changes nothing, and is refused so again when it is repeated.
#[track_caller]
fn check(command: Command, expected: &Rejection) {
    let mut cluster = scene();
    let before = but_for_the_log(cluster.state.clone());
    let request = RequestId([9; 16]);
    for command in [command.clone(), command] {
        let shown = format!("{command:?}");
        let refused = cluster.apply_as(request, command);
        assert_eq!(refused.as_ref(), Err(expected), "{shown}");
        assert_eq!(but_for_the_log(cluster.state.clone()), before, "{shown}");
        assert_eq!(cluster.state.applied.index, cluster.index);
    }
    assert_eq!(cluster.state.requests.outcome(request), Some(&Err(expected.clone())));
}

fn other_source(take_over: TakeOver) -> Command {
    let Command::Deploy(mut other) = deploy(vec![definition("idle", "b", spec(100))]) else { unreachable!() };
    other.source = "git+https://example.org/others".parse().unwrap();
    other.take_over = take_over;
    Command::Deploy(other)
}

#[test]
fn a_vm_that_is_not_there_is_named() {
    let unknown = Rejection::UnknownVm { vm: vm("nobody") };
    check(place("nobody", 1, 1), &unknown);
    check(report(1, "nobody", 1, VmReport::Stopped), &unknown);
    check(desired("nobody", Desired::Running), &unknown);
    check(delete("nobody"), &unknown);
}

#[test]
fn a_node_that_is_not_there_is_named() {
    let unknown = Rejection::UnknownNode { node: NodeId(9) };
    check(place("idle", 9, 1), &unknown);
    check(session(9, 1, facts(1)), &unknown);
    check(report(9, "placed", 1, VmReport::Stopped), &unknown);
}

#[test]
fn a_vm_is_placed_only_where_it_may_run() {
    check(place("idle", 3, 1), &Rejection::NotAHost { node: NodeId(3) });
    check(place("idle", 4, 1), &Rejection::NotAHost { node: NodeId(4) });
    check(place("halted", 1, 1), &Rejection::NotWanted { vm: vm("halted") });
    let shortage = Shortage { resource: Resource::MemoryMib, needed: 1001, free: 800 };
    let (vm, node) = (vm("big"), NodeId(1));
    check(place("big", 1, 1), &Rejection::NoRoom { vm, node, shortage });
}

#[test]
fn a_vm_that_is_placed_is_not_placed_again_at_any_epoch_on_any_host() {
    for name in ["placed", "going"] {
        for (node, epoch) in [(1, 1), (1, 2), (2, 1), (2, 2), (9, 2)] {
            let still = Rejection::StillPlaced { vm: vm(name), host: NodeId(1), epoch: Epoch(1) };
            check(place(name, node, epoch), &still);
        }
    }
}

#[test]
fn a_placement_is_at_the_next_epoch_and_no_other() {
    for epoch in [0, 2, 3, u64::MAX] {
        let other = Rejection::OtherEpoch { vm: vm("idle"), node: NodeId(1), epoch: Epoch(epoch) };
        check(place("idle", 1, epoch), &other);
    }
}

#[test]
fn a_report_counts_only_from_the_daemon_in_charge_of_that_epoch_there() {
    for said in [VmReport::Stopped, starting(1)] {
        let stale = |node| Rejection::StaleSession { node: NodeId(node) };
        check(report_of(1, daemon(1, 2), "placed", 1, said.clone()), &stale(1));
        check(report_of(2, daemon(1, 1), "placed", 1, said.clone()), &stale(2));
        check(report_of(4, daemon(4, 1), "placed", 1, said.clone()), &stale(4));
        for (name, node, epoch) in [("placed", 1, 0), ("placed", 1, 2), ("placed", 2, 1), ("idle", 1, 0)] {
            let other = Rejection::OtherEpoch { vm: vm(name), node: NodeId(node), epoch: Epoch(epoch) };
            check(report(node, name, epoch, said.clone()), &other);
        }
    }
}

#[test]
fn a_vm_that_is_being_deleted_is_left_alone() {
    let going = Rejection::BeingDeleted { vm: vm("going") };
    check(desired("going", Desired::Running), &going);
    check(desired("going", Desired::Stopped), &going);
    check(deploy(vec![definition("going", "b", spec(1))]), &going);
}

#[test]
fn a_deployment_is_taken_whole_or_not_at_all() {
    check(deploy(vec![]), &Rejection::EmptyDeployment);
    let new = || definition("new", "b", spec(1));
    let twice = Rejection::NamedTwice { vm: vm("new") };
    check(deploy(vec![new(), new()]), &twice);
    let going = Rejection::BeingDeleted { vm: vm("going") };
    check(deploy(vec![new(), definition("idle", "b", spec(1)), definition("going", "b", spec(1))]), &going);
}

#[test]
fn a_vm_of_another_source_is_refused_without_take_over() {
    let refused = Rejection::OtherSource {
        vm: vm("idle"),
        owner: crate::fixture::SOURCE.parse().unwrap(),
        source_id: "git+https://example.org/others".parse().unwrap(),
    };
    check(other_source(TakeOver::Refuse), &refused);
    let mut cluster = scene();
    cluster.ok(other_source(TakeOver::Allow));
    assert_eq!(cluster.vm("idle").source.as_str(), "git+https://example.org/others");
    assert_eq!(cluster.vm("placed").source.as_str(), crate::fixture::SOURCE);
}

#[test]
fn a_cluster_has_one_identity_and_nothing_comes_before_it() {
    let init = |byte| Command::InitCluster { cluster: ClusterId([byte; 16]), rules: RULES.newest };
    check(init(2), &Rejection::AlreadyInitialised);
    check(init(1), &Rejection::AlreadyInitialised);
    for command in [
        register(1, &[Role::Host]),
        session(1, 1, facts(1)),
        deploy(vec![]),
        place("idle", 1, 1),
        delete("idle"),
    ] {
        assert_eq!(Cluster::default().apply(command), Err(Rejection::NotInitialised));
    }
    assert_eq!(scene().state.incarnation().0, 1);
}

#[test]
fn two_nodes_never_share_a_name() {
    let Command::RegisterNode { name, .. } = register(1, &[]) else { unreachable!() };
    let other = NodeId(1);
    let named = Command::RegisterNode { node: NodeId(2), name: name.clone(), roles: [].into() };
    check(named, &Rejection::NameTaken { name, other });
}

#[test]
fn a_node_that_is_registered_anew_keeps_its_session() {
    let mut cluster = scene();
    let before = cluster.state.nodes[&NodeId(1)].clone();
    assert_eq!(cluster.ok(register(1, &[Role::Host])), Outcome::Unchanged);
    cluster.ok(register(1, &[Role::Host, Role::Server]));
    let after = &cluster.state.nodes[&NodeId(1)];
    assert_eq!(after.session, before.session);
    assert_eq!(after.roles, [Role::Host, Role::Server].into());
    assert_eq!(cluster.state.node_by_name(&before.name).map(|(id, _)| id), Some(NodeId(1)));
}

#[test]
fn a_session_that_is_open_is_not_opened_again() {
    let mut cluster = scene();
    assert_eq!(cluster.ok(session(1, 1, facts(1000))), Outcome::Unchanged);
    let opened = cluster.state.nodes[&NodeId(1)].session.as_ref().unwrap().opened;
    let changed = cluster.ok(session(1, 2, facts(1000)));
    let revision = Revision(cluster.index);
    assert!(revision > opened);
    assert_eq!(changed, Outcome::Changed { revision });
    assert_eq!(cluster.state.nodes[&NodeId(1)].session.as_ref().unwrap().opened, revision);
}

#[test]
fn a_daemon_that_was_replaced_never_gets_its_session_back() {
    let mut cluster = scene();
    cluster.ok(session(1, 2, facts(1000)));
    // The hello of the first daemon, proposed twice, arrives late; so does its last word on a vm.
    let stale = Err(Rejection::StaleSession { node: NodeId(1) });
    assert_eq!(cluster.apply(session(1, 1, facts(1000))), stale);
    assert_eq!(cluster.apply(report(1, "placed", 1, VmReport::Stopped)), stale);
    cluster.ok(report_of(1, daemon(1, 2), "placed", 1, VmReport::Stopped));
}

#[test]
fn the_same_call_changes_the_state_once_and_has_one_outcome() {
    let request = RequestId([9; 16]);
    let grown = || deploy(vec![definition("idle", "b", spec(200))]);
    let calls = [
        grown(),
        place("idle", 1, 1),
        report(1, "placed", 1, VmReport::Stopped),
        desired("idle", Desired::Stopped),
        delete("idle"),
        session(1, 2, facts(1000)),
        register(5, &[Role::Host]),
    ];
    for command in calls {
        let mut cluster = scene();
        let first = cluster.apply_as(request, command.clone());
        assert!(first.is_ok(), "{command:?}");
        let once = but_for_the_log(cluster.state.clone());
        // A later change must not be undone by the repetition.
        cluster.deploy("later", "b", spec(1));
        let later = cluster.state.vms[&vm("later")].clone();
        assert_eq!(cluster.apply_as(request, command.clone()), first, "{command:?}");
        // Nor does a request id stand for what else is in the command.
        assert_eq!(cluster.apply_as(request, delete("later")), first);
        assert_eq!(cluster.state.vms.remove(&vm("later")), Some(later));
        assert_eq!(cluster.state.vms, once.vms, "{command:?}");
        assert_eq!(cluster.state.nodes, once.nodes, "{command:?}");
    }
}

#[test]
fn a_call_that_finds_no_room_is_taken_when_it_is_made_again_and_there_is_some() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000)]);
    let call = RequestId([9; 16]);
    for number in 0..REQUESTS_MAX as u64 {
        let other = RequestId((u128::from(number) | 1 << 100).to_be_bytes());
        cluster.state.requests.remember(other, Ok(Outcome::Unchanged));
    }
    cluster.at = UnixMillis(cluster.at.0 + REQUESTS_KEPT_MS / 2);
    let wish = || deploy(vec![definition("web", "a", spec(100))]);
    assert_eq!(cluster.apply_as(call, wish()), Err(Rejection::TooManyCalls));
    assert!(cluster.state.vms.is_empty());
    // The others are forgotten by then; a refusal that was remembered would not be.
    cluster.at = UnixMillis(cluster.at.0 + REQUESTS_KEPT_MS / 2 + 10_001);
    assert!(cluster.apply_as(call, wish()).is_ok());
}

#[test]
fn the_log_of_events_keeps_the_newest_and_that_of_requests_those_of_the_last_minute() {
    let mut cluster = Cluster::with_hosts(&[]);
    cluster.deploy("web", "a", spec(1));
    let mut requests = Vec::new();
    for round in 0..=EVENTS_KEPT as u64 {
        let request = RequestId(u128::from(1_000_000 + round).to_be_bytes());
        requests.push(request);
        let wanted = [Desired::Stopped, Desired::Running][usize::from(round % 2 == 1)];
        cluster.apply_as(request, desired("web", wanted)).unwrap();
    }
    assert_eq!(cluster.state.events.iter().count(), EVENTS_KEPT);
    let newest = cluster.state.events.iter().next_back().unwrap();
    assert_eq!(newest.revision, Revision(cluster.index));
    let known = |cluster: &Cluster, request| cluster.state.requests.outcome(request).is_some();
    assert!(requests.iter().all(|request| known(&cluster, *request)));
    // As much more as the leader's first command may have been late.
    cluster.at = UnixMillis(cluster.at.0 + REQUESTS_KEPT_MS + 10_001);
    cluster.ok(desired("web", Desired::Running));
    assert!(!requests.iter().any(|request| known(&cluster, *request)));
}
