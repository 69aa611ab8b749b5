//! The transport of a node that reaches nobody: a cluster of one that does not listen.

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{Incoming, Outgoing, PeerAddress, PeerCall, PeerError, PeerTransport};
use bytes::Bytes;

/// Reaches no peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct NoPeers;

fn nobody<T: Send + 'static>(peer: &PeerAddress) -> BoxFuture<'static, Result<T, PeerError>> {
    let reason = "this node has no transport".to_owned();
    let error = PeerError::Unreachable { node: peer.node, reason };
    Box::pin(std::future::ready(Err(error)))
}

impl PeerTransport for NoPeers {
    fn append(&self, peer: &PeerAddress, _: Outgoing) -> BoxFuture<'static, Result<Incoming, PeerError>> {
        nobody(peer)
    }

    fn call(
        &self,
        peer: &PeerAddress,
        _: PeerCall,
        _: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        nobody(peer)
    }

    fn send_snapshot(&self, peer: &PeerAddress, _: Outgoing) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        nobody(peer)
    }
}
