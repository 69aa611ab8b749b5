//! Peers over gRPC: the port [`PeerTransport`](blixard_core::ports::peer::PeerTransport), kept by tonic.
//!
//! Owns the connections to other nodes: how many there are, when one is given up, how soon it is tried
//! again. Refuses to know what the bytes of the consensus mean, and how a connection is secured: that
//! is the [`Dialer`]'s affair.
//!
//! ```text
//! PeerTransport ─► GrpcPeers ─► Channels ─► Dialer ~~~ service() ─► PeerEndpoint
//! ```
//!
//! Time is tokio's, connections are the dialer's, tasks are tonic's on the runtime that calls: a
//! simulation can own all three.

mod channels;
mod client;
mod dialer;
mod server;

pub use channels::{Channels, Lane, Link};
pub use client::GrpcPeers;
pub use dialer::{DialError, Dialer, PlainDialer, configure};
pub use server::{PeerService, configure_server, service};

/// The largest message that is sent or taken. Appended entries come in messages of about 1 MiB, snapshots
/// in pieces of less; the rest is room for one command of almost 1 MiB at the end of a message.
pub const MAX_MESSAGE_BYTES: usize = 4 * 1024 * 1024;
