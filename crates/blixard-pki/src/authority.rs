//! The cluster's certificate authority.
//!
//! Its certificate may sign names of its own cluster alone, and no further authority. Certificates of
//! nodes last a year; a node asks for its next one when a third of that is left. One that was away for longer still gets in
//! with the old one if it is a member ([`PeerGate::counts`](crate::PeerGate::counts)), and has it renewed at once.

use std::fmt;

use blixard_core::ports::UnixMillis;
use blixard_types::{CertificateSerial, ClusterId, NodeId, Sha256Hash};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints,
    PKCS_ED25519, SerialNumber,
};
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use time::{Duration, OffsetDateTime};

use crate::credentials::SigningRequest;
use crate::name::{cluster_domain, node_dns_name};

/// Longer than the machines that it is made on last.
const AUTHORITY_LIFETIME: Duration = Duration::days(20 * 365);
/// Long enough for a node that is switched off for months.
const NODE_LIFETIME: Duration = Duration::days(365);
/// How far the clocks of two nodes may be apart without a fresh certificate being refused.
const CLOCK_SLACK: Duration = Duration::hours(1);

/// The certificate of an authority: what every node trusts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Root(CertificateDer<'static>);

/// Bytes that are no certificate.
#[derive(Debug, thiserror::Error)]
#[error("the authority's certificate cannot be read")]
pub struct RootError;

impl Root {
    /// Takes a certificate (DER).
    ///
    /// # Errors
    /// When it is none.
    pub fn new(der: Vec<u8>) -> Result<Self, RootError> {
        use x509_parser::prelude::FromDer as _;
        let whole =
            x509_parser::prelude::X509Certificate::from_der(&der).is_ok_and(|(rest, _)| rest.is_empty());
        if whole { Ok(Self(der.into())) } else { Err(RootError) }
    }

    pub(crate) fn certificate(&self) -> &CertificateDer<'static> {
        &self.0
    }

    /// The certificate (DER).
    #[must_use]
    pub fn der(&self) -> &[u8] {
        &self.0
    }

    /// What people compare, and what a join token carries.
    #[must_use]
    pub fn fingerprint(&self) -> Sha256Hash {
        Sha256Hash::of(&self.0)
    }
}

/// Whom a certificate is for. The state of the cluster has counted its serial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subject {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The certificate's number.
    pub serial: CertificateSerial,
}

/// An authority that can sign. Only on servers.
pub struct Authority {
    root: Root,
    key: KeyPair,
}

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// The key.
    #[error("the authority's key cannot be used")]
    Key(#[source] rcgen::Error),
    /// The certificate.
    #[error("the authority's certificate cannot be made")]
    Certificate(#[source] rcgen::Error),
    /// The two do not belong together.
    #[error("the authority's key is not the one of its certificate")]
    Mismatch,
    /// The certificate cannot be read.
    #[error(transparent)]
    Root(#[from] RootError),
}

/// Why a certificate was not issued.
#[derive(Debug, thiserror::Error)]
pub enum IssueError {
    /// The request is none, or its signature is not of its key.
    #[error("the request for a certificate is not valid")]
    Request(#[source] rcgen::Error),
    /// It could not be signed.
    #[error("the certificate cannot be signed")]
    Sign(#[source] rcgen::Error),
}

impl Authority {
    /// Makes the authority of a new cluster.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn create(cluster: ClusterId, now: UnixMillis) -> Result<Self, AuthorityError> {
        let key = KeyPair::generate_for(&PKCS_ED25519).map_err(AuthorityError::Key)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = common_name(&format!("Blixard cluster {cluster}"));
        (parameters.not_before, parameters.not_after) = validity(now, AUTHORITY_LIFETIME);
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        parameters.name_constraints = Some(NameConstraints {
            permitted_subtrees: vec![GeneralSubtree::DnsName(cluster_domain(cluster))],
            excluded_subtrees: Vec::new(),
        });
        let certificate = parameters.self_signed(&key).map_err(AuthorityError::Certificate)?;
        Ok(Self { root: Root(certificate.der().clone()), key })
    }

    /// Puts together what was kept, or handed over by another server.
    ///
    /// # Errors
    /// When the key is none, or not of this certificate.
    pub fn load(root: Root, key_pem: &str) -> Result<Self, AuthorityError> {
        use x509_parser::prelude::FromDer as _;
        let key = KeyPair::from_pem(key_pem).map_err(AuthorityError::Key)?;
        let (_, parsed) =
            x509_parser::prelude::X509Certificate::from_der(root.der()).map_err(|_| RootError)?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key_raw() {
            return Err(AuthorityError::Mismatch);
        }
        Ok(Self { root, key })
    }

    /// Its certificate.
    #[must_use]
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Its key, for the file of another server.
    #[must_use]
    pub fn key_pem(&self) -> String {
        self.key.serialize_pem()
    }

    /// Issues a node's certificate (DER). Of the request only the key counts.
    ///
    /// # Errors
    /// When the request does not prove that its key is there.
    pub fn issue(
        &self,
        request: &SigningRequest,
        subject: Subject,
        now: UnixMillis,
    ) -> Result<Vec<u8>, IssueError> {
        let request = CertificateSigningRequestDer::from(request.0.as_slice());
        let request = CertificateSigningRequestParams::from_der(&request).map_err(IssueError::Request)?;
        let name = node_dns_name(subject.node, subject.cluster);
        let mut parameters = CertificateParams::new(vec![name.clone()]).map_err(IssueError::Sign)?;
        parameters.distinguished_name = common_name(&format!("node-{}", subject.node));
        (parameters.not_before, parameters.not_after) = validity(now, NODE_LIFETIME);
        parameters.serial_number = Some(SerialNumber::from(subject.serial.0));
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        // Every node is both: it dials, and is dialled.
        parameters.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        parameters.use_authority_key_identifier_extension = true;
        let issuer =
            Issuer::from_ca_cert_der(self.root.certificate(), &self.key).map_err(IssueError::Sign)?;
        let signed = parameters.signed_by(&request.public_key, &issuer).map_err(IssueError::Sign)?;
        Ok(signed.der().to_vec())
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "Authority({})", self.root.fingerprint())
    }
}

fn common_name(name: &str) -> DistinguishedName {
    let mut names = DistinguishedName::new();
    names.push(DnType::CommonName, name);
    names
}

fn validity(now: UnixMillis, lifetime: Duration) -> (OffsetDateTime, OffsetDateTime) {
    let seconds = i64::try_from(now.0 / 1000).unwrap_or_default();
    let now = OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    (now - CLOCK_SLACK, now + lifetime)
}
