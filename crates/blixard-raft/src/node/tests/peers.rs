//! Three nodes: elections, replication, cuts.

use blixard_core::ports::consensus::{Consensus as _, LinearizeError, ProposeError, Standing};
use blixard_core::ports::peer::PeerCall;
use blixard_types::NodeId;

use crate::testing::{Cluster, Keep, until};

const ALL: [u64; 3] = [1, 2, 3];

#[tokio::test]
async fn what_the_leader_applies_the_others_apply_too() {
    let cluster = Cluster::of_three().await;

    cluster.propose_many(&ALL, 0..50).await;

    assert_eq!(cluster.agree(&ALL).await.len(), 50);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_follower_names_the_leader() {
    let cluster = Cluster::of_three().await;

    let refused = cluster.node(2).propose(b"a".to_vec()).await;

    assert_eq!(refused, Err(ProposeError::NotLeader { leader: Some(NodeId(1)) }));
    let refused = cluster.node(2).linearize().await;
    assert_eq!(refused, Err(LinearizeError::NotLeader { leader: Some(NodeId(1)) }));
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_follower_that_was_killed_catches_up() {
    let mut cluster = Cluster::of_three().await;
    cluster.propose_many(&ALL, 0..20).await;

    let killed = cluster.kill(3, Keep::Nothing).await;
    cluster.propose_many(&[1, 2], 20..40).await;
    cluster.restart(3, killed).await;

    assert_eq!(cluster.agree(&ALL).await.len(), 40);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_killed_leader_is_replaced_and_nothing_acknowledged_is_lost() {
    let mut cluster = Cluster::of_three().await;
    cluster.propose_many(&ALL, 0..20).await;

    let killed = cluster.kill(1, Keep::Nothing).await;
    cluster.propose_many(&[2, 3], 20..40).await;
    cluster.restart(1, killed).await;

    let expected: Vec<_> = (0..40).map(|n| format!("command {n}").into_bytes()).collect();
    assert!(cluster.agree(&ALL).await == expected);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_node_that_was_cut_off_does_not_depose_the_leader_when_it_is_back() {
    let cluster = Cluster::of_three().await;
    let before = cluster.node(1).standing();
    cluster.cut_off(3);
    // It would stand if it could: it has asked many times.
    let asked = || cluster.hub.calls(NodeId(1), PeerCall::PreVote);
    while asked() < 4 {
        cluster.propose(&[1, 2], "meanwhile").await;
    }
    assert_eq!(cluster.hub.calls(NodeId(1), PeerCall::Vote), 0);

    cluster.heal(3);

    cluster.agree(&ALL).await;
    let after = cluster.node(3).standing();
    assert_eq!((after.term, after.leader), (before.term, Some(NodeId(1))));
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_leader_without_a_quorum_serves_neither_writes_nor_linearizable_reads() {
    let cluster = Cluster::of_three().await;
    cluster.propose_many(&ALL, 0..10).await;
    cluster.cut_off(1);
    let mut orphan = tokio::task::JoinSet::new();
    let cut_off = cluster.node(1).clone();
    orphan.spawn(async move { cut_off.propose(b"orphan".to_vec()).await });
    let successor = cluster.leader_among(&[2, 3]).await;
    cluster.propose_many(&[2, 3], 10..20).await;

    assert!(cluster.node(1).linearize().await.is_err());
    assert!(cluster.node(1).linearize_by_lease().await.is_err());
    let refused = cluster.node(1).propose(b"later".to_vec()).await;
    assert!(matches!(refused, Err(ProposeError::NotLeader { .. })), "{refused:?}");
    assert!(successor != 1);

    cluster.heal(1);
    let agreed = cluster.agree(&ALL).await;
    assert_eq!(agreed.len(), 20);
    let answer = orphan.join_next().await.unwrap().unwrap();
    assert!(
        matches!(answer, Err(ProposeError::OutcomeUnknown | ProposeError::NotLeader { .. })),
        "{answer:?}"
    );
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_hears_nobody_but_is_heard_gives_way() {
    let cluster = Cluster::of_three().await;
    for other in [2, 3] {
        cluster.hub.cut_way(NodeId(other), NodeId(1));
    }

    let leader = cluster.leader_among(&[2, 3]).await;
    cluster.propose(&[2, 3], "on").await;

    assert!(leader != 1);
    cluster.heal(1);
    cluster.agree(&ALL).await;
    cluster.shutdown().await;
}

#[tokio::test]
async fn links_that_lose_and_delay_messages_only_slow_things_down() {
    let cluster = Cluster::of_three().await;
    for other in [2, 3] {
        cluster.hub.lose(NodeId(1), NodeId(other), 5);
        cluster.hub.delay(NodeId(other), NodeId(1), std::time::Duration::from_millis(5));
    }

    cluster.propose_many(&ALL, 0..50).await;

    for other in [2, 3] {
        cluster.hub.heal(NodeId(1), NodeId(other));
    }
    let agreed = cluster.agree(&ALL).await;
    // Nothing twice, nothing lost; a proposal whose outcome was unknown may be there twice.
    let distinct: std::collections::BTreeSet<_> = agreed.iter().collect();
    assert_eq!(distinct.len(), 50);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_cheap_read_sees_every_write_that_was_answered_before_it() {
    let cluster = Cluster::of_three().await;
    for n in 0..20 {
        cluster.propose_many(&ALL, n..=n).await;
        let leader = cluster.leader_among(&ALL).await;
        let read_at = cluster.node(leader).linearize_by_lease().await.unwrap();
        assert!(Some(read_at) >= cluster.node(leader).standing().last_log);
    }
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_leader_that_was_restarted_alone_follows() {
    let mut cluster = Cluster::of_three().await;
    cluster.propose_many(&ALL, 0..10).await;
    let term = cluster.node(1).standing().term;

    cluster.bounce(1).await;
    until(cluster.node(1), |standing| standing.leader.is_some()).await;

    // It does not resume its old term: its disk may lack what the others hold.
    let resumed = |standing: &Standing| standing.term == term && standing.leads();
    assert!(!resumed(&cluster.node(1).standing()));
    assert_eq!(cluster.agree(&ALL).await.len(), 10);
    cluster.shutdown().await;
}
