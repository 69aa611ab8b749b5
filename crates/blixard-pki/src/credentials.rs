//! What a node proves itself with: its key, and the certificate of it.

use std::fmt;
use std::sync::Arc;

use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::authority::Root;
use crate::peer::{PeerCertificateError, PeerIdentity};

/// A node's private key (Ed25519). It never leaves the node.
pub struct NodeKey(pub(crate) KeyPair);

/// Asks for a certificate of a key, and proves that the key is there (PKCS #10, DER).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningRequest(pub Vec<u8>);

/// Why a key or a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CredentialsError {
    /// No key could be made or read.
    #[error("the key cannot be used")]
    Key(#[source] rcgen::Error),
    /// The request for a certificate could not be made.
    #[error("the request for a certificate cannot be made")]
    Request(#[source] rcgen::Error),
    /// The certificate names no node.
    #[error("the certificate cannot be used")]
    Certificate(#[source] PeerCertificateError),
    /// Key and certificate do not belong together.
    #[error("the certificate is not one of this key")]
    Mismatch(#[source] rustls::Error),
}

impl NodeKey {
    /// Makes a new one.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn generate() -> Result<Self, CredentialsError> {
        KeyPair::generate_for(&PKCS_ED25519).map(Self).map_err(CredentialsError::Key)
    }

    /// Reads one that was kept.
    pub(crate) fn from_pem(pem: &str) -> Result<Self, CredentialsError> {
        KeyPair::from_pem(pem).map(Self).map_err(CredentialsError::Key)
    }

    /// Asks for a certificate. What it should say is not asked for: the authority knows.
    ///
    /// # Errors
    /// When the key cannot sign.
    pub fn signing_request(&self) -> Result<SigningRequest, CredentialsError> {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        let request = parameters.serialize_request(&self.0).map_err(CredentialsError::Request)?;
        Ok(SigningRequest(request.der().to_vec()))
    }

    fn private(&self) -> PrivateKeyDer<'static> {
        PrivatePkcs8KeyDer::from(self.0.serialize_der()).into()
    }
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("NodeKey")
    }
}

/// A key, its certificate, and the authority's, which goes along so that those who know only its
/// fingerprint can check the chain.
#[derive(Debug, Clone)]
pub struct Credentials {
    pub(crate) certified: Arc<CertifiedKey>,
    identity: PeerIdentity,
}

impl Credentials {
    /// Puts them together.
    ///
    /// # Errors
    /// When the certificate is none, names no node, or is of another key.
    pub fn new(key: &NodeKey, certificate: &[u8], root: &Root) -> Result<Self, CredentialsError> {
        let certificate = CertificateDer::from(certificate.to_vec());
        let identity = PeerIdentity::of(&certificate).map_err(CredentialsError::Certificate)?;
        let chain = vec![certificate, root.certificate().clone()];
        let certified = CertifiedKey::from_der(chain, key.private(), &default_provider());
        let certified = Arc::new(certified.map_err(CredentialsError::Mismatch)?);
        Ok(Self { certified, identity })
    }

    /// Who they say this node is.
    #[must_use]
    pub fn identity(&self) -> PeerIdentity {
        self.identity
    }
}
