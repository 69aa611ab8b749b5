//! Closures of other simulated machines: copied from store to store, where the network lets it.

use std::collections::BTreeMap;
use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::closure::{ClosureFetcher, FetchError, FetchProgress, HeldClosure};
use blixard_core::ports::nix::NixStore as _;
use blixard_core::transfer::PeerFault;
use blixard_types::{ClosureRef, NodeId};

use super::Ground;
use crate::net::Net;

/// The way of one machine to what the others have.
pub(crate) struct Closures {
    pub(crate) net: Net,
    pub(crate) node: NodeId,
    pub(crate) grounds: Arc<BTreeMap<NodeId, Ground>>,
}

impl Closures {
    async fn from(&self, peer: NodeId, closure: &ClosureRef) -> Result<(), PeerFault> {
        let broken = |reason: &str| PeerFault::Broken(reason.to_owned());
        let (Some(here), Some(there)) = (self.grounds.get(&self.node), self.grounds.get(&peer)) else {
            return Err(broken("there is no such node"));
        };
        let reachable = || self.net.is_open(self.node, peer);
        if !reachable() {
            return Err(broken("it does not answer"));
        }
        tokio::time::sleep(here.0.dice.millis(20, 400)).await;
        if !reachable() {
            return Err(broken("it has fallen silent"));
        }
        let manifest = there.nix().closure(closure.root.clone()).await;
        let manifest = manifest.map_err(|_| broken("it does not have it"))?;
        if manifest.closure_ref().ok().as_ref() != Some(closure) {
            return Err(PeerFault::Lied("another closure".to_owned()));
        }
        for record in manifest.records() {
            here.nix().add_record(record.clone());
        }
        Ok(())
    }
}

impl ClosureFetcher for Closures {
    fn fetch(
        &self,
        closure: ClosureRef,
        peers: Vec<NodeId>,
        _: FetchProgress,
    ) -> BoxFuture<'_, Result<HeldClosure, FetchError>> {
        Box::pin(async move {
            let mut faults = Vec::new();
            for peer in peers {
                match self.from(peer, &closure).await {
                    Ok(()) => return Ok(HeldClosure(Box::new(()))),
                    Err(fault) => faults.push((peer, fault)),
                }
            }
            Err(if faults.is_empty() { FetchError::NoPeers } else { FetchError::Peers(faults) })
        })
    }
}
