//! The fake's inbox: a source is in the store when all of it has come and its hash is right.

use blixard_core::ports::BoxFuture;
use blixard_core::ports::sources::{ContentSource, IncomingSource, SourceInbox, TakeError};
use blixard_types::{PathRecord, Sha256Hash};

use super::{FakeNix, ready};

/// The most that one source may have.
pub const FAKE_UPLOAD_MAX: usize = 1 << 20;

struct Incoming {
    nix: FakeNix,
    source: ContentSource,
    nar: Vec<u8>,
}

impl SourceInbox for FakeNix {
    fn take(&self, source: ContentSource) -> BoxFuture<'_, Result<Box<dyn IncomingSource>, TakeError>> {
        let incoming: Box<dyn IncomingSource> =
            Box::new(Incoming { nix: self.clone(), source, nar: Vec::new() });
        ready(Ok(incoming))
    }
}

impl IncomingSource for Incoming {
    fn piece<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), TakeError>> {
        self.nar.extend_from_slice(bytes);
        if self.nar.len() > FAKE_UPLOAD_MAX {
            let (path, mib) = (self.source.path().clone(), (FAKE_UPLOAD_MAX >> 20) as u64);
            return ready(Err(TakeError::TooLarge { path, mib }));
        }
        ready(Ok(()))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), TakeError>> {
        let (wanted, found) = (self.source.nar_hash(), Sha256Hash::of(&self.nar));
        let path = self.source.path().clone();
        if wanted != found {
            return ready(Err(TakeError::WrongHash { path, wanted, found }));
        }
        let nar_size = self.nar.len() as u64;
        self.nix.add_record(PathRecord { path, nar_hash: found, nar_size, references: [].into() });
        ready(Ok(()))
    }
}
