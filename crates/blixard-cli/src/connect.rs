//! The way to the daemon: gRPC over its Unix socket.
//!
//! Owns: connecting, and telling why that did not work. Refuses to know: what is said over it.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use crate::error::{ErrorKind, Failure};

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("cannot connect to blixardd at {}", path.display())]
    Socket { path: PathBuf, source: io::Error },
    #[error("cannot talk to blixardd at {}", path.display())]
    Protocol { path: PathBuf, source: tonic::transport::Error },
}

impl From<ConnectError> for Failure {
    fn from(error: ConnectError) -> Self {
        let ConnectError::Socket { source, .. } = &error else {
            return Self::new(ErrorKind::Unreachable, error);
        };
        match source.kind() {
            io::ErrorKind::PermissionDenied => {
                let hint = "run as root or as a member of the group `blixard`";
                Self::new(ErrorKind::Permission, error).hint(hint)
            }
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                let hint = "is blixardd running here? `systemctl status blixardd`";
                Self::new(ErrorKind::Unreachable, error).hint(hint)
            }
            _ => Self::new(ErrorKind::Unreachable, error),
        }
    }
}

/// Connects to the daemon that listens at `socket`.
pub(crate) async fn connect(socket: &Path) -> Result<Channel, Failure> {
    let path = || socket.to_owned();
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|source| ConnectError::Socket { path: path(), source })?;
    // One command, one connection: a lost one is not made anew, because a call that was under way may
    // have been carried out.
    let only = Arc::new(Mutex::new(Some(stream)));
    let connector = service_fn(move |_| {
        let only = Arc::clone(&only);
        async move {
            let stream = only.lock().await.take();
            stream.map(TokioIo::new).ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionReset))
        }
    });
    // The name is required by HTTP/2 and means nothing on a Unix socket.
    let channel = Endpoint::from_static("http://blixardd").connect_with_connector(connector).await;
    channel.map_err(|source| ConnectError::Protocol { path: path(), source }.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_of_others_needs_their_group() {
        let source = io::ErrorKind::PermissionDenied.into();
        let error = ConnectError::Socket { path: "/run/blixard/blixardd.sock".into(), source };
        let failure = Failure::from(error);
        let mut text = Vec::new();
        failure.render(&mut text).unwrap();
        insta::assert_snapshot!(String::from_utf8(text).unwrap(), @"
        error: cannot connect to blixardd at /run/blixard/blixardd.sock
        caused by: permission denied
        hint: run as root or as a member of the group `blixard`
        ");
        assert_eq!(failure.kind, ErrorKind::Permission);
    }
}
