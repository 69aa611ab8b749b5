//! A lock file that is not in the flake's tree: it goes to the builder as a source of its own.
//!
//! Owns: that source, one file. Refuses to know: what a lock file says.

use blixard_types::{Sha256Hash, StorePath};
use bytes::Bytes;
use serde_json::Value;

use super::nix::LockError;

/// A lock file as a source.
#[derive(Debug)]
pub(crate) struct LockFile {
    /// Where it is in a store that has it.
    pub(crate) path: StorePath,
    pub(crate) nar_hash: Sha256Hash,
    pub(crate) nar: Bytes,
}

impl LockFile {
    pub(super) fn of(locks: &Value) -> Result<Self, LockError> {
        let nar = nar_of_file(&serde_json::to_vec(locks).map_err(LockError::Lock)?);
        let nar_hash = Sha256Hash::of(&nar);
        let path = StorePath::of_source(nar_hash).map_err(LockError::Path)?;
        Ok(Self { path, nar_hash, nar: nar.into() })
    }
}

/// Nix's archive of one file: words with their lengths, each filled up to eight bytes (E. Dolstra, The Purely
/// Functional Software Deployment Model, figure 5.2).
fn nar_of_file(content: &[u8]) -> Vec<u8> {
    let mut nar = Vec::with_capacity(content.len() + 128);
    let words: [&[u8]; 7] = [b"nix-archive-1", b"(", b"type", b"regular", b"contents", content, b")"];
    for word in words {
        nar.extend_from_slice(&(word.len() as u64).to_le_bytes());
        nar.extend_from_slice(word);
        nar.resize(nar.len().next_multiple_of(8), 0);
    }
    nar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_the_path_that_nix_gives_it() {
        // `nix store add --name source` of a file with `{}`, Nix 2.26.3.
        let lock = LockFile::of(&serde_json::json!({})).unwrap();
        assert_eq!(lock.path.as_str(), "/nix/store/7s7y7a50w6zi8b42ycjv03989s7gg66a-source");
        assert_eq!(Sha256Hash::of(&lock.nar), lock.nar_hash);
    }
}
