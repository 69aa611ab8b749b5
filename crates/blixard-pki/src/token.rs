//! Join tokens: one string that brings a machine into the cluster, once.
//!
//! `blixard1.<secret>.<fingerprint>.<address>[,<address>…]`: the secret proves to the cluster that the
//! machine may join, the fingerprint proves to the machine that it joins this cluster and no other, and
//! the addresses say where. Secret and fingerprint are base64url without padding.

use std::fmt;
use std::str::FromStr;

use blixard_types::{NodeAddress, Sha256Hash};
use data_encoding::BASE64URL_NOPAD;

const PREFIX: &str = "blixard1";
/// What the hash of a secret begins with, so that no other hash is ever taken for one.
const HASH_DOMAIN: &[u8] = b"blixard-join-token-v1\0";

/// The secret of a token: 256 random bits. The cluster keeps only its hash.
#[derive(Clone, PartialEq, Eq)]
pub struct TokenSecret(pub [u8; 32]);

impl TokenSecret {
    /// What the cluster knows the token by. A hash without salt is enough: there is no guessing 256 bits.
    #[must_use]
    pub fn hash(&self) -> Sha256Hash {
        Sha256Hash::of(&[HASH_DOMAIN, &self.0].concat())
    }
}

impl fmt::Debug for TokenSecret {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("TokenSecret")
    }
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// Proves that the machine may join.
    pub secret: TokenSecret,
    /// The SHA-256 of the authority's certificate.
    pub fingerprint: Sha256Hash,
    /// Servers to ask, in this order.
    pub addresses: Vec<NodeAddress>,
}

/// Why a text is no token. The text is a secret, and not repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It does not begin as a token does.
    #[error("this is no join token: one begins with `{PREFIX}.` (`blixard cluster token create` prints one)")]
    Prefix,
    /// A part is missing.
    #[error("the join token is incomplete: expected {PREFIX}.SECRET.FINGERPRINT.ADDRESS")]
    Incomplete,
    /// A part is damaged.
    #[error("the {part} in the join token is damaged")]
    Damaged {
        /// Which.
        part: &'static str,
    },
    /// An address cannot be dialled.
    #[error("an address in the join token cannot be used")]
    Address(#[from] blixard_types::AddressError),
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let rest = text.trim().strip_prefix(PREFIX).and_then(|rest| rest.strip_prefix('.'));
        let mut parts = rest.ok_or(JoinTokenError::Prefix)?.splitn(3, '.');
        let mut part = || parts.next().filter(|part| !part.is_empty()).ok_or(JoinTokenError::Incomplete);
        let (secret, fingerprint, addresses) = (part()?, part()?, part()?);
        let addresses = addresses.split(',').map(str::parse).collect::<Result<_, _>>()?;
        let secret = TokenSecret(bytes("secret", secret)?);
        Ok(Self { secret, fingerprint: Sha256Hash(bytes("fingerprint", fingerprint)?), addresses })
    }
}

fn bytes(part: &'static str, text: &str) -> Result<[u8; 32], JoinTokenError> {
    let decoded = BASE64URL_NOPAD.decode(text.as_bytes()).ok();
    decoded.and_then(|bytes| bytes.try_into().ok()).ok_or(JoinTokenError::Damaged { part })
}

impl fmt::Display for JoinToken {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses: Vec<&str> = self.addresses.iter().map(NodeAddress::as_str).collect();
        write!(
            out,
            "{PREFIX}.{}.{}.{}",
            BASE64URL_NOPAD.encode(&self.secret.0),
            BASE64URL_NOPAD.encode(&self.fingerprint.0),
            addresses.join(",")
        )
    }
}
