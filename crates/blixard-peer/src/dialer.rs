//! How a peer is connected to: the plain way, and the settings that every way shares.
//!
//! Owns the time after which a silent peer is given up. Refuses to connect: the channels it makes do,
//! when they are first used.

use std::fmt;
use std::time::Duration;

use blixard_core::ports::peer::PeerAddress;
use tonic::transport::{Channel, Endpoint};

/// A connection that takes longer than this is not made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A connection on which nothing was heard for this long is asked whether it lives, and given up after
/// as long again. Without it, a peer that vanished without a word holds what was sent to it until TCP
/// gives up, which is minutes; and one that is back is not talked to before TCP has sent again.
pub(crate) const SILENCE: Duration = Duration::from_secs(1);
/// How much may be on its way unread, on each stream and in all: some large messages, so that a round
/// trip is not waited for in between.
pub(crate) const WINDOW_BYTES: u32 = 4 * 1024 * 1024;

/// Makes channels to peers.
pub trait Dialer: fmt::Debug + Send + Sync + 'static {
    /// A channel that connects when it is first used, and again when its connection has broken; only to
    /// the node that is named. Makes no connection itself.
    fn channel(&self, peer: &PeerAddress) -> Result<Channel, DialError>;
}

/// Why there can be no channel to a peer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DialError {
    /// Its address is not one.
    #[error("{address:?} is not an address, which has the form host:port")]
    BadAddress {
        /// What is recorded.
        address: String,
    },
    /// The credentials of this node do not serve.
    #[error("cannot use this node's credentials: {reason}")]
    Credentials {
        /// Why.
        reason: String,
    },
}

/// Sets what holds for every connection to a peer.
pub fn configure(endpoint: Endpoint) -> Endpoint {
    endpoint
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(SILENCE)
        .keep_alive_timeout(SILENCE)
        .keep_alive_while_idle(true)
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
}

/// Connects without encryption and without knowing who answers: for tests and benchmarks on one machine.
#[derive(Debug, Clone, Copy)]
pub struct PlainDialer;

impl Dialer for PlainDialer {
    fn channel(&self, peer: &PeerAddress) -> Result<Channel, DialError> {
        let bad = || DialError::BadAddress { address: peer.address.clone() };
        if peer.address.is_empty() {
            return Err(bad());
        }
        let endpoint = Endpoint::from_shared(format!("http://{}", peer.address)).map_err(|_| bad())?;
        Ok(configure(endpoint).connect_lazy())
    }
}
