//! Fetches closures from peers into the local store.
//!
//! ```text
//! manifest (any peer, checked) ─▶ importer: what is missing ─▶ does it fit?
//!   ─▶ peers, all at once, from one queue ─▶ importer: checked, in place ─▶ registered ─▶ held
//! ```
//! Owns: the streams to peers and what they cost: a window of bytes for each peer, a few chunks on the
//! way to the importer, and back-pressure from there to the sender's disk. Refuses to know: which path is
//! asked of whom, and who is dropped; core decides that.

mod lane;
mod manifest;
mod peer;
mod session;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use blixard_core::ports::closure::{ClosureFetcher, FetchError, FetchProgress, HeldClosure};
use blixard_core::ports::{BoxFuture, Clock};
use blixard_core::transfer::{Pace, PeerFault};
use blixard_types::{ClosureRef, NodeId};
use tonic::transport::Channel;

use crate::import::client::ImporterCommand;
use crate::limits::FetchLimits;

/// The way to the other nodes. The window of a channel's streams, and of its connection, is to be
/// [`FetchLimits::window`]: that is what a peer can make this node hold.
pub trait PeerAccess: Send + Sync + 'static {
    /// A channel to a node's closure service.
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, String>>;
}

/// How long a node may take to be connected to.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

async fn connect(access: &dyn PeerAccess, node: NodeId) -> Result<Channel, PeerFault> {
    let late = |_| PeerFault::Broken(format!("no connection within {} s", CONNECT_LIMIT.as_secs()));
    let connected = tokio::time::timeout(CONNECT_LIMIT, access.channel(node)).await.map_err(late)?;
    connected.map_err(PeerFault::Broken)
}

/// Fetches closures, one after another.
#[derive(Clone)]
pub struct Fetcher {
    peers: Arc<dyn PeerAccess>,
    importer: ImporterCommand,
    clock: Arc<dyn Clock>,
    limits: FetchLimits,
    pace: Option<Arc<Mutex<Pace>>>,
    /// Two imports at once would both make the paths they share.
    turn: Arc<tokio::sync::Mutex<()>>,
}

impl Fetcher {
    /// Reaches peers this way, and puts what they send into the store by that importer.
    #[must_use]
    pub fn new(
        peers: Arc<dyn PeerAccess>,
        importer: ImporterCommand,
        clock: Arc<dyn Clock>,
        limits: FetchLimits,
    ) -> Self {
        let pace = limits.bytes_per_s.map(|rate| Arc::new(Mutex::new(Pace::new(rate))));
        Self { peers, importer, clock, limits, pace, turn: Arc::default() }
    }
}

impl ClosureFetcher for Fetcher {
    fn fetch(
        &self,
        closure: ClosureRef,
        peers: Vec<NodeId>,
        progress: FetchProgress,
    ) -> BoxFuture<'_, Result<HeldClosure, FetchError>> {
        Box::pin(async move {
            if peers.is_empty() {
                return Err(FetchError::NoPeers);
            }
            let _turn = self.turn.lock().await;
            let (manifest, honest) = manifest::fetch(self.peers.as_ref(), &closure, &peers).await?;
            let peers = honest.into_iter().take(self.limits.peers).collect();
            session::run(self, closure, manifest, peers, &progress).await
        })
    }
}

#[cfg(test)]
mod tests;
