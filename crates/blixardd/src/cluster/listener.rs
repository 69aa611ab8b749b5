//! Connections of other nodes: a handshake each, then sorted. Who has shown a certificate reaches the
//! services of the cluster; a stranger reaches a server that can do nothing but let it join.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use blixard_pki::{MutualTls, PeerGate, PeerIdentity};
use blixard_server::CallingNode;
use blixard_types::NodeId;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use tonic::{Extensions, Request, Status};

/// Connections of members at once: a few for each of some hundred nodes.
const MEMBERS_MAX: usize = 2048;
/// Connections of strangers at once, handshakes included: joining is rare, and takes a second.
const STRANGERS_MAX: usize = 64;
/// A handshake takes two round trips; who needs longer has something else in mind.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// A stranger says what it wants and goes.
const STRANGER_LIMIT: Duration = Duration::from_mins(1);
/// How often an open connection is held against the state: a node that is removed loses it by then.
const REVIEW_EVERY: Duration = Duration::from_secs(1);
/// Pause after the kernel could not give us a connection.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

type TlsStream = tokio_rustls::server::TlsStream<TcpStream>;

/// The connections of a listener, sorted.
pub(crate) struct Incoming {
    pub(crate) members: ReceiverStream<io::Result<PeerConnection>>,
    pub(crate) strangers: ReceiverStream<io::Result<PeerConnection>>,
}

/// Begins to accept; the future accepts for as long as it is polled.
pub(crate) fn incoming(
    listener: TcpListener,
    tls: MutualTls,
    gate: Arc<dyn PeerGate>,
) -> (Incoming, impl Future<Output = ()> + Send) {
    // The servers take connections as fast as they come.
    let (to_members, members) = mpsc::channel(1);
    let (to_strangers, strangers) = mpsc::channel(1);
    let incoming =
        Incoming { members: ReceiverStream::new(members), strangers: ReceiverStream::new(strangers) };
    let rooms = [MEMBERS_MAX, STRANGERS_MAX].map(|room| Arc::new(Semaphore::new(room)));
    let accept = async move {
        let [members_room, strangers_room] = rooms;
        let mut handshakes = FuturesUnordered::new();
        loop {
            futures_util::select! {
                accepted = listener.accept().fuse() => match accepted {
                    Ok((stream, from)) => {
                        // Until it is known to be a member, it is a stranger.
                        let Ok(permit) = Arc::clone(&strangers_room).try_acquire_owned() else { continue };
                        let tls = tls.clone();
                        handshakes.push(async move { (shake(&tls, stream, from).await, permit) });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection, trying again");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
                (done, permit) = handshakes.select_next_some() => {
                    let Some((stream, peer)) = done else { continue };
                    let sent = match peer {
                        None => {
                            let over = Box::pin(sleep(STRANGER_LIMIT));
                            to_strangers.send(Ok(PeerConnection { stream, peer, over, _permit: permit })).await
                        }
                        Some(identity) => {
                            drop(permit);
                            let Ok(permit) = Arc::clone(&members_room).try_acquire_owned() else { continue };
                            let over = Box::pin(until_refused(Arc::clone(&gate), identity));
                            to_members.send(Ok(PeerConnection { stream, peer, over, _permit: permit })).await
                        }
                    };
                    if sent.is_err() {
                        return;
                    }
                }
            }
        }
    };
    (incoming, accept)
}

async fn shake(
    tls: &MutualTls,
    stream: TcpStream,
    from: std::net::SocketAddr,
) -> Option<(TlsStream, Option<PeerIdentity>)> {
    // A delay of 40 ms for each small message would be most of a write's time.
    let _ = stream.set_nodelay(true);
    match timeout(HANDSHAKE_LIMIT, tls.accept(stream)).await {
        Ok(Ok(done)) => Some(done),
        Ok(Err(error)) => {
            let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
            tracing::warn!(%from, %error, cause, "a connection is refused");
            None
        }
        Err(_) => None,
    }
}

async fn until_refused(gate: Arc<dyn PeerGate>, peer: PeerIdentity) {
    loop {
        sleep(REVIEW_EVERY).await;
        if let Err(refusal) = gate.admits(&peer) {
            tracing::warn!(node = %peer.node, %refusal, "a connection is closed");
            return;
        }
    }
}

/// A connection of another node.
pub(crate) struct PeerConnection {
    stream: TlsStream,
    peer: Option<PeerIdentity>,
    /// When it is over whatever is said.
    over: Pin<Box<dyn Future<Output = ()> + Send>>,
    _permit: OwnedSemaphorePermit,
}

/// Who is at the other end.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PeerInfo(Option<PeerIdentity>);

impl Connected for PeerConnection {
    type ConnectInfo = PeerInfo;

    fn connect_info(&self) -> PeerInfo {
        PeerInfo(self.peer)
    }
}

/// Says in the request who calls.
pub(crate) fn calling_node(mut request: Request<()>) -> Result<Request<()>, Status> {
    let info = request.extensions().get::<PeerInfo>().and_then(|PeerInfo(peer)| *peer);
    let peer = info.ok_or_else(|| Status::unauthenticated("who calls is not known"))?;
    request.extensions_mut().insert(CallingNode(peer.node));
    Ok(request)
}

/// Who has called, for those who know nothing of this server.
pub(crate) fn caller(extensions: &Extensions) -> Option<NodeId> {
    extensions.get::<CallingNode>().map(|CallingNode(node)| *node)
}

impl AsyncRead for PeerConnection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.over.as_mut().poll(context).is_ready() {
            // It is not polled again: whoever gets this error drops the connection.
            self.over = Box::pin(std::future::ready(()));
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.stream).poll_read(context, into)
    }
}

impl AsyncWrite for PeerConnection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(context, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
