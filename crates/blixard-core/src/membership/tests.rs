use super::*;
use crate::command::{Command, MembershipCommand};
use crate::fixture::{Cluster, register};
use crate::ports::members::Member;

/// Servers with these numbers, each with an address, and a host without the log as number 9.
fn cluster(servers: &[u64]) -> Cluster {
    let mut cluster = Cluster::with_hosts(&[]);
    for &id in servers {
        cluster.ok(register(id, &[Role::Server]));
        let address = format!("n{id}:7440").parse().unwrap();
        cluster.ok(Command::Membership(MembershipCommand::SetAddress { node: NodeId(id), address }));
    }
    cluster.ok(register(9, &[Role::Host]));
    cluster
}

fn member(id: u64, role: MemberRole, silent_ms: Option<u64>) -> Progress {
    let member = Member { node: NodeId(id), name: format!("n{id}"), address: format!("n{id}:7440"), role };
    Progress { member, matched: silent_ms.map(|_| 100), lag: 0, silent_ms }
}

fn voter(id: u64) -> Progress {
    member(id, MemberRole::Voter, Some(10))
}

fn learner(id: u64) -> Progress {
    member(id, MemberRole::Learner, Some(10))
}

fn silent(progress: Progress, silent_ms: u64) -> Progress {
    Progress { silent_ms: Some(silent_ms), ..progress }
}

fn group(leader: u64, members: Vec<Progress>) -> Group {
    Group { leader: NodeId(leader), led_ms: 60_000, members, change: Change::Settled }
}

#[expect(clippy::unnecessary_wraps, reason = "as a plan gives it")]
fn voters(ids: &[u64]) -> Option<MembershipStep> {
    Some(MembershipStep::Voters(ids.iter().copied().map(NodeId).collect()))
}

fn remove(cluster: &mut Cluster, id: u64) {
    cluster.ok(Command::Membership(MembershipCommand::RemoveNode { node: NodeId(id) }));
}

#[test]
fn a_server_is_added_before_it_votes_and_a_host_never_is() {
    let cluster = cluster(&[1, 2]);
    let step = plan(&cluster.state, &group(1, vec![voter(1)]));
    let (name, address) = ("n2".parse().unwrap(), "n2:7440".parse().unwrap());
    assert_eq!(step, Some(MembershipStep::Add { node: NodeId(2), name, address }));
}

#[test]
fn the_number_of_voters_is_odd_and_at_most_five() {
    for (servers, expected) in
        [(2, None), (3, voters(&[1, 2, 3])), (4, voters(&[1, 2, 3])), (6, voters(&[1, 2, 3, 4, 5]))]
    {
        let ids: Vec<u64> = (1..=servers).collect();
        let mut members: Vec<Progress> = ids.iter().map(|&id| learner(id)).collect();
        members[0] = voter(1);
        assert_eq!(plan(&cluster(&ids).state, &group(1, members)), expected, "{servers}");
    }
}

#[test]
fn a_learner_votes_only_when_it_answers_and_has_caught_up() {
    let cluster = cluster(&[1, 2, 3]);
    let behind = Progress { lag: CAUGHT_UP_ENTRIES + 1, ..learner(3) };
    let never = member(3, MemberRole::Learner, None);
    for third in [behind, never, silent(learner(3), HEALTHY_WITHIN_MS)] {
        assert_eq!(plan(&cluster.state, &group(1, vec![voter(1), learner(2), third])), None);
    }
}

#[test]
fn a_voter_that_is_silent_for_long_is_replaced_by_a_learner_and_by_nobody_else() {
    let three = cluster(&[1, 2, 3]);
    let lost = || silent(voter(3), REPLACED_AFTER_MS);
    assert_eq!(plan(&three.state, &group(1, vec![voter(1), voter(2), lost()])), None);
    let four = cluster(&[1, 2, 3, 4]);
    assert_eq!(
        plan(&four.state, &group(1, vec![voter(1), voter(2), lost(), learner(4)])),
        voters(&[1, 2, 4])
    );
    let briefly = silent(voter(3), REPLACED_AFTER_MS - 1);
    assert_eq!(plan(&four.state, &group(1, vec![voter(1), voter(2), briefly, learner(4)])), None);
    // A new leader gives those that have not answered it yet the same time.
    let unheard = member(3, MemberRole::Voter, None);
    let mut young = group(1, vec![voter(1), voter(2), unheard, learner(4)]);
    young.led_ms = REPLACED_AFTER_MS - 1;
    assert_eq!(plan(&four.state, &young), None);
    young.led_ms = REPLACED_AFTER_MS;
    assert_eq!(plan(&four.state, &young), voters(&[1, 2, 4]));
}

#[test]
fn a_node_goes_in_steps_each_of_which_leaves_a_majority() {
    let mut cluster = cluster(&[1, 2, 3]);
    remove(&mut cluster, 3);
    let step = |members| plan(&cluster.state, &group(1, members));
    assert_eq!(step(vec![voter(1), voter(2), voter(3)]), voters(&[1]));
    let expel = Some(MembershipStep::Expel { node: NodeId(3) });
    assert_eq!(step(vec![voter(1), learner(2), learner(3)]), expel);
    assert_eq!(step(vec![voter(1), learner(2)]), Some(MembershipStep::Forget { node: NodeId(3) }));
    cluster.ok(Command::Membership(MembershipCommand::ForgetNode { node: NodeId(3) }));
    assert_eq!(plan(&cluster.state, &group(1, vec![voter(1), learner(2)])), None);
}

#[test]
fn a_leader_that_is_to_go_hands_over_to_the_voter_that_lacks_least() {
    let mut cluster = cluster(&[1, 2, 3]);
    remove(&mut cluster, 1);
    let behind = Progress { lag: 5, ..voter(2) };
    let step = plan(&cluster.state, &group(1, vec![voter(1), behind.clone(), voter(3)]));
    assert_eq!(step, Some(MembershipStep::HandOver { to: NodeId(3) }));
    let gone = silent(voter(3), HEALTHY_WITHIN_MS);
    let step = plan(&cluster.state, &group(1, vec![voter(1), behind, gone]));
    assert_eq!(step, Some(MembershipStep::HandOver { to: NodeId(2) }));
}

#[test]
fn of_two_servers_the_one_that_leads_goes_after_the_other_was_let_vote() {
    let mut cluster = cluster(&[1, 2]);
    remove(&mut cluster, 1);
    let step = |leader, members| plan(&cluster.state, &group(leader, members));
    assert_eq!(step(1, vec![voter(1), learner(2)]), voters(&[1, 2]));
    let mut midst = group(1, vec![voter(1), voter(2)]);
    midst.change = Change::UnderWay;
    assert_eq!(plan(&cluster.state, &midst), voters(&[1, 2]), "it does not put itself out");
    let hand_over = Some(MembershipStep::HandOver { to: NodeId(2) });
    assert_eq!(step(1, vec![voter(1), voter(2)]), hand_over);
    assert_eq!(step(2, vec![voter(1), voter(2)]), voters(&[2]));
    assert_eq!(step(2, vec![learner(1), voter(2)]), Some(MembershipStep::Expel { node: NodeId(1) }));
    assert_eq!(step(2, vec![voter(2)]), Some(MembershipStep::Forget { node: NodeId(1) }));
}

#[test]
fn a_leader_that_is_to_go_and_has_nobody_to_succeed_it_says_so_and_lets_others_in_meanwhile() {
    let mut two = cluster(&[1, 2]);
    remove(&mut two, 1);
    let behind = Progress { lag: CAUGHT_UP_ENTRIES + 1, ..learner(2) };
    for second in [silent(learner(2), HEALTHY_WITHIN_MS), behind] {
        let stuck = group(1, vec![voter(1), second]);
        assert_eq!(plan(&two.state, &stuck), None);
        assert!(obstacle(&two.state, &stuck, NodeId(1)).is_some_and(|said| said.contains("take over")));
    }
    for members in [vec![voter(1), learner(2)], vec![voter(1), voter(2)]] {
        assert_eq!(obstacle(&two.state, &group(1, members), NodeId(1)), None, "it goes on by itself");
    }
    let mut three = cluster(&[1, 2, 3]);
    remove(&mut three, 1);
    let away = silent(learner(2), REPLACED_AFTER_MS);
    let step = plan(&three.state, &group(1, vec![voter(1), away.clone()]));
    assert!(matches!(step, Some(MembershipStep::Add { node: NodeId(3), .. })), "{step:?}");
    assert_eq!(plan(&three.state, &group(1, vec![voter(1), away, learner(3)])), voters(&[1, 3]));
}

#[test]
fn a_removal_that_would_leave_no_majority_waits_and_says_why() {
    let mut cluster = cluster(&[1, 2, 3, 4, 5]);
    remove(&mut cluster, 2);
    let lost = |id| silent(voter(id), 10_000);
    let group = group(1, vec![voter(1), voter(2), voter(3), lost(4), lost(5)]);
    // Of {1, 3, 4} only two answer, which is enough; with one more lost it is not.
    assert_eq!(plan(&cluster.state, &group), voters(&[1, 3, 4]));
    assert_eq!(obstacle(&cluster.state, &group, NodeId(2)), None);
    let mut fewer = group.clone();
    fewer.members[2] = lost(3);
    assert_eq!(plan(&cluster.state, &fewer), None);
    assert!(obstacle(&cluster.state, &fewer, NodeId(2)).is_some());
    assert_eq!(obstacle(&cluster.state, &fewer, NodeId(3)), None, "it is not leaving");
}

#[test]
fn a_change_that_another_leader_has_begun_is_ended() {
    let cluster = cluster(&[1, 2, 3]);
    let mut midst = group(2, vec![voter(1), voter(2), voter(3)]);
    midst.change = Change::UnderWay;
    assert_eq!(plan(&cluster.state, &midst), voters(&[1, 2, 3]));
}

#[test]
fn a_member_that_is_no_server_any_more_leaves_the_group_and_stays_in_the_cluster() {
    let mut cluster = cluster(&[1, 2, 3]);
    cluster.ok(register(3, &[Role::Builder]));
    let step = |members| plan(&cluster.state, &group(1, members));
    assert_eq!(step(vec![voter(1), voter(2), voter(3)]), voters(&[1]));
    let expel = Some(MembershipStep::Expel { node: NodeId(3) });
    assert_eq!(step(vec![voter(1), learner(2), learner(3)]), expel);
    assert_eq!(step(vec![voter(1), learner(2)]), None);
}

#[test]
fn a_server_that_has_moved_is_told_to_the_group() {
    let mut cluster = cluster(&[1, 2]);
    let address: NodeAddress = "n2.example.org:7441".parse().unwrap();
    let moved = MembershipCommand::SetAddress { node: NodeId(2), address: address.clone() };
    cluster.ok(Command::Membership(moved));
    let name = "n2".parse().unwrap();
    let step = plan(&cluster.state, &group(1, vec![voter(1), learner(2)]));
    assert_eq!(step, Some(MembershipStep::Add { node: NodeId(2), name, address }));
}
