//! Connections of other nodes: a handshake each, then sorted. Who has shown a certificate reaches the
//! services of the cluster; a stranger reaches a server that can do nothing but let it join.

mod complaints;
mod room;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use blixard_pki::{MutualTls, PeerGate, PeerIdentity};
use blixard_server::{CallingNode, ShownCertificate};
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

use complaints::Complaints;
use room::{Crowd, Place, Room, Size};

/// Connections of members at once: a few for each of some hundred nodes.
const MEMBERS_MAX: usize = 2048;
/// Handshakes at once. Nobody has shown who it is yet: they are in the way of nobody else, and of each other as little as can be.
const HANDSHAKES: Size = Size { all: 1024, each: 64 };
/// Connections of strangers at once: joining is rare, and takes a second.
const STRANGERS: Size = Size { all: 64, each: 16 };
/// A handshake takes two round trips; who needs longer has something else in mind.
const HANDSHAKE_LIMIT: Duration = Duration::from_secs(5);
/// How long a stranger may take to say what it wants.
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
    let members_room = Arc::new(Semaphore::new(MEMBERS_MAX));
    let (shaking, strange) = (Room::new(HANDSHAKES), Room::new(STRANGERS));
    let complaints = Arc::new(Complaints::default());
    let accept = async move {
        let mut handshakes = FuturesUnordered::new();
        loop {
            futures_util::select! {
                accepted = listener.accept().fuse() => match accepted {
                    Ok((stream, from)) => {
                        let place = enter(&shaking, from.ip(), "handshakes", &complaints);
                        let (tls, complaints) = (tls.clone(), Arc::clone(&complaints));
                        handshakes.push(async move { (shake(&tls, stream, from, place, &complaints).await, from) });
                    }
                    Err(error) => {
                        tracing::warn!(%error, "cannot accept a connection, trying again");
                        sleep(ACCEPT_AGAIN).await;
                    }
                },
                (done, from) = handshakes.select_next_some() => {
                    let Some((stream, peer)) = done else { continue };
                    let sent = match peer {
                        None => {
                            let place = enter(&strange, from.ip(), "strangers", &complaints);
                            let over = Box::pin(until_displaced(place));
                            to_strangers.send(Ok(PeerConnection { stream, peer, over, _permit: None })).await
                        }
                        Some(identity) => {
                            let Ok(permit) = Arc::clone(&members_room).try_acquire_owned() else {
                                if complaints.is_due(identity.node, "members") {
                                    tracing::warn!(node = %identity.node, "too many connections of members: it is closed");
                                }
                                continue;
                            };
                            let over = Box::pin(until_refused(Arc::clone(&gate), identity, Arc::clone(&complaints)));
                            let connection = PeerConnection { stream, peer, over, _permit: Some(permit) };
                            to_members.send(Ok(connection)).await
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

fn enter(room: &Room, from: IpAddr, of: &'static str, complaints: &Complaints) -> Place {
    let (place, crowd) = room.enter(from);
    if let Crowd::Full(address) = crowd
        && complaints.is_due(address, of)
    {
        tracing::warn!(%address, of, "too many connections at once: the oldest from there is closed");
    }
    place
}

async fn shake(
    tls: &MutualTls,
    stream: TcpStream,
    from: SocketAddr,
    mut place: Place,
    complaints: &Complaints,
) -> Option<(TlsStream, Option<PeerIdentity>)> {
    // A delay of 40 ms for each small message would be most of a write's time.
    let _ = stream.set_nodelay(true);
    let shaken = tokio::select! {
        shaken = timeout(HANDSHAKE_LIMIT, tls.accept(stream)) => shaken.ok()?,
        () = place.lost() => return None,
    };
    match shaken {
        Ok(done) => Some(done),
        Err(error) => {
            let reason = blixard_types::chain(&error);
            if complaints.is_due(from.ip(), &reason) {
                tracing::warn!(%from, reason, "a connection is refused");
            }
            None
        }
    }
}

/// A stranger says what it wants and goes.
async fn until_displaced(mut place: Place) {
    let _ = timeout(STRANGER_LIMIT, place.lost()).await;
}

async fn until_refused(gate: Arc<dyn PeerGate>, peer: PeerIdentity, complaints: Arc<Complaints>) {
    loop {
        sleep(REVIEW_EVERY).await;
        if let Err(refusal) = gate.admits(&peer) {
            if complaints.is_due(peer.node, &refusal) {
                tracing::warn!(node = %peer.node, %refusal, "a connection is closed");
            }
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
    _permit: Option<OwnedSemaphorePermit>,
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
    request.extensions_mut().insert(ShownCertificate(peer.serial));
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
