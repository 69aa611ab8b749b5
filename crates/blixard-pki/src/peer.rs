//! Who a certificate says the other side is.

use blixard_core::ports::UnixMillis;
use blixard_types::{CertificateSerial, ClusterId, NodeId};
use rustls::pki_types::CertificateDer;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::name::parse_node_dns_name;

/// A node, as its certificate names it. Only worth something once the chain has been verified.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerIdentity {
    /// The node.
    pub node: NodeId,
    /// Its cluster.
    pub cluster: ClusterId,
    /// The certificate.
    pub serial: CertificateSerial,
    /// From when on it is valid.
    pub not_before: UnixMillis,
    /// Until when it is valid.
    pub not_after: UnixMillis,
}

/// Why a certificate names no node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PeerCertificateError {
    /// It is no certificate.
    #[error("it is no X.509 certificate")]
    Syntax,
    /// It does not have exactly one name of the form that ours have.
    #[error("it does not name exactly one node")]
    Name,
    /// Its serial number is none of ours.
    #[error("its serial number is not one of a cluster")]
    Serial,
}

impl PeerIdentity {
    /// Reads it from a certificate.
    ///
    /// # Errors
    /// When the certificate is not of the form that an [`Authority`](crate::Authority) issues.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, PeerCertificateError> {
        let (_, parsed) = X509Certificate::from_der(certificate).map_err(|_| PeerCertificateError::Syntax)?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.ok_or(PeerCertificateError::Name)?;
        let [GeneralName::DNSName(name)] = names.value.general_names.as_slice() else {
            return Err(PeerCertificateError::Name);
        };
        let (node, cluster) = parse_node_dns_name(name).ok_or(PeerCertificateError::Name)?;
        Ok(Self {
            node,
            cluster,
            serial: serial(parsed.raw_serial()).ok_or(PeerCertificateError::Serial)?,
            not_before: instant(parsed.validity().not_before.timestamp()),
            not_after: instant(parsed.validity().not_after.timestamp()),
        })
    }
}

/// DER integers have as few bytes as they can, and one more where the first would have its high bit.
fn serial(raw: &[u8]) -> Option<CertificateSerial> {
    let digits = raw.strip_prefix(&[0]).unwrap_or(raw);
    let mut number = [0; 8];
    number.get_mut(8_usize.checked_sub(digits.len())?..)?.copy_from_slice(digits);
    Some(CertificateSerial(u64::from_be_bytes(number)))
}

fn instant(seconds: i64) -> UnixMillis {
    UnixMillis(u64::try_from(seconds).unwrap_or_default().saturating_mul(1000))
}
