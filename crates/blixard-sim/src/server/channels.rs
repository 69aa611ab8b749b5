//! gRPC channels between simulated nodes, over connections of the simulated network.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use blixard_server::PeerChannels;
use blixard_types::NodeId;
use futures_util::future::BoxFuture;
use hyper_util::rt::TokioIo;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::net::Net;

/// After this a silent peer is asked whether it lives, and given up: as for real, and sooner.
const SILENCE: Duration = Duration::from_millis(500);

/// Channels from one node, each made when it is first needed.
pub(crate) struct Channels {
    net: Net,
    from: NodeId,
    made: Mutex<BTreeMap<NodeId, Channel>>,
}

impl Channels {
    pub(crate) fn new(net: Net, from: NodeId) -> Self {
        Self { net, from, made: Mutex::default() }
    }

    /// A channel that connects when it is used.
    pub(crate) fn to(&self, node: NodeId) -> Channel {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        made.entry(node).or_insert_with(|| self.make(node)).clone()
    }

    /// One that nobody else uses.
    pub(crate) fn make(&self, node: NodeId) -> Channel {
        let (net, from) = (self.net.clone(), self.from);
        let connect = service_fn(move |_| {
            let net = net.clone();
            async move { net.connect(from, node).await.map(TokioIo::new) }
        });
        Endpoint::from_static("http://node.simulated")
            .connect_timeout(SILENCE)
            .http2_keep_alive_interval(SILENCE)
            .keep_alive_timeout(SILENCE)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(connect)
    }
}

impl PeerChannels for Channels {
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, Status>> {
        Box::pin(std::future::ready(Ok(self.to(node))))
    }
}
