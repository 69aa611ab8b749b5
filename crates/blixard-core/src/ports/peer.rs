//! Between the consensus nodes of one cluster: bytes out ([`PeerTransport`]), bytes in ([`PeerEndpoint`]).
//!
//! Owns the shape of the traffic: one long stream of appended entries, calls that ask once, and
//! snapshots. Refuses to know what the bytes mean, and how a peer is reached.

use std::fmt;
use std::sync::Arc;

use blixard_types::NodeId;
use bytes::Bytes;

use super::{BoxFuture, BoxStream};

/// A peer, and where it is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerAddress {
    /// Who it is. The transport makes sure that it is this one that answers.
    pub node: NodeId,
    /// Where its consensus endpoint is reached, as the membership records it.
    pub address: String,
}

/// What is asked once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PeerCall {
    /// A leader shows that it lives. Never held up by appended entries or snapshots.
    Heartbeat,
    /// A candidate asks for a vote.
    Vote,
    /// Who would stand asks whether it would be voted for.
    PreVote,
    /// A leader asks who follows to take over.
    TransferLeadership,
}

impl PeerCall {
    /// Every one.
    pub const ALL: [Self; 4] = [Self::Heartbeat, Self::Vote, Self::PreVote, Self::TransferLeadership];
}

/// Messages on their way to a peer, or from one.
pub type Outgoing = BoxStream<'static, Bytes>;
/// Answers of a peer; ends after the first error.
pub type Incoming = BoxStream<'static, Result<Bytes, PeerError>>;
/// Messages of a peer as they arrive here; ends after the first error. An end without one is the sender's
/// own: what it sent has arrived whole.
pub type Arriving = BoxStream<'static, Result<Bytes, SenderGone>>;

/// Reaches the peers of this node.
///
/// A peer that falls silent is noticed here, within seconds: streams and calls then end with an
/// error. A call is given up by dropping its future.
pub trait PeerTransport: fmt::Debug + Send + Sync + 'static {
    /// Opens a stream of appended entries. Messages arrive whole and in order, many at a time on
    /// their way; the answers come in the order of the messages. Dropping the answers ends it.
    fn append(
        &self,
        peer: &PeerAddress,
        messages: Outgoing,
    ) -> BoxFuture<'static, Result<Incoming, PeerError>>;

    /// Asks once.
    fn call(
        &self,
        peer: &PeerAddress,
        call: PeerCall,
        message: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;

    /// Sends a snapshot in pieces, as fast as the peer takes them; the answer comes when it has
    /// installed it. Dropping the future ends it, and the peer forgets what it has.
    fn send_snapshot(
        &self,
        peer: &PeerAddress,
        pieces: Outgoing,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>>;
}

/// A handle to the peers.
pub type SharedPeerTransport = Arc<dyn PeerTransport>;

/// Answers peers.
pub trait PeerEndpoint: Send + Sync + 'static {
    /// Takes appended entries. The answers come in the order of the messages, and end with the messages
    /// or after an error; a sender that gets an end opens a new stream.
    fn append(&self, messages: Arriving) -> BoxStream<'static, Result<Bytes, PeerRefusal>>;

    /// Answers one call.
    fn answer(&self, call: PeerCall, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerRefusal>>;

    /// Takes a snapshot, and answers when it is installed. Memory is bounded by the size of a piece.
    fn take_snapshot(&self, pieces: Arriving) -> BoxFuture<'static, Result<Bytes, PeerRefusal>>;
}

/// Whoever answers peers.
pub type SharedPeerEndpoint = Arc<dyn PeerEndpoint>;

/// Why a peer gave no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerError {
    /// There is no connection, and nothing was sent.
    #[error("node {node} cannot be reached: {reason}")]
    Unreachable {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// The connection broke; what was sent may have arrived.
    #[error("the connection to node {node} broke: {reason}")]
    Broken {
        /// Who.
        node: NodeId,
        /// Why.
        reason: String,
    },
    /// It answered, and refused.
    #[error("node {node} refuses: {reason}")]
    Refused {
        /// Who.
        node: NodeId,
        /// What it says.
        reason: String,
    },
}

/// Whoever sent was gone before the end.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the sender has gone: {reason}")]
pub struct SenderGone {
    /// How.
    pub reason: String,
}

/// Why an endpoint refuses a message.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// The message is for another node: an address changed hands.
    #[error("this is node {this}, the message is for node {meant}")]
    NotThisNode {
        /// Who was reached.
        this: NodeId,
        /// Who was meant.
        meant: NodeId,
    },
    /// The message cannot be read, by this version at least.
    #[error("the message cannot be read: {reason}")]
    BadMessage {
        /// What is wrong with it.
        reason: String,
    },
    /// A snapshot was not taken: it came incomplete or damaged, or cannot be written here.
    #[error("the snapshot is not taken: {reason}")]
    Snapshot {
        /// Why.
        reason: String,
    },
    /// The sender went away in the midst.
    #[error(transparent)]
    SenderGone(#[from] SenderGone),
    /// The node has stopped.
    #[error("the consensus node has stopped: {reason}")]
    Stopped {
        /// Why.
        reason: String,
    },
}
