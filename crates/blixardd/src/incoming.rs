//! Connections as they come: so many at once, and each must begin to speak.
//!
//! Owns: accepting, and what a connection may cost before it has said anything. Refuses to know: who calls
//! and what is said; a limit that is reached closes the newest connection, not the daemon.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures_util::Stream;
use futures_util::stream::unfold;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::transport::server::{Connected, UdsConnectInfo};

/// Connections at once. One costs some tens of kilobytes once it speaks.
const CONNECTIONS_MAX: usize = 1024;

/// Every HTTP/2 connection begins with so many bytes that are always the same (RFC 9113 §3.4) …
const PREFACE_BYTES: usize = 24;

/// … and has to have sent them by then.
const PREFACE_LIMIT: Duration = Duration::from_secs(10);

/// Pause after the kernel could not give us a connection, as when there are no file descriptors.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// Files that the daemon may need besides its connections: the log, pipes of Nix and journalctl.
const OTHER_FILES: u64 = 3072;

/// Lets this process open as many files as its connections and its work may need, if it is allowed to.
pub(crate) fn make_room() {
    let limit = getrlimit(Resource::Nofile);
    let wanted = OTHER_FILES.saturating_add(CONNECTIONS_MAX as u64);
    let allowed = limit.maximum.map_or(wanted, |maximum| maximum.min(wanted));
    if limit.current.is_some_and(|current| current < allowed) {
        let limit = Rlimit { current: Some(allowed), maximum: limit.maximum };
        if let Err(error) = setrlimit(Resource::Nofile, limit) {
            tracing::warn!(%error, "cannot raise the limit of open files");
        }
    }
}

/// The connections of a listener. It never ends, and never fails.
pub(crate) fn incoming(listener: UnixListener) -> impl Stream<Item = io::Result<Connection>> {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    unfold((listener, room), |(listener, room)| async move {
        let connection = next(&listener, &room).await;
        Some((Ok(connection), (listener, room)))
    })
}

async fn next(listener: &UnixListener, room: &Arc<Semaphore>) -> Connection {
    loop {
        match (listener.accept().await, Arc::clone(room).try_acquire_owned()) {
            (Ok((stream, _)), Ok(permit)) => return Connection::new(stream, permit),
            (Ok(_), Err(_)) => tracing::warn!(CONNECTIONS_MAX, "too many connections: one is closed"),
            (Err(error), _) => {
                tracing::warn!(%error, "cannot accept a connection, trying again");
                sleep(ACCEPT_AGAIN).await;
            }
        }
    }
}

/// A connection that is closed when it does not begin to speak.
pub(crate) struct Connection {
    stream: UnixStream,
    /// Until the preface is there: how much is missing, and how long it may be.
    silence: Option<(usize, Pin<Box<Sleep>>)>,
    _permit: OwnedSemaphorePermit,
}

impl Connection {
    fn new(stream: UnixStream, permit: OwnedSemaphorePermit) -> Self {
        Self { stream, silence: Some((PREFACE_BYTES, Box::pin(sleep(PREFACE_LIMIT)))), _permit: permit }
    }
}

impl Connected for Connection {
    type ConnectInfo = UdsConnectInfo;

    fn connect_info(&self) -> UdsConnectInfo {
        self.stream.connect_info()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        into: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, into);
        let Some((missing, limit)) = &mut self.silence else { return read };
        if read.is_pending() {
            ready!(limit.as_mut().poll(context));
            return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
        }
        *missing = missing.saturating_sub(into.filled().len().saturating_sub(before));
        if *missing == 0 {
            self.silence = None;
        }
        read
    }
}

impl AsyncWrite for Connection {
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

#[cfg(test)]
mod tests {
    use futures_util::StreamExt as _;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    fn listener() -> (tempfile::TempDir, UnixListener, std::path::PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let listener = UnixListener::bind(&path).unwrap();
        (folder, listener, path)
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_never_speaks_or_stops_in_its_preface_is_closed() {
        let (_folder, listener, path) = listener();
        let mut incoming = Box::pin(incoming(listener));
        for said in [&b""[..], b"PRI * HTTP/2.0"] {
            let mut client = UnixStream::connect(&path).await.unwrap();
            let mut server = incoming.next().await.unwrap().unwrap();
            client.write_all(said).await.unwrap();
            let mut read = Vec::new();
            let error = server.read_to_end(&mut read).await.unwrap_err();
            assert_eq!((error.kind(), read.as_slice()), (io::ErrorKind::TimedOut, said));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_connection_that_has_begun_may_be_silent() {
        let (_folder, listener, path) = listener();
        let mut incoming = Box::pin(incoming(listener));
        let mut client = UnixStream::connect(&path).await.unwrap();
        let mut server = incoming.next().await.unwrap().unwrap();
        client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
        server.read_exact(&mut [0; PREFACE_BYTES]).await.unwrap();
        let long = tokio::time::timeout(PREFACE_LIMIT * 9, server.read_u8()).await;
        assert!(long.is_err(), "it was closed");
    }

    #[tokio::test]
    async fn a_connection_too_many_is_closed_and_a_later_one_is_taken() {
        let (_folder, listener, path) = listener();
        let room = Arc::new(Semaphore::new(1));
        let one = UnixStream::connect(&path).await.unwrap();
        let first = next(&listener, &room).await;
        let mut two = UnixStream::connect(&path).await.unwrap();
        let three = UnixStream::connect(&path);
        let closed = async { two.read(&mut [0]).await.unwrap() };
        tokio::select! {
            _ = next(&listener, &room) => panic!("there is no room"),
            count = closed => assert_eq!(count, 0),
        }
        drop((one, first));
        drop(three.await.unwrap());
        next(&listener, &room).await;
    }
}
