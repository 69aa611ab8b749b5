//! Channels to other nodes. A channel is made once a node, connects when it is used, and connects again by
//! itself; where the node is reached is asked at every connect, so that it may move.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::PeerAddress;
use blixard_peer::{Channels, DialError, Dialer, GrpcPeers};
use blixard_pki::MutualTls;
use blixard_server::PeerChannels;
use blixard_types::{NodeAddress, NodeId};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Uri};

/// How long a connection may take to come up. Within a data centre it takes a millisecond.
const CONNECT_LIMIT: Duration = Duration::from_secs(2);

/// Where nodes are reached.
pub(crate) type Addresses = Arc<dyn Fn(NodeId) -> Option<NodeAddress> + Send + Sync>;

/// The way to other nodes.
#[derive(Clone)]
pub(crate) struct Mesh(Arc<Inner>);

struct Inner {
    tls: watch::Receiver<Option<MutualTls>>,
    addresses: Addresses,
    channels: Mutex<BTreeMap<NodeId, Channel>>,
}

impl Mesh {
    pub(crate) fn new(tls: watch::Receiver<Option<MutualTls>>, addresses: Addresses) -> Self {
        Self(Arc::new(Inner { tls, addresses, channels: Mutex::default() }))
    }

    /// A new channel, on a connection of its own, to a node that was last known to be at this address.
    pub(crate) fn dial(&self, node: NodeId, hint: Option<NodeAddress>) -> Channel {
        self.dial_with(node, hint, |endpoint| endpoint)
    }

    /// The same, on a connection that differs in something.
    pub(crate) fn dial_with(
        &self,
        node: NodeId,
        hint: Option<NodeAddress>,
        change: impl FnOnce(Endpoint) -> Endpoint,
    ) -> Channel {
        let inner = Arc::clone(&self.0);
        let connect = tower::service_fn(move |_: Uri| {
            let (inner, hint) = (Arc::clone(&inner), hint.clone());
            async move { inner.connect(node, hint).await.map(TokioIo::new) }
        });
        // The address is not used: the connector knows where to go, and TLS whom to expect.
        change(blixard_peer::configure(Endpoint::from_static("http://node.blixard")))
            .connect_with_connector_lazy(connect)
    }

    /// How the consensus reaches its peers.
    pub(crate) fn transport(&self) -> GrpcPeers {
        GrpcPeers::new(Channels::new(Arc::new(self.clone())))
    }

    /// The channel for calls to a node.
    pub(crate) fn channel_to(&self, node: NodeId) -> Channel {
        let mut channels = self.0.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.entry(node).or_insert_with(|| self.dial(node, None)).clone()
    }
}

impl Inner {
    async fn connect(
        &self,
        node: NodeId,
        hint: Option<NodeAddress>,
    ) -> io::Result<tokio_rustls::client::TlsStream<TcpStream>> {
        let tls = self.tls.borrow().clone();
        let tls = tls.ok_or_else(|| io::Error::other("this node has no certificate yet"))?;
        let address = (self.addresses)(node).or(hint);
        let address =
            address.ok_or_else(|| io::Error::other(format!("it is not known where node {node} is")))?;
        let connected = async {
            let stream = TcpStream::connect((address.host(), address.port())).await?;
            stream.set_nodelay(true)?;
            tls.connect(stream, node).await.map_err(io::Error::other)
        };
        timeout(CONNECT_LIMIT, connected).await.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl fmt::Debug for Mesh {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("Mesh")
    }
}

impl Dialer for Mesh {
    fn channel(&self, peer: &PeerAddress) -> Result<Channel, DialError> {
        // A cluster of one that has become a larger one may record none yet; the state knows better.
        Ok(self.dial(peer.node, peer.address.parse().ok()))
    }
}

impl PeerChannels for Mesh {
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, Status>> {
        Box::pin(std::future::ready(Ok(self.channel_to(node))))
    }
}
