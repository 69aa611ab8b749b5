//! Channels to peers: one for each kind of traffic, so that none waits for another.
//!
//! Owns when a peer that failed is tried again. Shared by all who talk to peers.
//!
//! ```text
//! new ─► works ◄─► resting: refuses at once until its time is over, which doubles with each failure
//! ```

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::ports::peer::{PeerAddress, PeerError};
use blixard_types::NodeId;
use tokio::time::Instant;
use tonic::transport::Channel;

use crate::dialer::Dialer;

/// How long a peer rests after it failed, first and at most. The most bounds how late a peer that is back
/// is found, and how often one that is away is tried.
const REST_FIRST: Duration = Duration::from_millis(10);
const REST_MOST: Duration = Duration::from_millis(250);

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lane {
    /// Appended entries: bulk, in order.
    Append,
    /// Heartbeats and votes: small, and must not wait.
    Calls,
    /// Snapshots: the most bulk.
    Snapshots,
    /// Requests of users that are passed on, and all that is not consensus.
    Requests,
}

type Links = BTreeMap<(NodeId, Lane), Arc<State>>;

/// The channels of one node. Clones share them.
#[derive(Debug, Clone)]
pub struct Channels {
    dialer: Arc<dyn Dialer>,
    links: Arc<Mutex<Links>>,
}

#[derive(Debug)]
struct State {
    address: String,
    channel: Channel,
    rest: Mutex<Rest>,
}

#[derive(Debug, Default)]
struct Rest {
    /// How often it failed since it last worked.
    failures: u32,
    until: Option<Instant>,
    reason: String,
}

/// A channel to one peer, and where to tell how it went.
#[derive(Debug, Clone)]
pub struct Link {
    peer: NodeId,
    state: Arc<State>,
}

impl Channels {
    /// No channels yet.
    pub fn new(dialer: Arc<dyn Dialer>) -> Self {
        Self { dialer, links: Arc::default() }
    }

    /// The channel to a peer.
    ///
    /// # Errors
    /// At once while the peer rests after a failure, and when its address is of no use.
    pub fn link(&self, peer: &PeerAddress, lane: Lane) -> Result<Link, PeerError> {
        let state = self.state(peer, lane)?;
        let rest = lock(&state.rest);
        if let Some(until) = rest.until
            && Instant::now() < until
        {
            let reason = format!("it failed a moment ago: {}", rest.reason);
            return Err(PeerError::Unreachable { node: peer.node, reason });
        }
        drop(rest);
        Ok(Link { peer: peer.node, state })
    }

    /// Lets go of all connections to a node, say one that is no member any more.
    pub fn forget(&self, node: NodeId) {
        lock(&self.links).retain(|(known, _), _| *known != node);
    }

    fn state(&self, peer: &PeerAddress, lane: Lane) -> Result<Arc<State>, PeerError> {
        let mut links = lock(&self.links);
        let known = links.get(&(peer.node, lane)).filter(|known| known.address == peer.address);
        if let Some(known) = known {
            return Ok(Arc::clone(known));
        }
        let channel = self
            .dialer
            .channel(peer)
            .map_err(|error| PeerError::Unreachable { node: peer.node, reason: error.to_string() })?;
        let state = Arc::new(State { address: peer.address.clone(), channel, rest: Mutex::default() });
        links.insert((peer.node, lane), Arc::clone(&state));
        Ok(state)
    }
}

impl Link {
    /// The channel.
    pub fn channel(&self) -> Channel {
        self.state.channel.clone()
    }

    /// Who is at the other end.
    pub fn peer(&self) -> NodeId {
        self.peer
    }

    /// The peer has answered.
    pub fn worked(&self) {
        let mut rest = lock(&self.state.rest);
        if rest.failures > 0 {
            tracing::info!(node = %self.peer, "the connection works again");
            *rest = Rest::default();
        }
    }

    /// The connection failed: the peer rests for a while.
    pub fn failed(&self, reason: &str) {
        let mut rest = lock(&self.state.rest);
        if rest.failures == 0 {
            tracing::info!(node = %self.peer, reason, "the connection has failed");
        }
        let delay = REST_FIRST.saturating_mul(1 << rest.failures.min(16)).min(REST_MOST);
        rest.failures = rest.failures.saturating_add(1);
        rest.until = Some(Instant::now() + delay);
        reason.clone_into(&mut rest.reason);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No value is left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
