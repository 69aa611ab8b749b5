//! Failures that stop a node, and those that keep it from starting.

use std::fs;
use std::path::{Path, PathBuf};

use blixard_core::ports::consensus::{Consensus, LinearizeError, ProposeError};
use blixard_types::NodeId;
use futures_util::StreamExt;

use super::{leader, leader_on, options, propose_many};
use crate::RaftNode;
use crate::checkpoint::CheckpointError;
use crate::log::LogOpenError;
use crate::node::OpenError;
use crate::options::RaftOptions;
use crate::testing::{Disk, Recorder, until};

/// The reason of a refusal because the node has stopped.
fn reason<T: std::fmt::Debug>(refused: Result<T, ProposeError>) -> String {
    match refused {
        Err(ProposeError::Stopped { reason }) => reason,
        other => panic!("not stopped: {other:?}"),
    }
}

#[tokio::test]
async fn a_command_that_cannot_be_applied_stops_the_node_with_the_reason() {
    let directory = tempfile::tempdir().unwrap();
    let (node, machine) = leader(options(directory.path())).await;
    node.propose(b"a".to_vec()).await.unwrap();

    let first = reason(node.propose(Recorder::UNKNOWN.to_vec()).await);
    let second = reason(node.propose(b"b".to_vec()).await);

    assert!(first.contains("unknown command"), "{first}");
    assert_eq!(first, second);
    assert_eq!(node.standing().stopped, Some(first.clone()));
    assert_eq!(node.linearize().await, Err(LinearizeError::Stopped { reason: first }));
    assert_eq!(machine.commands(), [b"a"]);
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_does_not_start_over_a_command_that_cannot_be_applied() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;
    node.propose(Recorder::UNKNOWN.to_vec()).await.unwrap_err();
    node.shutdown().await;

    let refused = RaftNode::open(options(directory.path()), Recorder::new()).await;

    let Err(OpenError::Recover { reason }) = refused else { panic!("opened") };
    assert!(reason.contains("unknown command"), "{reason}");
}

#[tokio::test]
async fn a_log_that_cannot_be_synced_stops_the_node_and_is_not_written_again() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let (node, machine) = leader_on(disk.clone(), directory.path()).await;
    disk.break_down();

    let first = reason(node.propose(b"a".to_vec()).await);
    let writes = disk.writes();
    let second = reason(node.propose(b"b".to_vec()).await);

    assert!(first.contains("the disk is on fire"), "{first}");
    assert_eq!(first, second);
    assert_eq!(node.standing().stopped, Some(first));
    assert_eq!(disk.writes(), writes);
    assert!(machine.commands().is_empty());
    node.shutdown().await;
}

#[tokio::test]
async fn the_standings_end_with_the_reason_of_the_stop() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;
    let standings = node.standings();
    node.propose(Recorder::UNKNOWN.to_vec()).await.unwrap_err();

    let seen: Vec<_> = standings.collect().await;

    assert!(seen.last().unwrap().stopped.as_ref().unwrap().contains("unknown command"), "{seen:?}");
    node.shutdown().await;
}

#[tokio::test]
async fn a_node_that_was_shut_down_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;

    node.shutdown().await;
    node.shutdown().await;

    assert!(node.standing().stopped.is_some());
    assert!(!reason(node.propose(b"a".to_vec()).await).is_empty());
}

#[tokio::test]
async fn a_log_of_another_node_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader(options(directory.path())).await;
    node.shutdown().await;

    let refused = RaftNode::open(RaftOptions::new(NodeId(2), directory.path()), Recorder::new()).await;

    let Err(OpenError::Log(LogOpenError::OtherNode { expected: 2, found: 1 })) = refused else {
        panic!("{:?}", refused.err())
    };
}

#[tokio::test]
async fn a_file_that_is_not_a_log_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("log"), b"not a log").unwrap();

    let refused = RaftNode::open(options(directory.path()), Recorder::new()).await;

    assert!(matches!(refused, Err(OpenError::Segments { .. })), "{:?}", refused.err());
}

#[tokio::test]
async fn a_log_of_an_older_version_is_not_taken_for_an_empty_one() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("log.redb"), b"").unwrap();

    let refused = RaftNode::open(options(directory.path()), Recorder::new()).await;

    assert!(matches!(refused, Err(OpenError::Old { .. })), "{:?}", refused.err());
}

/// A data directory whose log begins after a checkpoint; returns the checkpoint.
async fn checkpointed(directory: &Path) -> PathBuf {
    let often = RaftOptions { checkpoint_every: 20, keep_entries: 0, ..options(directory) };
    let (node, _) = leader(often).await;
    propose_many(&node, (0..100).map(|n| format!("command {n}"))).await;
    until(&node, |standing| standing.snapshot.is_some()).await;
    node.0.raft.wait(None).metrics(|metrics| metrics.purged.is_some(), "purged").await.unwrap();
    node.shutdown().await;
    let mut files = fs::read_dir(directory.join("checkpoints")).unwrap();
    let file = files.next().unwrap().unwrap().path();
    assert!(files.next().is_none());
    file
}

#[tokio::test]
async fn a_damaged_checkpoint_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = checkpointed(directory.path()).await;
    let mut bytes = fs::read(&file).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&file, bytes).unwrap();
    let machine = Recorder::new();

    let refused = RaftNode::open(options(directory.path()), machine.clone()).await;

    let Err(OpenError::Checkpoint(CheckpointError::Checksum { path })) = refused else {
        panic!("{:?}", refused.err())
    };
    assert_eq!(path, file);
    assert!(machine.commands().is_empty());
}

#[tokio::test]
async fn a_torn_checkpoint_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let file = checkpointed(directory.path()).await;
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();

    let refused = RaftNode::open(options(directory.path()), Recorder::new()).await;

    assert!(
        matches!(refused, Err(OpenError::Checkpoint(CheckpointError::Torn { .. }))),
        "{:?}",
        refused.err()
    );
}

#[tokio::test]
async fn a_purged_log_without_its_checkpoint_is_not_taken_for_an_empty_state() {
    let directory = tempfile::tempdir().unwrap();
    let file = checkpointed(directory.path()).await;
    fs::remove_file(file).unwrap();

    let refused = RaftNode::open(options(directory.path()), Recorder::new()).await;

    assert!(matches!(refused, Err(OpenError::Gap { checkpoint: None, .. })), "{:?}", refused.err());
}
