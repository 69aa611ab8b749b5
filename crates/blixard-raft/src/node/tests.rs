//! A node as its users see it.

mod all_killed;
mod alone;
mod changes;
mod crashes;
mod failures;
mod peers;
mod snapshots;

use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::consensus::{Consensus, ProposeError, Standing};
use blixard_types::NodeId;
use tokio::task::JoinSet;

use super::{OpenError, RaftNode};
use crate::home::Place;
use crate::options::{MAX_COMMAND_BYTES, RaftOptions};
use crate::testing::{Disk, Recorder, until};

fn options(directory: &Path) -> RaftOptions {
    RaftOptions::new(NodeId(1), directory)
}

/// Opens a node with an empty machine and waits until it leads.
async fn leader(options: RaftOptions) -> (RaftNode, Arc<Recorder>) {
    let machine = Recorder::new();
    let node = RaftNode::open(options, Arc::clone(&machine) as _).await.unwrap();
    lead(&node).await;
    (node, machine)
}

async fn leader_on(disk: Disk, directory: &Path) -> (RaftNode, Arc<Recorder>) {
    let machine = Recorder::new();
    let node =
        RaftNode::open_on(options(directory), Arc::clone(&machine) as _, Box::new(disk)).await.unwrap();
    lead(&node).await;
    (node, machine)
}

async fn lead(node: &RaftNode) {
    node.initialize_single().await.unwrap();
    until(node, Standing::leads).await;
    node.recovered().await.unwrap();
}

async fn propose_many(node: &RaftNode, commands: impl Iterator<Item = String>) {
    let mut proposals = JoinSet::new();
    for command in commands {
        let node = node.clone();
        proposals.spawn(async move { node.propose(command.into_bytes()).await.unwrap() });
    }
    while let Some(answer) = proposals.join_next().await {
        answer.unwrap();
    }
}

#[tokio::test]
async fn a_proposal_is_applied_and_answered_with_its_outcome() {
    let directory = tempfile::tempdir().unwrap();
    let (node, machine) = leader(options(directory.path())).await;

    assert_eq!(node.propose(b"a".to_vec()).await.unwrap().outcome, b"1:a");
    assert_eq!(node.propose(b"b".to_vec()).await.unwrap().outcome, b"2:b");

    assert_eq!(machine.commands(), [b"a", b"b"]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_restarted_node_has_the_state_it_had() {
    let directory = tempfile::tempdir().unwrap();
    let (node, before) = leader(options(directory.path())).await;
    propose_many(&node, (0..100).map(|n| format!("command {n}"))).await;
    node.shutdown().await;

    let (node, after) = leader(options(directory.path())).await;

    assert_eq!(after.commands(), before.commands());
    assert_eq!(node.propose(b"next".to_vec()).await.unwrap().outcome, b"101:next");
    node.shutdown().await;
}

#[tokio::test]
async fn forming_a_cluster_again_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;
    let before = node.standing();

    node.initialize_single().await.unwrap();

    assert_eq!(node.standing().term, before.term);
    assert_eq!(node.standing().voters, [NodeId(1)]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_restarted_leader_leads_in_a_new_term() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;
    let before = node.standing().term;
    node.shutdown().await;

    let (node, _) = leader(options(directory.path())).await;

    assert!(node.standing().term > before);
    node.shutdown().await;
}

#[tokio::test]
async fn a_read_sees_every_write_that_was_answered_before_it() {
    let directory = tempfile::tempdir().unwrap();
    let (node, machine) = leader(options(directory.path())).await;
    node.propose(b"a".to_vec()).await.unwrap();

    let read_at = node.linearize().await.unwrap();

    assert_eq!(machine.commands(), [b"a"]);
    assert_eq!(Some(read_at), node.standing().last_log);
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_without_a_cluster_names_no_leader() {
    let directory = tempfile::tempdir().unwrap();
    let node = RaftNode::open(options(directory.path()), Recorder::new()).await.unwrap();

    let refused = node.propose(b"a".to_vec()).await;

    assert_eq!(refused, Err(ProposeError::NotLeader { leader: None }));
    node.shutdown().await;
}

#[tokio::test]
async fn a_command_over_the_limit_is_refused_before_it_is_appended() {
    let directory = tempfile::tempdir().unwrap();
    let (node, machine) = leader(options(directory.path())).await;
    let before = node.standing().last_log;

    let refused = node.propose(vec![0; MAX_COMMAND_BYTES + 1]).await;

    let size = MAX_COMMAND_BYTES + 1;
    assert_eq!(refused, Err(ProposeError::TooLarge { size, limit: MAX_COMMAND_BYTES }));
    assert_eq!(node.standing().last_log, before);
    node.propose(vec![0; MAX_COMMAND_BYTES]).await.unwrap();
    assert_eq!(machine.commands().len(), 1);
    node.shutdown().await;
}

#[tokio::test]
async fn concurrent_proposers_get_their_own_answers_and_share_syncs() {
    const PROPOSALS: usize = 64 * 16;
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let (node, machine) = leader_on(disk.clone(), directory.path()).await;
    let syncs_before = disk.syncs();
    let before = node.linearize().await.unwrap();

    let mut proposers = JoinSet::new();
    for proposer in 0..64 {
        let node = node.clone();
        proposers.spawn(async move {
            for n in 0..16 {
                let command = format!("{proposer}/{n}");
                let answer = node.propose(command.clone().into_bytes()).await.unwrap();
                let place = answer.position;
                let answer = String::from_utf8(answer.outcome).unwrap();
                let (number, applied) = answer.split_once(':').unwrap();
                assert_eq!(applied, command);
                // Nobody else writes to this log, so a command's number tells its place.
                assert_eq!(place.index, before.index + number.parse::<u64>().unwrap());
            }
        });
    }
    while let Some(proposer) = proposers.join_next().await {
        proposer.unwrap();
    }

    assert_eq!(machine.commands().len(), PROPOSALS);
    let syncs = disk.syncs() - syncs_before;
    assert!(syncs * 4 < PROPOSALS, "{syncs} syncs for {PROPOSALS} proposals");
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_restarts_from_a_checkpoint_and_a_purged_log() {
    let directory = tempfile::tempdir().unwrap();
    let often = RaftOptions { checkpoint_every: 50, keep_entries: 0, ..options(directory.path()) };
    let (node, before) = leader(often.clone()).await;
    propose_many(&node, (0..500).map(|n| format!("command {n}"))).await;
    until(&node, |standing| standing.snapshot.is_some()).await;
    let purged = node.0.raft.wait(None).metrics(|m| m.purged.is_some(), "purged").await;
    assert!(purged.unwrap().purged.is_some());
    node.shutdown().await;

    let (node, after) = leader(often).await;

    assert_eq!(after.commands(), before.commands());
    assert_eq!(node.propose(b"next".to_vec()).await.unwrap().outcome, b"501:next");
    node.shutdown().await;
}

#[tokio::test]
async fn a_data_directory_that_is_in_use_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;

    let second = RaftNode::open(options(directory.path()), Recorder::new()).await;

    assert!(matches!(second, Err(OpenError::InUse { .. })), "{:?}", second.err());
    node.shutdown().await;
    let (node, _) = leader(options(directory.path())).await;
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_on_a_thread_of_its_own_does_the_same_and_can_be_opened_again() {
    let directory = tempfile::tempdir().unwrap();
    let apart = RaftOptions { place: Place::OwnThread, ..options(directory.path()) };
    let (node, before) = leader(apart.clone()).await;
    propose_many(&node, (0..50).map(|n| format!("command {n}"))).await;
    node.linearize().await.unwrap();
    node.shutdown().await;

    let (node, after) = leader(apart).await;

    assert_eq!(after.commands(), before.commands());
    node.shutdown().await;
}
