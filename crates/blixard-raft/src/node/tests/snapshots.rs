//! Snapshots from node to node: whole, or not at all.

use std::fs;
use std::sync::Arc;

use blixard_core::ports::consensus::Consensus as _;
use blixard_core::ports::peer::{Arriving, PeerEndpoint as _, PeerRefusal, SenderGone};
use blixard_types::NodeId;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use openraft::async_runtime::watch::WatchReceiver as _;

use crate::checkpoint;
use crate::testing::{Cluster, Recorder, until};
use crate::types::{SnapshotMeta, Vote, log_id};
use crate::wire::{self, Route};
use crate::{RaftNode, RaftOptions};

const ALL: [u64; 3] = [1, 2, 3];

fn often(options: &mut RaftOptions) {
    options.checkpoint_every = 25;
    options.keep_entries = 0;
}

/// Cuts node 3 off and has the others purge what it lacks.
async fn leave_behind(cluster: &Cluster) {
    cluster.cut_off(3);
    let last = cluster.node(3).standing().last_log.unwrap().index;
    cluster.propose_many(&[1, 2], 0..100).await;
    let purged = |index: Option<u64>| index.is_some_and(|index| index > last);
    for number in [1, 2] {
        let wait = cluster.node(number).raft().wait(None);
        wait.metrics(|metrics| purged(metrics.purged.map(|id| id.index)), "purged").await.unwrap();
    }
}

#[tokio::test]
async fn a_follower_behind_the_purge_is_sent_a_snapshot_and_restarts_from_it() {
    let mut cluster = Cluster::with(often).await;
    leave_behind(&cluster).await;
    assert_eq!(cluster.hub.snapshots(), 0);

    cluster.heal(3);

    assert_eq!(cluster.agree(&ALL).await.len(), 100);
    assert!(cluster.hub.snapshots() > 0);
    cluster.bounce(3).await;
    assert_eq!(cluster.agree(&ALL).await.len(), 100);
    cluster.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_that_arrives_damaged_is_sent_again_until_it_is_whole() {
    let cluster = Cluster::with(often).await;
    leave_behind(&cluster).await;
    cluster.hub.damage_snapshots(true);
    cluster.heal(3);
    let mut number = 100;
    while cluster.hub.snapshots() < 3 {
        cluster.propose_many(&[1, 2], number..=number).await;
        number += 1;
    }
    assert_eq!(cluster.node(3).standing().stopped, None);
    assert!(cluster.machine(3).commands().len() < 100);

    cluster.hub.damage_snapshots(false);

    assert_eq!(cluster.agree(&ALL).await.len(), number as usize);
    cluster.shutdown().await;
}

/// A node that knows nothing, and a snapshot for it.
struct Lone {
    directory: tempfile::TempDir,
    node: RaftNode,
    machine: Arc<Recorder>,
    head: Bytes,
    file: Vec<u8>,
}

impl Lone {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let machine = Recorder::new();
        let options = RaftOptions::new(NodeId(3), directory.path());
        let node = RaftNode::open(options, Arc::clone(&machine) as _).await.unwrap();
        let meta = SnapshotMeta { last_log_id: Some(log_id(5, 41)), ..SnapshotMeta::default() };
        let state = serde_json::to_vec(&[b"one".to_vec(), b"two".to_vec()]).unwrap();
        let file = checkpoint::encoded(&meta, &state);
        let head = wire::request(Route { from: 1, to: 3 }, &Vote::new_committed(5, 1)).unwrap();
        Self { directory, node, machine, head, file }
    }

    async fn take(&self, pieces: Vec<Result<Bytes, SenderGone>>) -> Result<Bytes, PeerRefusal> {
        let head = [Ok(self.head.clone())];
        let pieces: Arriving = stream::iter(head.into_iter().chain(pieces)).boxed();
        self.node.take_snapshot(pieces).await
    }

    /// Nothing was taken, nothing is left over, and the node lives.
    fn assert_untouched(&self) {
        assert!(self.machine.commands().is_empty());
        assert_eq!(fs::read_dir(self.directory.path().join("checkpoints")).unwrap().count(), 0);
        assert_eq!(self.node.standing().stopped, None);
    }
}

fn pieces(file: &[u8]) -> Vec<Result<Bytes, SenderGone>> {
    file.chunks(7).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect()
}

#[tokio::test]
async fn a_whole_snapshot_is_installed_and_survives_a_restart() {
    let lone = Lone::new().await;

    let answer = lone.take(pieces(&lone.file)).await.unwrap();

    let vote: Vote = wire::read_answer(answer).unwrap();
    assert_eq!(vote, Vote::new_committed(5, 1));
    assert_eq!(lone.machine.commands(), [b"one", b"two"]);
    lone.node.shutdown().await;
    let machine = Recorder::new();
    let options = RaftOptions::new(NodeId(3), lone.directory.path());
    let node = RaftNode::open(options, Arc::clone(&machine) as _).await.unwrap();
    assert_eq!(machine.commands(), [b"one", b"two"]);
    let metrics = node.raft().metrics().borrow_watched().clone();
    assert_eq!(metrics.last_applied, Some(log_id(5, 41)));
    node.shutdown().await;
}

#[tokio::test]
async fn a_torn_snapshot_is_refused_at_every_length() {
    let lone = Lone::new().await;
    for length in 0..lone.file.len() {
        let refused = lone.take(pieces(&lone.file[..length])).await;
        assert!(matches!(refused, Err(PeerRefusal::Snapshot { .. })), "{length}: {refused:?}");
    }
    lone.assert_untouched();
    lone.node.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_with_any_byte_changed_is_refused() {
    let lone = Lone::new().await;
    for position in 0..lone.file.len() {
        let mut file = lone.file.clone();
        file[position] ^= 0x40;
        let refused = lone.take(pieces(&file)).await;
        assert!(matches!(refused, Err(PeerRefusal::Snapshot { .. })), "{position}: {refused:?}");
    }
    lone.assert_untouched();
    lone.node.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_whose_sender_goes_away_is_forgotten() {
    let lone = Lone::new().await;
    let mut sent = pieces(&lone.file);
    sent.push(Err(SenderGone { reason: "killed".to_owned() }));

    let refused = lone.take(sent).await;

    assert!(matches!(refused, Err(PeerRefusal::SenderGone(_))), "{refused:?}");
    lone.assert_untouched();
    lone.node.shutdown().await;
}

#[tokio::test]
async fn a_snapshot_of_a_deposed_leader_is_not_installed() {
    let lone = Lone::new().await;
    lone.take(pieces(&lone.file)).await.unwrap();
    let head = wire::request(Route { from: 2, to: 3 }, &Vote::new_committed(4, 2)).unwrap();
    let meta = SnapshotMeta { last_log_id: Some(log_id(4, 90)), ..SnapshotMeta::default() };
    let file = checkpoint::encoded(&meta, &serde_json::to_vec::<[Vec<u8>]>(&[]).unwrap());
    let sent: Arriving = stream::iter([Ok(head)].into_iter().chain(pieces(&file))).boxed();

    let answer = lone.node.take_snapshot(sent).await.unwrap();

    let vote: Vote = wire::read_answer(answer).unwrap();
    assert_eq!(vote, Vote::new_committed(5, 1));
    assert_eq!(lone.machine.commands(), [b"one", b"two"]);
    assert_eq!(fs::read_dir(lone.directory.path().join("checkpoints")).unwrap().count(), 1);
    until(&lone.node, |standing| standing.applied.is_some()).await;
    lone.node.shutdown().await;
}
