//! The replicated log, as bytes: who proposes, what is applied, when a read is linearizable.

use std::sync::Arc;

use blixard_types::{LogPosition, NodeId};

use super::members::{Change, Member};
use super::{BoxFuture, BoxStream};

/// Encodes a state that was captured cheaply; run off the apply path.
pub type Checkpoint = Box<dyn FnOnce() -> Vec<u8> + Send>;

/// What the log is applied to. The log's owner calls these in order, never two at once.
///
/// Determinism is the implementor's: the same entries in the same order give the same state.
pub trait ReplicatedMachine: Send + Sync + 'static {
    /// Applies one command that is committed at `position`; returns the encoded outcome, which goes
    /// back to the proposer and nowhere else.
    ///
    /// # Errors
    /// When the command cannot be understood (a newer version, say): the node stops, because skipping
    /// a command would let replicas diverge.
    fn apply(&self, position: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt>;

    /// Captures the state as of the last applied entry.
    fn checkpoint(&self) -> Checkpoint;

    /// Replaces the state by one that `checkpoint` encoded, here or on another node.
    ///
    /// # Errors
    /// When the bytes are not a state of a version that this program reads; the old state is kept.
    fn restore(&self, checkpoint: &[u8]) -> Result<(), RestoreError>;
}

/// A committed command that this program cannot apply.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply the command at {position}: {reason}")]
pub struct ApplyHalt {
    /// Where the command stands.
    pub position: LogPosition,
    /// What is wrong with it.
    pub reason: String,
}

/// A checkpoint that this program cannot read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the checkpoint: {reason}")]
pub struct RestoreError {
    /// What is wrong with it.
    pub reason: String,
}

/// What became of a command that was appended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Applied {
    /// The encoded outcome, as [`ReplicatedMachine::apply`] gave it.
    pub outcome: Vec<u8>,
    /// Where the command stands in the log. A node that has applied this position shows what the command
    /// has changed; [`Standing::applied`] may still be behind it when the proposal returns.
    pub position: LogPosition,
}

/// The replicated log as its users see it.
pub trait Consensus: Send + Sync + 'static {
    /// Appends a command and waits until it is durable on a quorum and applied here.
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>>;

    /// Runs one quorum round that begins after this call, and waits until this node has applied all
    /// that was committed then. A read of the local state afterwards is linearizable.
    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>>;

    /// The same at a lower price, while the clocks of all nodes run at about the same rate: a leader
    /// that heard from a quorum within its lease asks nobody. Without a lease it asks, as
    /// [`linearize`](Self::linearize) does.
    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>>;

    /// How this node stands now.
    fn standing(&self) -> Standing;

    /// How this node stands, now and at each change. The stream ends when the node stops.
    fn standings(&self) -> BoxStream<'static, Standing>;
}

/// A handle to the log, shared by all who propose or read.
pub type SharedConsensus = Arc<dyn Consensus>;

/// How a node stands in the consensus group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Standing {
    /// This node.
    pub node: NodeId,
    /// The newest term it knows.
    pub term: u64,
    /// Who leads that term, if known.
    pub leader: Option<NodeId>,
    /// The last entry in its log.
    pub last_log: Option<LogPosition>,
    /// The last entry it has applied.
    pub applied: Option<LogPosition>,
    /// The last entry its newest snapshot covers.
    pub snapshot: Option<LogPosition>,
    /// Who votes; while the membership changes, who votes before or after.
    pub voters: Vec<NodeId>,
    /// All members, learners included, by their node.
    pub members: Arc<[Member]>,
    /// Whether a change of the voters is under way.
    pub change: Change,
    /// Set when the node has stopped for good, with the reason.
    pub stopped: Option<String>,
}

impl Standing {
    /// Whether this node leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.leader == Some(self.node) && self.stopped.is_none()
    }
}

/// Why a proposal was not applied, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads; nothing was appended.
    #[error("this node does not lead{}", leader_suffix(.leader.as_ref()))]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// The command is over the limit; nothing was appended.
    #[error("the command has {size} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the command.
        size: usize,
        /// Bytes allowed.
        limit: usize,
    },
    /// The entry may or may not be committed later: ask again with the same request id.
    #[error("the outcome is unknown: the entry lost its leader")]
    OutcomeUnknown,
    /// No leader that a majority follows was found in time. As with [`Self::OutcomeUnknown`], the entry
    /// may be committed later.
    #[error("the majority of the servers does not answer; the change may still be made once it does")]
    NoQuorum,
    /// The leader refuses the command as it is.
    #[error("the leader refuses the command: {reason}")]
    Refused {
        /// What it says.
        reason: String,
    },
    /// The node has stopped. As with [`Self::OutcomeUnknown`], the entry may be applied after a restart.
    #[error("the consensus node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

/// Why a linearizable read cannot be served here now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinearizeError {
    /// Another node leads.
    #[error("this node does not lead{}", leader_suffix(.leader.as_ref()))]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// The leader cannot reach a quorum.
    #[error("the majority of the servers does not answer")]
    NoQuorum,
    /// The node has stopped.
    #[error("the consensus node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}

pub(super) fn leader_suffix(leader: Option<&NodeId>) -> String {
    leader.map_or_else(|| "; no leader is known".to_owned(), |node| format!("; node {node} does"))
}
