//! This node among others: the listener for them, and the way to them, both over mutual TLS.
//!
//! Nothing listens before the node has a certificate: that is after `cluster init`, or after joining.

mod access;
mod gate;
mod listener;
mod mesh;

use std::io;
use std::sync::Arc;

use blixard_pki::{FileError, MutualTls, PeerGate, TlsSetupError};
use blixard_server::Keyring;
use blixard_types::NodeAddress;
use tokio::net::TcpListener;
use tokio::sync::watch;

pub(crate) use access::{ClosureAccess, ClusterAccess};
pub(crate) use gate::{StateGate, servers_only};
pub(crate) use listener::{Incoming, caller, calling_node, incoming};
pub(crate) use mesh::{Addresses, Mesh};

/// TLS of this node; absent before it has a certificate.
pub(crate) type Tls = watch::Sender<Option<MutualTls>>;

/// Why this node cannot speak to others.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ClusterError {
    /// The address is taken, say.
    #[error("cannot listen on {address} (`cluster.listen`)")]
    Listen {
        /// The address.
        address: NodeAddress,
        /// Why.
        #[source]
        cause: io::Error,
    },
    /// The files.
    #[error(transparent)]
    Files(#[from] FileError),
    /// The library.
    #[error(transparent)]
    Tls(#[from] TlsSetupError),
    /// A certificate without its authority's.
    #[error("the authority's certificate is missing")]
    NoRoot,
}

/// Waits until this node has a certificate, and makes TLS of it.
pub(crate) async fn await_tls(
    keyring: &Keyring,
    gate: Arc<dyn PeerGate>,
    tls: &Tls,
) -> Result<MutualTls, ClusterError> {
    let mut credentials = keyring.credentials();
    let first = loop {
        if let Some(credentials) = credentials.borrow_and_update().clone() {
            break credentials;
        }
        if credentials.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    };
    let root = keyring.files().root()?.ok_or(ClusterError::NoRoot)?;
    let made = MutualTls::new(&root, &first, gate)?;
    tls.send_replace(Some(made.clone()));
    Ok(made)
}

/// Shows a renewed certificate as soon as there is one; never ends.
pub(crate) async fn follow_renewals(keyring: &Keyring, tls: &MutualTls) {
    let mut credentials = keyring.credentials();
    while credentials.changed().await.is_ok() {
        if let Some(fresh) = credentials.borrow_and_update().as_ref() {
            tls.replace(fresh);
        }
    }
    std::future::pending::<()>().await;
}

/// Listens for other nodes.
pub(crate) async fn listen(address: &NodeAddress) -> Result<TcpListener, ClusterError> {
    let bound = TcpListener::bind((address.host(), address.port())).await;
    bound.map_err(|cause| ClusterError::Listen { address: address.clone(), cause })
}
