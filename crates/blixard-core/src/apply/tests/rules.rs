//! When newer rules begin to hold.

use blixard_types::{ClusterId, Incarnation, NodeId};

use crate::command::{Command, FenceCommand, MembershipCommand, Outcome};
use crate::fixture::{Cluster, register};
use crate::rules::{KnownRules, RULES, Rules, UnknownRules};
use crate::state::Role;

fn know(node: u64, newest: u32) -> Command {
    Command::KnowRules { node: NodeId(node), newest: Rules(newest) }
}

/// Founded by rules 1, with servers 1 to 3 that have said so, and a host 4.
fn servers() -> Cluster {
    let mut cluster = Cluster::default();
    cluster.ok(Command::InitCluster { cluster: ClusterId([1; 16]), rules: Rules(1) });
    for node in 1..=3 {
        cluster.ok(register(node, &[Role::Server, Role::Host]));
        cluster.ok(know(node, 1));
    }
    cluster.ok(register(4, &[Role::Host]));
    cluster
}

#[test]
fn newer_rules_hold_once_the_last_server_knows_them() {
    let mut cluster = servers();
    for (node, newest, active) in [(1, 3, 1), (2, 2, 1), (3, 4, 2), (2, 3, 3), (2, 4, 3)] {
        cluster.ok(know(node, newest));
        assert_eq!(cluster.state.rules, Rules(active), "node {node} knows {newest}");
    }
    assert_eq!(cluster.ok(know(2, 4)), Outcome::Unchanged);
}

#[test]
fn rules_that_hold_hold_for_ever() {
    let mut cluster = servers();
    for node in 1..=3 {
        cluster.ok(know(node, 2));
    }
    cluster.ok(know(1, 1));
    // One that comes has said nothing yet.
    cluster.ok(register(5, &[Role::Server]));
    assert_eq!(cluster.state.rules, Rules(2));
    cluster.ok(know(1, 3));
    cluster.ok(know(2, 3));
    cluster.ok(know(3, 3));
    assert_eq!(cluster.state.rules, Rules(2), "the one that has come may not know them");
    cluster.ok(know(5, 3));
    assert_eq!(cluster.state.rules, Rules(3));
}

#[test]
fn who_is_no_server_any_more_is_not_waited_for() {
    let behind = || {
        let mut cluster = servers();
        cluster.ok(know(1, 2));
        cluster.ok(know(2, 2));
        cluster
    };
    let leave = [
        Command::Membership(MembershipCommand::RemoveNode { node: NodeId(3) }),
        Command::Membership(MembershipCommand::ForgetNode { node: NodeId(3) }),
    ];
    let mut removed = behind();
    for (command, active) in leave.into_iter().zip([1, 2]) {
        removed.ok(command);
        assert_eq!(removed.state.rules, Rules(active), "it applies the log until it has gone");
    }
    let mut demoted = behind();
    demoted.ok(register(3, &[Role::Host]));
    assert_eq!(demoted.state.rules, Rules(2));
    let mut alone = behind();
    let incarnation = Incarnation(2);
    alone.ok(Command::Fence(FenceCommand::BeginIncarnation { incarnation, survivor: Some(NodeId(1)) }));
    assert_eq!(alone.state.rules, Rules(2));
}

#[test]
fn a_log_of_before_goes_by_rules_without_a_number_until_its_servers_know_some() {
    let mut cluster = Cluster::default();
    cluster.ok(Command::InitCluster { cluster: ClusterId([1; 16]), rules: Rules::UNNUMBERED });
    cluster.ok(register(1, &[Role::Server]));
    assert_eq!(cluster.state.rules, Rules::UNNUMBERED);
    assert!(!serde_json::to_string(&cluster.state).unwrap().contains("\"rules\""), "as it was before");
    cluster.ok(know(1, RULES.newest.0));
    assert_eq!(cluster.state.rules, RULES.newest);
}

#[test]
fn a_program_goes_on_with_what_it_knows_alone() {
    let known = KnownRules { oldest: Rules(3), newest: Rules(5) };
    for fine in [Rules::UNNUMBERED, Rules(3), Rules(5)] {
        assert_eq!(known.check(fine), Ok(()));
    }
    let (newest, oldest) = (known.newest, known.oldest);
    assert_eq!(known.check(Rules(6)), Err(UnknownRules::Newer { active: Rules(6), newest }));
    assert_eq!(known.check(Rules(2)), Err(UnknownRules::Forgotten { active: Rules(2), oldest }));
    assert!(!known.contain(Rules::UNNUMBERED), "nobody promises what was made of those");
}
