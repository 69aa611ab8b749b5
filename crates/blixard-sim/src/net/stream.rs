//! Connections of bytes between two nodes, for gRPC as it is served.
//!
//! Owns a connection in the caller's runtime: what one end writes arrives at the other, later and in order,
//! or the connection breaks. What is in it is left out of the digest: HTTP puts the real date in its headers.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use blixard_core::ports::peer::PeerAddress;
use blixard_server::CallingNode;
use blixard_types::NodeId;
use bytes::Bytes;
use tokio::io::{
    AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream, ReadBuf, duplex, split,
};
use tonic::transport::server::Connected;

use super::carry::{Connection, Pump};
use super::{Net, Parcel};

/// Bytes that wait at one end: more than an answer has.
const WINDOW_BYTES: usize = 256 * 1024;
/// Bytes that travel as one message.
const PIECE_BYTES: usize = 16 * 1024;

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct End {
    io: DuplexStream,
    peer: NodeId,
    _pump: Option<Pump>,
}

impl Net {
    /// Connects to what a node serves.
    pub(crate) async fn connect(&self, from: NodeId, to: NodeId) -> io::Result<End> {
        let refused = |error| io::Error::new(io::ErrorKind::ConnectionRefused, error);
        let inbox = self.inbox(from, &PeerAddress { node: to, address: String::new() }).map_err(refused)?;
        let round_trip = self.lock().dice.millis(2, 10);
        tokio::time::sleep(round_trip).await;
        let there = Connection::new(self.clone(), from, to);
        let (near, inner_near) = duplex(WINDOW_BYTES);
        let (far, inner_far) = duplex(WINDOW_BYTES);
        let far = End { io: far, peer: from, _pump: None };
        inbox
            .send(Parcel::Stream { end: far })
            .map_err(|_| io::Error::from(io::ErrorKind::ConnectionRefused))?;
        let (near_reads, near_writes) = split(inner_near);
        let (far_reads, far_writes) = split(inner_far);
        let back = there.reverse();
        let pump = Pump::start(async move {
            tokio::select! {
                biased;
                () = there.broken() => {}
                () = carry(near_reads, &there, far_writes) => {}
                () = carry(far_reads, &back, near_writes) => {}
            }
        });
        Ok(End { io: near, peer: to, _pump: Some(pump) })
    }
}

/// Carries bytes until the one end is closed. Does not end once something is lost.
async fn carry(mut from: impl AsyncRead + Unpin, way: &Connection, mut to: impl AsyncWrite + Unpin) {
    let mut piece = vec![0; PIECE_BYTES];
    let mut before = Duration::ZERO;
    loop {
        let Ok(length) = from.read(&mut piece).await else { return };
        let Some(bytes) = piece.get(..length).filter(|bytes| !bytes.is_empty()) else { return };
        let Some(stamped) = way.send(Bytes::new(), &mut before) else { break };
        if way.arrive(stamped).await.is_none() {
            break;
        }
        if to.write_all(bytes).await.is_err() {
            return;
        }
    }
    std::future::pending::<()>().await;
}

impl AsyncRead for End {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        out: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(context, out)
    }
}

impl AsyncWrite for End {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}

/// Who calls is what a certificate would say.
impl Connected for End {
    type ConnectInfo = CallingNode;

    fn connect_info(&self) -> CallingNode {
        CallingNode(self.peer)
    }
}
