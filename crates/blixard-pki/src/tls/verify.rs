//! What must be true of the other side's certificate: rustls checks chain, dates and name, this adds the
//! cluster and the gate.
//!
//! What revokes a certificate is that its number counts no more, not that its time is over: a cluster that was switched off
//! for a year has to come up again. So one that has expired is looked at as it was on its last day, and taken if its
//! number is known to count.

use std::sync::Arc;
use std::time::Duration;

use blixard_types::{ClusterId, Sha256Hash};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError};
use rustls::{RootCertStore, SignatureScheme};

use super::{PeerGate, PeerRefusal, TlsSetupError};
use crate::authority::Root;
use crate::name::node_dns_name;
use crate::peer::PeerIdentity;

/// What is checked beside the chain.
#[derive(Debug, Clone)]
pub(super) struct Checks {
    pub(super) cluster: ClusterId,
    pub(super) gate: Arc<dyn PeerGate>,
}

impl Checks {
    /// Verifies a certificate now or, if its time is over, on its last day.
    fn verified<T>(
        &self,
        certificate: &CertificateDer<'_>,
        now: UnixTime,
        chain: impl Fn(UnixTime) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let verified = match chain(now) {
            Err(expired) if is_expired(&expired) => {
                let peer = PeerIdentity::of(certificate).map_err(application)?;
                if !self.gate.counts(&peer) {
                    return Err(expired);
                }
                chain(UnixTime::since_unix_epoch(Duration::from_millis(peer.not_after.0)))?
            }
            verified => verified?,
        };
        self.check(certificate)?;
        Ok(verified)
    }

    fn check(&self, certificate: &CertificateDer<'_>) -> Result<(), Error> {
        let peer = PeerIdentity::of(certificate).map_err(application)?;
        if peer.cluster != self.cluster {
            return Err(application(PeerRefusal::OtherCluster(peer.cluster)));
        }
        self.gate.admits(&peer).map_err(|refusal| match refusal {
            // The other side is told this word by TLS, so that it can say it to its operator.
            PeerRefusal::Removed(_) | PeerRefusal::Replaced(_) => CertificateError::Revoked.into(),
            PeerRefusal::OtherCluster(_) => application(refusal),
        })
    }
}

fn is_expired(error: &Error) -> bool {
    use CertificateError::{Expired, ExpiredContext};
    matches!(error, Error::InvalidCertificate(Expired | ExpiredContext { .. }))
}

fn application(error: impl std::error::Error + Send + Sync + 'static) -> Error {
    CertificateError::Other(OtherError(Arc::new(error))).into()
}

fn roots(certificate: CertificateDer<'static>) -> Result<Arc<RootCertStore>, Error> {
    let mut roots = RootCertStore::empty();
    roots.add(certificate)?;
    Ok(Arc::new(roots))
}

/// Verifies those who dial. One without a certificate is let through as a stranger.
pub(super) fn clients(root: &Root, checks: Checks) -> Result<Arc<dyn ClientCertVerifier>, TlsSetupError> {
    let roots = roots(root.certificate().clone()).map_err(TlsSetupError::Root)?;
    let chain = WebPkiClientVerifier::builder_with_provider(roots, Arc::new(default_provider()));
    let chain = chain.allow_unauthenticated().build().map_err(TlsSetupError::Verifier)?;
    Ok(Arc::new(Clients { chain, checks }))
}

/// Verifies those who are dialled.
pub(super) fn servers(root: &Root, checks: Checks) -> Result<Arc<dyn ServerCertVerifier>, TlsSetupError> {
    let roots = roots(root.certificate().clone()).map_err(TlsSetupError::Root)?;
    let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(default_provider()));
    let chain = chain.build().map_err(TlsSetupError::Verifier)?;
    Ok(Arc::new(Servers { chain, checks }))
}

#[derive(Debug)]
struct Clients {
    chain: Arc<dyn ClientCertVerifier>,
    checks: Checks,
}

impl ClientCertVerifier for Clients {
    fn client_auth_mandatory(&self) -> bool {
        self.chain.client_auth_mandatory()
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        self.chain.root_hint_subjects()
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let chain = |at| self.chain.verify_client_cert(end_entity, intermediates, at);
        self.checks.verified(end_entity, now, chain)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

#[derive(Debug)]
struct Servers {
    chain: Arc<dyn ServerCertVerifier>,
    checks: Checks,
}

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain =
            |at| self.chain.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, at);
        self.checks.verified(end_entity, now, chain)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.chain.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.chain.supported_verify_schemes()
    }
}

/// Trusts the authority of one fingerprint, whose certificate the other side must send along.
#[derive(Debug)]
pub(super) struct AnyNodeOf {
    fingerprint: Sha256Hash,
    provider: rustls::crypto::CryptoProvider,
}

impl AnyNodeOf {
    pub(super) fn new(fingerprint: Sha256Hash) -> Self {
        Self { fingerprint, provider: default_provider() }
    }
}

impl ServerCertVerifier for AnyNodeOf {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let root = intermediates.iter().find(|sent| Sha256Hash::of(sent) == self.fingerprint);
        let root = root.ok_or(CertificateError::UnknownIssuer)?;
        let roots = roots(root.clone().into_owned())?;
        let chain = WebPkiServerVerifier::builder_with_provider(roots, Arc::new(self.provider.clone()));
        let chain = chain.build().map_err(application)?;
        let peer = PeerIdentity::of(end_entity).map_err(application)?;
        let name = ServerName::try_from(node_dns_name(peer.node, peer.cluster)).map_err(application)?;
        chain.verify_server_cert(end_entity, intermediates, &name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
