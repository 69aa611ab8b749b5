//! Who is in the consensus group, and how far each one is.
//!
//! Owns the mechanics of a change: one at a time, each safe by itself. Refuses to know who should be
//! in it, and how many should vote.

use std::collections::BTreeSet;

use blixard_types::NodeId;

use super::BoxFuture;

/// A member of the consensus group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Which node.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its consensus endpoint is reached; empty in a cluster of one that does not listen.
    pub address: String,
    /// Whether it votes.
    pub role: MemberRole,
}

/// Whether a member votes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum MemberRole {
    /// It is sent everything, and has no say.
    Learner,
    /// A quorum is counted over these.
    Voter,
}

/// Whether the set of voters is changing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Change {
    /// One set of voters counts.
    #[default]
    Settled,
    /// Two sets count. A leader that is lost in the midst leaves it so: [`Membership::set_voters`]
    /// again, on the next one, ends it.
    UnderWay,
}

/// How far a member is, as its leader knows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Who.
    pub member: Member,
    /// The last entry that it is known to hold as the leader does; none if it has answered nothing yet.
    pub matched: Option<u64>,
    /// How many entries of the leader's log it lacks, as far as is known.
    pub lag: u64,
    /// Milliseconds since it answered; 0 for the leader itself, none if it never did in this term.
    pub silent_ms: Option<u64>,
}

/// What this node keeps on its disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StorageUse {
    /// Bytes of the log's file. It does not shrink; what is purged is used again.
    pub log_bytes: u64,
    /// Bytes of the checkpoints, one that is being received included.
    pub checkpoint_bytes: u64,
    /// Entries in the log.
    pub log_entries: u64,
    /// How often the log was made durable since the node was opened; many entries share one time.
    pub durable_commits: u64,
}

/// Changes who is in the consensus group. Only the leader can; one change at a time.
pub trait Membership: Send + Sync + 'static {
    /// Forms a cluster of this node alone. Does nothing when the node belongs to one already.
    fn form(&self) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Adds a member that does not vote; returns when the cluster has agreed to it. One that is a member
    /// already keeps its role, and its name and address become these.
    fn add_learner(
        &self,
        node: NodeId,
        name: String,
        address: String,
    ) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Waits until a member lacks at most `lag` entries. As long as it is away, this waits.
    fn caught_up(&self, node: NodeId, lag: u64) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Makes these the voters: learners of them are promoted, voters that are not of them become
    /// learners. Returns when only the new set counts. Also ends a change that another leader began.
    fn set_voters(&self, voters: BTreeSet<NodeId>) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Removes a member, voter or learner. One that is no member is gone already.
    fn remove(&self, node: NodeId) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// Hands the leadership to a voter that is caught up, and waits until it leads. If it does not take
    /// over in time, this node goes on or stands again.
    fn transfer_leadership(&self, to: NodeId) -> BoxFuture<'_, Result<(), MembershipError>>;

    /// How far each member is; none unless this node leads.
    fn progress(&self) -> Option<Vec<Progress>>;

    /// What this node keeps on its disk.
    fn storage(&self) -> BoxFuture<'_, Result<StorageUse, std::io::Error>>;
}

/// Why the membership was not changed, as far as is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Another node leads; nothing was changed.
    #[error("this node does not lead{}", super::consensus::leader_suffix(.leader.as_ref()))]
    NotLeader {
        /// Who does, if known.
        leader: Option<NodeId>,
    },
    /// Another change is not finished; nothing was changed.
    #[error("another change of the membership is under way")]
    InProgress,
    /// It has to be added first.
    #[error("node {node} is no member")]
    NotAMember {
        /// Who.
        node: NodeId,
    },
    /// Only a voter can lead.
    #[error("node {node} does not vote")]
    NotAVoter {
        /// Who.
        node: NodeId,
    },
    /// A cluster needs one.
    #[error("no voter would be left")]
    NoVoters,
    /// It has to hand over before it goes.
    #[error("node {node} leads: transfer the leadership first")]
    Leads {
        /// Who.
        node: NodeId,
    },
    /// The leadership was not taken over in time.
    #[error("node {node} did not take over: {reason}")]
    NotTakenOver {
        /// Who should have.
        node: NodeId,
        /// What is known of why.
        reason: String,
    },
    /// The change may or may not be made later: look at the members, then ask again.
    #[error("the outcome is unknown: the change lost its leader")]
    OutcomeUnknown,
    /// The node has stopped. As with [`Self::OutcomeUnknown`], the change may be made after a restart.
    #[error("the consensus node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
