//! Sources of flakes that callers send, because the store of the builder lacks them.
//!
//! Owns: which path a source may have, and what is promised of one that is taken. Refuses to know: who
//! sends it.
//!
//! ```text
//! take ─▶ piece ─▶ piece ─▶ … ─▶ finish: hash checked, then registered
//!   └── dropped: nothing of it is left, nothing was registered
//! ```

use blixard_types::{Sha256Hash, StorePath};

use super::BoxFuture;
use super::nix::NixCommandError;

/// A source tree by its content: the path is made of the hash, so that it can be nothing else.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ContentSource {
    path: StorePath,
    nar_hash: Sha256Hash,
}

/// A path that is not the one of a source with this hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path} is not the path of a source with the hash {nar_hash}")]
pub struct NotItsPath {
    /// The path.
    pub path: StorePath,
    /// The hash.
    pub nar_hash: Sha256Hash,
}

impl ContentSource {
    /// Checks that the path is the one that the hash gives.
    pub fn new(path: StorePath, nar_hash: Sha256Hash) -> Result<Self, NotItsPath> {
        if StorePath::of_source(nar_hash).as_ref() == Ok(&path) {
            Ok(Self { path, nar_hash })
        } else {
            Err(NotItsPath { path, nar_hash })
        }
    }

    /// Where it is in the store.
    pub fn path(&self) -> &StorePath {
        &self.path
    }

    /// The hash of its NAR.
    pub fn nar_hash(&self) -> Sha256Hash {
        self.nar_hash
    }
}

/// Why a source was not taken. Nothing of it is in the store then.
#[derive(Debug, thiserror::Error)]
pub enum TakeError {
    /// It is larger than sources may be.
    #[error("the source {path} has more than {mib} MiB")]
    TooLarge {
        /// The source.
        path: StorePath,
        /// The limit.
        mib: u64,
    },
    /// Something else was sent.
    #[error("what was sent for {path} has the hash {found}, not {wanted}")]
    WrongHash {
        /// The source.
        path: StorePath,
        /// The hash it was offered with.
        wanted: Sha256Hash,
        /// The hash of what came.
        found: Sha256Hash,
    },
    /// It could not be kept until it was whole.
    #[error("cannot keep the source {path} in {folder}")]
    Spool {
        /// The source.
        path: StorePath,
        /// Where.
        folder: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Nix did not take it.
    #[error(transparent)]
    Command(#[from] NixCommandError),
}

/// A source of which not all has come yet. Dropping it leaves nothing.
pub trait IncomingSource: Send {
    /// Takes the next bytes of its NAR.
    fn piece<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), TakeError>>;

    /// All has come. When this returns well, the source is in the store and its content has the hash.
    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), TakeError>>;
}

/// Takes sources.
pub trait SourceInbox: Send + Sync + 'static {
    /// Begins to take one.
    fn take(&self, source: ContentSource) -> BoxFuture<'_, Result<Box<dyn IncomingSource>, TakeError>>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_the_path_that_its_hash_gives_and_no_other() {
        // As Nix 2.26.3 has it.
        let path: StorePath = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source".parse().unwrap();
        let hash: Sha256Hash = "sha256-yLT71u/TtULkqW31/gaIhBtcZFqG7hfk5pd2eUAjiqg=".parse().unwrap();
        assert!(ContentSource::new(path.clone(), hash).is_ok());
        assert!(ContentSource::new(path, Sha256Hash::of(b"another")).is_err());
        let renamed = "/nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-sourcerer".parse().unwrap();
        assert!(ContentSource::new(renamed, hash).is_err());
    }
}
