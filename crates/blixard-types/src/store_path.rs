//! Paths in the Nix store.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use nix_derivation::store_path::build_ca_path;
use nix_derivation::{CAHash, NixHash};
use serde::{Deserialize, Serialize};

use crate::Sha256Hash;

/// What Nix calls every source tree.
const SOURCE: &str = "source";

/// The store directory. Stores elsewhere are not supported: the hash in a path depends on it.
pub const STORE_DIR: &str = nix_derivation::store_path::STORE_DIR;

/// A valid store path, `/nix/store/<32 base-32 digits>-<name>`; nothing is said of its existence.
///
/// Ordered by its text, which is how Nix sorts references.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct StorePath(String);

/// A text that is not a store path.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a store path")]
pub struct StorePathError {
    text: String,
    #[source]
    cause: nix_derivation::store_path::Error,
}

impl StorePath {
    /// The path that a source tree with this NAR hash has in the store: it is added by content, and called
    /// `source` whatever it was called before (`Input::computeStorePath` in Nix's `src/libfetchers`).
    pub fn of_source(nar_hash: Sha256Hash) -> Result<Self, StorePathError> {
        let content = CAHash::Nar(NixHash::Sha256(nar_hash.0));
        match build_ca_path(SOURCE, &content, [], false) {
            Ok(path) => Ok(Self(path.to_absolute_path())),
            Err(cause) => Err(StorePathError { text: SOURCE.to_owned(), cause }),
        }
    }

    /// The absolute path as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The absolute path.
    pub fn as_path(&self) -> &Path {
        Path::new(&self.0)
    }

    /// The path below the store directory: `<hash>-<name>`.
    pub fn basename(&self) -> &str {
        self.0.get(STORE_DIR.len() + 1..).unwrap_or_default()
    }

    /// Whether it is a derivation.
    pub fn is_derivation(&self) -> bool {
        self.as_path().extension().is_some_and(|extension| extension == "drv")
    }
}

impl FromStr for StorePath {
    type Err = StorePathError;

    fn from_str(text: &str) -> Result<Self, StorePathError> {
        match nix_derivation::StorePath::from_absolute_path(text.as_bytes()) {
            Ok(_) => Ok(Self(text.to_owned())),
            Err(cause) => Err(StorePathError { text: text.to_owned(), cause }),
        }
    }
}

impl fmt::Display for StorePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl fmt::Debug for StorePath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for StorePath {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_path_has_a_basename() {
        let path: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-hello-2.12".parse().unwrap();
        assert_eq!(path.basename(), "7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-hello-2.12");
        assert!(!path.is_derivation());
    }

    #[test]
    fn a_source_is_where_nix_puts_it() {
        // `nix flake metadata --json` of Nix 2.26.3.
        for (hash, path) in [
            ("sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=", "f6jk96ama4nm1qmqckjx98kq8k38j8ag"),
            ("sha256-tPh1F2V/JEEUIGQ1qxAczYRf+ivEvQ3jsOd5OQtABhw=", "nrnq4cm2zdmg6wsvrfs2gkav182j9adi"),
        ] {
            let found = StorePath::of_source(hash.parse().unwrap()).unwrap();
            assert_eq!(found.as_str(), format!("/nix/store/{path}-source"));
        }
    }

    #[test]
    fn what_leads_out_of_the_store_is_refused() {
        let hash = "7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm";
        for text in [
            String::new(),
            "/nix/store".into(),
            format!("/nix/store/{hash}"),
            format!("/nix/store/{hash}-"),
            format!("/nix/store/{hash}-a/b"),
            format!("/nix/store/{hash}-a/../../etc"),
            format!("/nix/store/../store/{hash}-a"),
            format!("/nix/store/{hash}-a\0b"),
            format!("/nix/store/{}-a", "e".repeat(32)),
            format!("/gnu/store/{hash}-a"),
        ] {
            assert!(text.parse::<StorePath>().is_err(), "{text:?} was accepted");
        }
    }
}
