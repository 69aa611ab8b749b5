//! A listener on loopback, and a proxy before it that can fall silent.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use anyhow::Result;
use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{PeerAddress, SharedPeerEndpoint, SharedPeerTransport};
use blixard_peer::{Channels, GrpcPeers, PlainDialer, configure_server, service};
use blixard_testkit::fake::peers::contract::Ground;
use blixard_types::NodeId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;

/// Listeners that go with this.
#[derive(Default)]
pub(crate) struct OnLoopback(Mutex<JoinSet<()>>);

fn peer(address: SocketAddr) -> PeerAddress {
    PeerAddress { node: NodeId(2), address: address.to_string() }
}

impl OnLoopback {
    pub(crate) async fn serve(&self, endpoint: SharedPeerEndpoint) -> Result<PeerAddress> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        self.serve_on(listener, endpoint);
        Ok(peer(address))
    }

    pub(crate) fn serve_on(&self, listener: TcpListener, endpoint: SharedPeerEndpoint) {
        let server = configure_server(Server::builder()).add_service(service(endpoint));
        self.0.lock().unwrap().spawn(async move {
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.unwrap();
        });
    }
}

impl Ground for OnLoopback {
    fn plug(
        &self,
        endpoint: SharedPeerEndpoint,
    ) -> BoxFuture<'_, Result<(SharedPeerTransport, PeerAddress)>> {
        Box::pin(async move {
            let peer = self.serve(endpoint).await?;
            let peers = GrpcPeers::new(Channels::new(Arc::new(PlainDialer)));
            Ok((Arc::new(peers) as SharedPeerTransport, peer))
        })
    }

    fn nowhere(&self) -> PeerAddress {
        // Port 1 needs root to bind, and nobody does.
        peer(SocketAddr::from(([127, 0, 0, 1], 1)))
    }
}

/// Passes bytes on, unless it is silent: then it reads nothing, and closes nothing.
pub(crate) struct Proxy {
    peer: PeerAddress,
    silent: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    pub(crate) async fn before(target: &PeerAddress) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let peer = peer(listener.local_addr()?);
        let (silent, seen) = watch::channel(false);
        let target = target.address.clone();
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pumps = JoinSet::new();
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&target).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                pumps.spawn(pump(near_in, far_out, seen.clone()));
                pumps.spawn(pump(far_in, near_out, seen.clone()));
            }
        });
        Ok(Self { peer, silent, _tasks: tasks })
    }

    pub(crate) fn peer(&self) -> &PeerAddress {
        &self.peer
    }

    pub(crate) fn fall_silent(&self) {
        self.silent.send_replace(true);
    }

    pub(crate) fn speak(&self) {
        self.silent.send_replace(false);
    }
}

async fn pump(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut silent: watch::Receiver<bool>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return };
        if silent.wait_for(|silent| !*silent).await.is_err() || to.write_all(&buffer[..length]).await.is_err()
        {
            return;
        }
    }
}
