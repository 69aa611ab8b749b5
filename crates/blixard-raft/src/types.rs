//! The types openraft is instantiated with, and their conversions to ours.
//!
//! Owns the shape of a command, an outcome and a peer inside the log. Knows nothing of storage.

use std::fmt;

use blixard_types::{LogPosition, NodeId};
use bytes::Bytes;
use openraft::alias;
use openraft::vote::leader_id_std::CommittedLeaderId;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// What openraft is instantiated with. A log id is (term, index), as in the Raft paper: at most
    /// one leader per term.
    pub(crate) TypeConfig:
        D = Cmd,
        R = Reply,
        Node = Peer,
        LeaderId = openraft::impls::leader_id_std::LeaderId<u64, u64>,
        AsyncRuntime = crate::runtime::Runtime,
);

pub(crate) type LogId = alias::LogIdOf<TypeConfig>;
pub(crate) type Vote = alias::VoteOf<TypeConfig>;
pub(crate) type Entry = alias::EntryOf<TypeConfig>;
pub(crate) type Membership = openraft::Membership<u64, Peer>;
pub(crate) type StoredMembership = alias::StoredMembershipOf<TypeConfig>;
pub(crate) type SnapshotMeta = alias::SnapshotMetaOf<TypeConfig>;

/// A command: bytes that only the replicated machine understands.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Cmd(pub(crate) Bytes);

impl fmt::Debug for Cmd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl fmt::Display for Cmd {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "command of {} bytes", self.0.len())
    }
}

/// The outcome of a command, for its proposer only; empty for entries that are not commands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Reply(pub(crate) Vec<u8>);

/// A member of the consensus group, as its membership records it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The node's name.
    pub name: String,
    /// Where its consensus endpoint is reached; empty in a cluster of one.
    pub address: String,
}

pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId { leader_id: CommittedLeaderId::new(term), index }
}

pub(crate) fn position(id: LogId) -> LogPosition {
    LogPosition { term: id.leader_id.term, index: id.index }
}

pub(crate) fn node_id(id: u64) -> NodeId {
    NodeId(id)
}
