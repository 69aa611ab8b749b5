//! TLS between nodes: both sides show a certificate of the cluster's authority, the dialling side expects
//! the one node that it means, and both ask a [`PeerGate`] whether that node is still welcome.
//!
//! TLS 1.3 only. Sessions are not resumed: a resumed one would skip the gate.

mod verify;

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use blixard_types::{ClusterId, NodeId, Sha256Hash};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::ServerName;
use rustls::server::{ClientHello, NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig, SignatureScheme};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, TlsConnector, client, server};

use crate::authority::Root;
use crate::credentials::Credentials;
use crate::name::node_dns_name;
use crate::peer::PeerIdentity;

/// What is spoken inside.
const PROTOCOL: &[u8] = b"h2";

/// Says whether a node that has shown a valid certificate is welcome. Asked at every handshake.
pub trait PeerGate: fmt::Debug + Send + Sync + 'static {
    /// Lets it in, or says why not.
    ///
    /// # Errors
    /// When the node has been removed, or its certificate replaced.
    fn admits(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal>;

    /// Whether this certificate is known to count. One whose time is over is only taken then: a node that was away for
    /// so long has to come in to be given the next.
    fn counts(&self, peer: &PeerIdentity) -> bool;
}

/// Why a valid certificate is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerRefusal {
    /// It is of another cluster.
    #[error("the certificate is of cluster {0}")]
    OtherCluster(ClusterId),
    /// The node was removed.
    #[error("node {0} was removed from the cluster")]
    Removed(NodeId),
    /// The node has newer ones.
    #[error("the certificate of node {0} was replaced")]
    Replaced(NodeId),
}

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsSetupError {
    /// The authority's certificate cannot be trusted.
    #[error("the authority's certificate cannot be used")]
    Root(#[source] rustls::Error),
    /// A verifier cannot be made of it.
    #[error("the authority's certificate cannot be used to verify others")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// The library refuses the settings.
    #[error("TLS cannot be set up")]
    Settings(#[source] rustls::Error),
}

/// Why a handshake has failed.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The other side, or the network.
    #[error("the TLS handshake has failed")]
    Failed(#[source] std::io::Error),
    /// What was accepted names no node; does not happen after verification.
    #[error("the certificate names no node")]
    Certificate(#[source] crate::peer::PeerCertificateError),
    /// The name of the node cannot be dialled; does not happen.
    #[error("node {0} has no name")]
    Name(NodeId),
}

/// Both sides of TLS between nodes.
#[derive(Clone)]
pub struct MutualTls {
    shown: Arc<Shown>,
    server: TlsAcceptor,
    client: TlsConnector,
    cluster: ClusterId,
}

impl MutualTls {
    /// Makes them.
    ///
    /// # Errors
    /// When the authority's certificate cannot be used.
    pub fn new(
        root: &Root,
        credentials: &Credentials,
        gate: Arc<dyn PeerGate>,
    ) -> Result<Self, TlsSetupError> {
        let cluster = credentials.identity().cluster;
        let shown = Arc::new(Shown(RwLock::new(Arc::clone(&credentials.certified))));
        let checks = verify::Checks { cluster, gate };
        let client = builder_of_clients()?
            .dangerous()
            .with_custom_certificate_verifier(verify::servers(root, checks.clone())?)
            .with_client_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesClientCert>);
        let server = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsSetupError::Settings)?
            .with_client_cert_verifier(verify::clients(root, checks)?)
            .with_cert_resolver(Arc::clone(&shown) as Arc<dyn ResolvesServerCert>);
        Ok(Self { shown, server: acceptor(server), client: connector(client), cluster })
    }

    /// Shows this certificate from the next handshake on.
    pub fn replace(&self, credentials: &Credentials) {
        let fresh = Arc::clone(&credentials.certified);
        *self.shown.0.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Answers a handshake. Without a certificate the other side is a stranger, which may join.
    ///
    /// # Errors
    /// When the other side shows a certificate that is refused, or does not finish.
    pub async fn accept<S>(
        &self,
        stream: S,
    ) -> Result<(server::TlsStream<S>, Option<PeerIdentity>), HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let stream = self.server.accept(stream).await.map_err(HandshakeError::Failed)?;
        let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
        let peer = shown.map(PeerIdentity::of).transpose().map_err(HandshakeError::Certificate)?;
        Ok((stream, peer))
    }

    /// Begins a handshake with a node: whoever answers must be that one.
    ///
    /// # Errors
    /// When another answers, or the other side refuses this node.
    pub async fn connect<S>(&self, stream: S, node: NodeId) -> Result<client::TlsStream<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let name = ServerName::try_from(node_dns_name(node, self.cluster));
        let name = name.map_err(|_| HandshakeError::Name(node))?;
        self.client.connect(name, stream).await.map_err(HandshakeError::Failed)
    }
}

impl fmt::Debug for MutualTls {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "MutualTls({})", self.cluster)
    }
}

/// Begins a handshake for a machine that knows nothing but the authority's fingerprint, and has no
/// certificate yet: any node of that authority may answer.
///
/// # Errors
/// When who answers is not of that authority.
pub async fn joining_client<S>(
    fingerprint: Sha256Hash,
    stream: S,
) -> Result<client::TlsStream<S>, JoiningError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let client = builder_of_clients()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verify::AnyNodeOf::new(fingerprint)))
        .with_no_client_auth();
    // The verifier goes by the fingerprint; the name is only sent, and says nothing.
    let name = ServerName::try_from("blixard").map_err(|_| HandshakeError::Name(NodeId(0)))?;
    Ok(connector(client).connect(name, stream).await.map_err(HandshakeError::Failed)?)
}

/// Why a server cannot be joined through this connection.
#[derive(Debug, thiserror::Error)]
pub enum JoiningError {
    /// The library.
    #[error(transparent)]
    Setup(#[from] TlsSetupError),
    /// The handshake.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

fn builder_of_clients() -> Result<rustls::ConfigBuilder<ClientConfig, rustls::WantsVerifier>, TlsSetupError> {
    ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsSetupError::Settings)
}

fn connector(mut config: ClientConfig) -> TlsConnector {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.resumption = Resumption::disabled();
    TlsConnector::from(Arc::new(config))
}

fn acceptor(mut config: ServerConfig) -> TlsAcceptor {
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    TlsAcceptor::from(Arc::new(config))
}

/// The certificate that is shown now.
#[derive(Debug)]
struct Shown(RwLock<Arc<CertifiedKey>>);

impl Shown {
    fn now(&self) -> Arc<CertifiedKey> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.now())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
