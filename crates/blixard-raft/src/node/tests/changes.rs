//! Changing who is in the group.

use blixard_core::ports::consensus::{Consensus as _, Standing};
use blixard_core::ports::members::{Change, MemberRole, Membership as _, MembershipError};
use blixard_types::NodeId;

use crate::testing::{Cluster, until, voters};

const ALL: [u64; 3] = [1, 2, 3];

#[tokio::test]
async fn a_cluster_grows_from_one_to_three_and_everyone_knows_the_members() {
    let cluster = Cluster::of_three().await;

    for number in ALL {
        let standing =
            until(cluster.node(number), |standing| standing.members.len() == 3 && settled(standing)).await;
        assert_eq!(standing.voters, [NodeId(1), NodeId(2), NodeId(3)]);
        let third = &standing.members[2];
        assert_eq!((third.name.as_str(), third.address.as_str()), ("node 3", "at 3"));
        assert_eq!(third.role, MemberRole::Voter);
    }
    cluster.shutdown().await;
}

fn settled(standing: &Standing) -> bool {
    standing.change == Change::Settled
}

#[tokio::test]
async fn a_voter_becomes_a_learner_and_can_be_removed() {
    let cluster = Cluster::of_three().await;
    let leader = cluster.node(1);

    leader.set_voters(voters([1, 2])).await.unwrap();
    let standing = leader.standing();
    assert_eq!(standing.voters, [NodeId(1), NodeId(2)]);
    assert_eq!(standing.members[2].role, MemberRole::Learner);
    cluster.propose_many(&ALL, 0..5).await;

    leader.remove(NodeId(3)).await.unwrap();
    assert_eq!(leader.standing().members.len(), 2);
    leader.remove(NodeId(3)).await.unwrap();
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_voter_is_removed_in_one_step_and_the_rest_go_on() {
    let cluster = Cluster::of_three().await;

    cluster.node(1).remove(NodeId(2)).await.unwrap();

    cluster.propose_many(&[1, 3], 0..5).await;
    assert_eq!(cluster.agree(&[1, 3]).await.len(), 5);
    assert_eq!(cluster.node(1).standing().voters, [NodeId(1), NodeId(3)]);
    cluster.shutdown().await;
}

#[tokio::test]
async fn the_leadership_is_handed_to_a_voter() {
    let cluster = Cluster::of_three().await;
    cluster.propose_many(&ALL, 0..10).await;
    let before = cluster.node(1).standing().term;

    cluster.node(1).transfer_leadership(NodeId(2)).await.unwrap();

    assert_eq!(cluster.leader_among(&ALL).await, 2);
    assert_eq!(cluster.node(2).standing().term, before + 1);
    cluster.node(2).transfer_leadership(NodeId(2)).await.unwrap();
    cluster.propose_many(&ALL, 10..20).await;
    assert_eq!(cluster.agree(&ALL).await.len(), 20);
    cluster.shutdown().await;
}

#[tokio::test]
async fn what_cannot_be_is_refused_by_name() {
    let cluster = Cluster::of_three().await;
    let (leader, follower) = (cluster.node(1), cluster.node(2));
    let not_leader = MembershipError::NotLeader { leader: Some(NodeId(1)) };
    let stranger = NodeId(9);

    assert_eq!(leader.remove(NodeId(1)).await, Err(MembershipError::Leads { node: NodeId(1) }));
    assert_eq!(leader.set_voters(voters([])).await, Err(MembershipError::NoVoters));
    let unknown = Err(MembershipError::NotAMember { node: stranger });
    assert_eq!(leader.set_voters(voters([1, 9])).await, unknown);
    assert_eq!(leader.caught_up(stranger, 0).await, unknown);
    assert_eq!(leader.transfer_leadership(stranger).await, unknown);
    assert_eq!(follower.remove(NodeId(3)).await, Err(not_leader.clone()));
    assert_eq!(follower.remove(stranger).await, Err(not_leader.clone()));
    assert_eq!(follower.set_voters(voters([1])).await, Err(not_leader.clone()));
    assert_eq!(follower.transfer_leadership(NodeId(3)).await, Err(not_leader.clone()));
    assert_eq!(follower.caught_up(NodeId(3), 0).await, Err(not_leader));
    assert_eq!(follower.progress(), None);
    leader.form().await.unwrap();
    leader.set_voters(voters([1, 2])).await.unwrap();
    let learner = Err(MembershipError::NotAVoter { node: NodeId(3) });
    assert_eq!(leader.transfer_leadership(NodeId(3)).await, learner);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_member_that_moved_gets_its_new_address_and_keeps_its_vote() {
    let cluster = Cluster::of_three().await;

    cluster.node(1).add_learner(NodeId(3), "moved".to_owned(), "elsewhere".to_owned()).await.unwrap();

    let members = cluster.node(1).standing().members;
    assert_eq!((members[2].name.as_str(), members[2].address.as_str()), ("moved", "elsewhere"));
    assert_eq!(members[2].role, MemberRole::Voter);
    cluster.shutdown().await;
}

#[tokio::test]
async fn the_leader_knows_how_far_each_member_is() {
    let cluster = Cluster::of_three().await;
    cluster.cut_off(3);
    cluster.propose_many(&[1, 2], 0..30).await;

    let progress = cluster.node(1).progress().unwrap();
    assert_eq!((progress[0].lag, progress[0].silent_ms), (0, Some(0)));
    assert!(progress[2].lag >= 30, "{progress:?}");

    cluster.heal(3);
    cluster.node(1).caught_up(NodeId(3), 0).await.unwrap();
    let progress = cluster.node(1).progress().unwrap();
    assert_eq!(progress[2].lag, 0);
    assert!(progress[2].silent_ms.is_some());
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_node_tells_what_it_keeps_on_disk() {
    let cluster = Cluster::with(|options| options.checkpoint_every = 20).await;
    cluster.propose_many(&ALL, 0..50).await;
    until(cluster.node(1), |standing| standing.snapshot.is_some()).await;

    let storage = cluster.node(1).storage().await.unwrap();

    assert!(storage.checkpoint_bytes > 0 && storage.log_entries > 0, "{storage:?}");
    cluster.shutdown().await;
}
