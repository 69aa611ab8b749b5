//! What a crash may take, and what it may not.

use std::sync::{Arc, Mutex};

use blixard_core::ports::consensus::Consensus;
use tokio::task::JoinSet;

use super::leader_on;
use crate::testing::{Disk, Keep};

/// Proposes from many tasks at once and takes the disk as a crash would leave it in the midst;
/// returns it with the commands that had been answered by then.
async fn crash_under_load(keep: Keep) -> (Disk, Vec<Vec<u8>>) {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let (node, _) = leader_on(disk.clone(), directory.path()).await;
    let answered = Arc::new(Mutex::new(Vec::new()));
    let mut proposers = JoinSet::new();
    for proposer in 0..16 {
        let (node, answered) = (node.clone(), Arc::clone(&answered));
        proposers.spawn(async move {
            for n in 0.. {
                let command = format!("{proposer}/{n}").into_bytes();
                if node.propose(command.clone()).await.is_err() {
                    break;
                }
                answered.lock().unwrap().push(command);
            }
        });
    }
    while answered.lock().unwrap().len() < 200 {
        tokio::task::yield_now().await;
    }
    let acknowledged = answered.lock().unwrap().clone();
    let found = disk.after_a_crash(keep);
    proposers.shutdown().await;
    node.shutdown().await;
    (found, acknowledged)
}

async fn assert_nothing_acknowledged_is_lost(keep: Keep) {
    let (disk, acknowledged) = crash_under_load(keep).await;
    let directory = tempfile::tempdir().unwrap();
    let (node, machine) = leader_on(disk, directory.path()).await;
    let recovered = machine.commands();
    for command in acknowledged {
        assert!(recovered.contains(&command), "{:?} is lost", String::from_utf8(command));
    }
    node.shutdown().await;
}

#[tokio::test]
async fn acknowledged_commands_survive_a_crash_that_takes_all_unsynced_writes() {
    assert_nothing_acknowledged_is_lost(Keep::Nothing).await;
}

#[tokio::test]
async fn acknowledged_commands_survive_a_crash_that_takes_some_unsynced_writes() {
    for seed in 1..=8 {
        assert_nothing_acknowledged_is_lost(Keep::Some(seed * 0x9e37_79b9)).await;
    }
}

#[tokio::test]
async fn a_vote_survives_a_crash() {
    let directory = tempfile::tempdir().unwrap();
    let disk = Disk::new();
    let (node, _) = leader_on(disk.clone(), directory.path()).await;
    let term = node.standing().term;
    let found = disk.after_a_crash(Keep::Nothing);
    node.shutdown().await;

    let directory = tempfile::tempdir().unwrap();
    let (node, _) = leader_on(found, directory.path()).await;

    // A forgotten vote would be given a second time in the same term.
    assert!(node.standing().term > term, "{:?}", node.standing());
    node.shutdown().await;
}
