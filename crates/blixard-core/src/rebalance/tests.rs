//! Rebalancing, round by round.

use super::*;
use crate::apply::Rejection;
use crate::command::{Command, FenceCommand, PlacementCommand};
use crate::fixture::{Cluster, desired, place, report, running, spec, vm};
use crate::ports::UnixMillis;
use crate::schedule;
use crate::state::{Admission, Desired, HealthStatus, VmReport};
use blixard_types::NodeId;

/// Four vms on host 1, which has room for no more; host 2 is empty.
fn cluster() -> Cluster {
    let mut cluster = Cluster::with_hosts(&[(1, 400), (2, 400)]);
    for name in ["a", "b", "c", "d"] {
        cluster.deploy(name, name, spec(100));
        cluster.ok(place(name, 1, 1));
        cluster.ok(report(1, name, 1, running(1, HealthStatus::Healthy)));
    }
    cluster
}

fn begin(cluster: &mut Cluster, names: &[&str], max_parallel: u32) {
    let moves = names.iter().map(|name| (vm(name), Epoch(1))).collect();
    cluster.ok(Command::Placement(PlacementCommand::Rebalance { moves, max_parallel }));
}

fn end() -> Command {
    Command::Placement(PlacementCommand::EndRebalance)
}

fn moved(name: &str, epoch: u64) -> Command {
    Command::MoveVm { vm: vm(name), epoch: Epoch(epoch) }
}

fn due(names: &[&str]) -> Next {
    Next::Moves(names.iter().map(|name| (vm(name), Epoch(1))).collect())
}

/// The host stops it, and it is placed anew and starts.
fn starts_elsewhere(cluster: &mut Cluster, name: &str) {
    cluster.ok(report(1, name, 1, VmReport::Stopped));
    let placed = schedule::plan(&cluster.state, UnixMillis(0)).placements;
    assert_eq!(
        placed.iter().map(|one| (one.vm.clone(), one.node)).collect::<Vec<_>>(),
        [(vm(name), NodeId(2))]
    );
    cluster.ok(place(name, 2, 2));
    cluster.ok(report(2, name, 2, running(1, HealthStatus::Pending)));
}

#[test]
fn what_was_placed_anew_since_it_was_decided_is_not_moved() {
    let mut cluster = cluster();
    begin(&mut cluster, &["a", "b"], 1);
    cluster.ok(report(1, "a", 1, VmReport::Stopped));
    cluster.ok(place("a", 1, 2));
    cluster.ok(report(1, "a", 2, running(1, HealthStatus::Healthy)));
    assert_eq!(next(&cluster.state), due(&["b"]));
}

#[test]
fn what_does_not_run_yet_is_not_moved() {
    let mut cluster = Cluster::with_hosts(&[(1, 400), (2, 400)]);
    for name in ["a", "b"] {
        cluster.deploy(name, name, spec(100));
        cluster.ok(place(name, 1, 1));
    }
    cluster.ok(report(1, "b", 1, running(1, HealthStatus::Healthy)));
    begin(&mut cluster, &["a", "b"], 2);
    assert_eq!(next(&cluster.state), due(&["b"]));
}

#[test]
fn moves_are_made_a_few_at_a_time_and_the_next_when_those_before_are_healthy() {
    let mut cluster = cluster();
    begin(&mut cluster, &["a", "b", "c"], 1);
    assert_eq!(next(&cluster.state), due(&["a"]));
    cluster.ok(moved("a", 1));
    assert_eq!(next(&cluster.state), Next::Wait);
    starts_elsewhere(&mut cluster, "a");
    assert_eq!(next(&cluster.state), Next::Wait, "it is not healthy yet");
    cluster.ok(report(2, "a", 2, running(1, HealthStatus::Healthy)));
    assert_eq!(next(&cluster.state), due(&["b"]));
    cluster.ok(moved("b", 1));
    starts_elsewhere(&mut cluster, "b");
    cluster.ok(report(2, "b", 2, running(1, HealthStatus::Healthy)));
    cluster.ok(moved("c", 1));
    assert_eq!(cluster.state.rebalancing, None, "the last move was made");
    assert_eq!(next(&cluster.state), Next::Wait);
}

#[test]
fn as_many_are_on_their_way_as_was_said_and_no_more() {
    let mut cluster = cluster();
    begin(&mut cluster, &["a", "b", "c"], 2);
    assert_eq!(next(&cluster.state), due(&["a", "b"]));
    cluster.ok(moved("a", 1));
    assert_eq!(next(&cluster.state), due(&["b"]));
    cluster.ok(moved("b", 1));
    assert_eq!(next(&cluster.state), Next::Wait);
}

#[test]
fn what_was_placed_anew_or_is_not_wanted_any_more_is_not_moved() {
    let mut cluster = cluster();
    begin(&mut cluster, &["a", "b"], 4);
    cluster.ok(desired("a", Desired::Stopped));
    cluster.ok(report(1, "b", 1, VmReport::Stopped));
    cluster.ok(place("b", 2, 2));
    assert_eq!(next(&cluster.state), Next::End);
    assert_eq!(
        cluster.apply(moved("b", 1)).unwrap_err().to_string(),
        "vm default/b is not at epoch 1 on node 2"
    );
    cluster.ok(end());
    assert_eq!(cluster.state.rebalancing, None);
}

#[test]
fn a_move_without_a_place_elsewhere_is_not_made() {
    let mut cluster = cluster();
    begin(&mut cluster, &["a"], 1);
    let cordon = FenceCommand::SetAdmission { node: NodeId(2), admission: Admission::Cordoned };
    cluster.ok(Command::Fence(cordon));
    assert_eq!(next(&cluster.state), Next::End, "it would only be restarted");
}

#[test]
fn nobody_moves_a_vm_for_a_drain_or_a_rebalancing_that_is_over() {
    let mut cluster = cluster();
    let not_leaving = Rejection::NotLeaving { vm: vm("a"), node: NodeId(1) };
    assert_eq!(cluster.apply(moved("a", 1)), Err(not_leaving.clone()));
    begin(&mut cluster, &["a", "b"], 2);
    cluster.ok(end());
    assert_eq!(cluster.apply(moved("a", 1)), Err(not_leaving.clone()));
    let admission = |admission| Command::Fence(FenceCommand::SetAdmission { node: NodeId(1), admission });
    cluster.ok(admission(Admission::Draining { max_parallel: 1, deadline: None }));
    cluster.ok(admission(Admission::Open));
    assert_eq!(cluster.apply(moved("a", 1)), Err(not_leaving));
    assert!(cluster.vm("a").wanted_there());
}

#[test]
fn a_rebalancing_names_placements_that_there_are() {
    let mut cluster = cluster();
    let refused = |cluster: &mut Cluster, moves: Vec<(VmId, Epoch)>| {
        let command = Command::Placement(PlacementCommand::Rebalance { moves, max_parallel: 1 });
        let refused = cluster.apply(command).unwrap_err();
        assert_eq!(cluster.state.rebalancing, None);
        refused.to_string()
    };
    assert_eq!(refused(&mut cluster, vec![(vm("nobody"), Epoch(1))]), "there is no vm default/nobody");
    assert_eq!(
        refused(&mut cluster, vec![(vm("a"), Epoch(1)), (vm("b"), Epoch(2))]),
        "vm default/b is not at epoch 2 on node 1"
    );
    let many = vec![(vm("a"), Epoch(1)); MOVES_MAX + 1];
    assert_eq!(refused(&mut cluster, many), "257 moves are more than one rebalancing makes");
}

#[test]
fn a_vm_that_was_told_to_leave_does_not_come_back_while_there_is_another_host() {
    let mut cluster = Cluster::with_hosts(&[(1, 1000), (2, 300)]);
    cluster.deploy("a", "a", spec(100));
    cluster.ok(place("a", 1, 1));
    cluster.ok(report(1, "a", 1, running(1, HealthStatus::Healthy)));
    begin(&mut cluster, &["a"], 1);
    cluster.ok(moved("a", 1));
    starts_elsewhere(&mut cluster, "a");
}
