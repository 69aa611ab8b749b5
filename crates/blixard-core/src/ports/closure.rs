//! Closures that other nodes have.

use std::any::Any;
use std::sync::Arc;

use blixard_types::{ClosureRef, NodeId};

use super::BoxFuture;
use crate::transfer::{NoRoom, PeerFault, Progress};

/// Takes progress. Called often; must not block.
pub type FetchProgress = Arc<dyn Fn(Progress) + Send + Sync>;

/// A closure that is in the store, and cannot be collected until this is dropped. Make a root before.
pub struct HeldClosure(pub Box<dyn Any + Send + Sync>);

impl std::fmt::Debug for HeldClosure {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("HeldClosure")
    }
}

/// Why a closure was not fetched. Nothing of it is registered in the store then.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// There is nobody to ask.
    #[error("no other node has it")]
    NoPeers,
    /// No peer could serve it, or all were caught.
    #[error("no peer could serve it: {}", list(.0))]
    Peers(Vec<(NodeId, PeerFault)>),
    /// It does not fit.
    #[error(transparent)]
    NoRoom(#[from] NoRoom),
    /// It cannot be put into the store.
    #[error("it cannot be put into the store: {reason}")]
    Import {
        /// What the importer says.
        reason: String,
    },
}

fn list(faults: &[(NodeId, PeerFault)]) -> String {
    let faults: Vec<_> = faults.iter().map(|(node, fault)| format!("node {node}: {fault}")).collect();
    faults.join("; ")
}

/// Fetches closures into the local store.
pub trait ClosureFetcher: Send + Sync + 'static {
    /// Fetches what the store lacks of a closure, from these nodes, in the order of their worth.
    fn fetch(
        &self,
        closure: ClosureRef,
        peers: Vec<NodeId>,
        progress: FetchProgress,
    ) -> BoxFuture<'_, Result<HeldClosure, FetchError>>;
}
