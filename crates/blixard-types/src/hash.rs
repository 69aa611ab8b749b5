//! SHA-256 hashes, in the form Nix prints them (SRI: `sha256-<base64>`).

use std::fmt;
use std::str::FromStr;

use nix_derivation::NixHash;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// A SHA-256 of something; what of, the field that holds it says.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sha256Hash(pub [u8; 32]);

impl Sha256Hash {
    /// Hashes these bytes.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

/// A text that is not a SHA-256 in a form that Nix prints.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a SHA-256 hash: expected sha256-<base64>, or sha256: with base 32 or base 16")]
pub struct HashError(String);

impl FromStr for Sha256Hash {
    type Err = HashError;

    fn from_str(text: &str) -> Result<Self, HashError> {
        let refused = || HashError(text.to_owned());
        match NixHash::parse(text) {
            Ok(NixHash::Sha256(bytes)) => Ok(Self(bytes)),
            _ => Err(refused()),
        }
    }
}

impl fmt::Display for Sha256Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("sha256-")?;
        out.write_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl fmt::Debug for Sha256Hash {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, out)
    }
}

impl Serialize for Sha256Hash {
    fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
        out.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Sha256Hash {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_nix_prints_is_read() {
        // `nix hash file` of an empty file, in three forms.
        let empty = Sha256Hash::of(b"");
        for text in [
            "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
            "sha256:0mdqa9w1p6cmli6976v4wi0sw9r4p5prkj7lzfd1877wk11c9c73",
            "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        ] {
            assert_eq!(text.parse(), Ok(empty), "{text}");
        }
        assert_eq!(empty.to_string(), "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=");
    }

    #[test]
    fn other_algorithms_and_lengths_are_refused() {
        for text in
            ["", "sha256-", "sha256-AAAA", "sha1:da39a3ee5e6b4b0d3255bfef95601890afd80709", "sha512-AAAA"]
        {
            assert!(text.parse::<Sha256Hash>().is_err(), "{text}");
        }
    }
}
