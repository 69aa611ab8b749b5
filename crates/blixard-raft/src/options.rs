//! What a node is opened with, and the openraft settings that follow from it.
//!
//! Owns every number of consensus, and the measured reason for each that is not openraft's default.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::peer::SharedPeerTransport;
use blixard_types::NodeId;
use openraft::{Config, ConfigError, SnapshotPolicy};

use crate::files::{RealFiles, SharedFiles};
use crate::home::Place;
use crate::log::SEGMENT_BYTES;
use crate::no_peers::NoPeers;
use crate::offload::Offload;
use crate::types::Peer;

/// The largest command that is appended. References go through the log, not content.
pub const MAX_COMMAND_BYTES: usize = blixard_core::command::COMMAND_MAX_BYTES;

/// A segment has two headers of a sector, and a frame has a few bytes of its own; a write that does not fit into an empty
/// segment stops the node.
const _: () =
    assert!(MAX_COMMAND_BYTES as u64 + 8 * 1024 <= SEGMENT_BYTES, "a command has to fit into a segment");

/// A checkpoint writes the whole state, which may have tens of megabytes; at 24,000 writes a second, 10,000
/// entries would be one more than twice a second.
const CHECKPOINT_EVERY: u64 = 50_000;
/// Fifty thousand entries of the usual size come to half of this, those of the largest to 1,500 times.
const CHECKPOINT_BYTES: u64 = 32 * 1024 * 1024;

/// What a consensus node is opened with.
#[derive(Debug, Clone)]
pub struct RaftOptions {
    /// This node.
    pub node: NodeId,
    /// How the membership records this node when it forms a cluster of one.
    pub peer: Peer,
    /// How the others are reached.
    pub transport: SharedPeerTransport,
    /// Where the log and the checkpoints are kept; created when missing. Of this node alone.
    pub data_dir: PathBuf,
    /// The files that checkpoints are kept in.
    pub files: SharedFiles,
    /// Where work that blocks is done.
    pub offload: Offload,
    /// The log's file is made of pieces of so many bytes; a command has to fit into one.
    pub log_segment_bytes: u64,
    /// A checkpoint is taken each time this many entries were committed since the last, so that a start
    /// does not take long.
    pub checkpoint_every: u64,
    /// Also each time commands of so many bytes were applied, so that the log does not grow large.
    pub checkpoint_bytes: u64,
    /// How many entries before a checkpoint stay in the log, so that a follower that is a little
    /// behind is sent entries rather than the whole state.
    pub keep_entries: u64,
    /// How leaders are chosen and lost.
    pub elections: ElectionTiming,
    /// Where the node's tasks run.
    pub place: Place,
    /// Breaks a rule, so that a simulation can show that it would notice. Nothing else sets it.
    #[doc(hidden)]
    pub restore_leadership: bool,
}

impl RaftOptions {
    /// The defaults for a node that keeps its data in `data_dir` and reaches no peers.
    pub fn new(node: NodeId, data_dir: impl Into<PathBuf>) -> Self {
        Self {
            node,
            peer: Peer::default(),
            transport: Arc::new(NoPeers),
            data_dir: data_dir.into(),
            files: Arc::new(RealFiles),
            offload: Offload::Threads,
            log_segment_bytes: SEGMENT_BYTES,
            checkpoint_every: CHECKPOINT_EVERY,
            checkpoint_bytes: CHECKPOINT_BYTES,
            keep_entries: 1_000,
            elections: ElectionTiming::default(),
            place: Place::default(),
            restore_leadership: false,
        }
    }

    pub(crate) fn config(&self) -> Result<Config, ConfigError> {
        Config {
            cluster_name: "blixard".to_owned(),
            election_timeout_min: millis(self.elections.timeout_min),
            election_timeout_max: millis(self.elections.timeout_max),
            heartbeat_interval: millis(self.elections.heartbeat),
            // Short timeouts only with pre-vote: a node that was cut off must not depose a leader.
            enable_pre_vote: Some(true),
            // The default, true, lets a restarted leader resume in its old term without an election,
            // though followers may hold entries that its own disk lacks; it then gives the same
            // (term, index) to other entries. Killing all three nodes under load left different
            // data on them in 4 of 65 runs with true, in 0 of 35 with false.
            enable_leader_restore: Some(self.restore_leadership),
            // At the default of 5,000 a follower that is a moment behind is sent the whole state.
            replication_lag_threshold: 100_000,
            // The default of 200 ms does not carry a state of some size.
            install_snapshot_timeout: 60_000,
            // The default of 1 writes a purge for each entry. Never more than a checkpoint's distance,
            // or the purge waits for the next one.
            purge_batch_size: self.checkpoint_every.clamp(1, 1_000),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.checkpoint_every.max(1)),
            max_in_snapshot_log_to_keep: self.keep_entries,
            // The default of 200 ms keeps a peer waiting that is back already.
            backoff: "50ms".to_owned(),
            ..Config::default()
        }
        .validate()
    }
}

/// How leaders are chosen and lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ElectionTiming {
    /// How often a leader shows that it lives.
    pub heartbeat: Duration,
    /// The shortest time without a leader after which a node stands, besides the leader's lease.
    pub timeout_min: Duration,
    /// The longest such time, exclusive; also the leader's lease.
    pub timeout_max: Duration,
}

impl Default for ElectionTiming {
    /// Measured on three nodes: the first write 326 ms after the leader was killed.
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(30),
            timeout_min: Duration::from_millis(100),
            timeout_max: Duration::from_millis(200),
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
