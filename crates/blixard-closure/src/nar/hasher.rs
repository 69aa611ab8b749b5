//! The hash of a NAR, from the pieces of its tree.
//!
//! Owns: the order of the format's tokens. Source: `dump` in Nix's `src/libutil/archive.cc`. Refuses to
//! know: whether names are good and sorted; who makes the tree checks that.

use blixard_types::Sha256Hash;
use sha2::{Digest, Sha256};

const MAGIC: &[u8] = b"nix-archive-1";
const ZEROS: [u8; 8] = [0; 8];

/// Writes the tokens of one NAR into a hash, and counts their bytes.
#[derive(Debug, Clone)]
pub(crate) struct NarHasher {
    hash: Sha256,
    size: u64,
    /// For each node that is open, whether it has a name.
    named: Vec<bool>,
}

impl NarHasher {
    pub(crate) fn new() -> Self {
        let mut hasher = Self { hash: Sha256::new(), size: 0, named: Vec::new() };
        hasher.token(MAGIC);
        hasher
    }

    pub(crate) fn start_directory(&mut self, name: Option<&[u8]>) {
        self.open(name);
        self.token(b"directory");
    }

    pub(crate) fn start_file(&mut self, name: Option<&[u8]>, executable: bool, size: u64) {
        self.open(name);
        self.token(b"regular");
        if executable {
            self.token(b"executable");
            self.token(b"");
        }
        self.token(b"contents");
        self.bytes(&size.to_le_bytes());
    }

    /// Bytes of the file that was started.
    pub(crate) fn data(&mut self, bytes: &[u8]) {
        self.bytes(bytes);
    }

    /// Ends a file of this size.
    pub(crate) fn end_file(&mut self, size: u64) {
        self.pad(size);
        self.end();
    }

    pub(crate) fn symlink(&mut self, name: Option<&[u8]>, target: &[u8]) {
        self.open(name);
        self.token(b"symlink");
        self.token(b"target");
        self.token(target);
        self.end();
    }

    /// Ends a folder.
    pub(crate) fn end(&mut self) {
        self.token(b")");
        if self.named.pop() == Some(true) {
            self.token(b")");
        }
    }

    /// Bytes so far.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    pub(crate) fn finish(self) -> Sha256Hash {
        Sha256Hash(self.hash.finalize().into())
    }

    fn open(&mut self, name: Option<&[u8]>) {
        if let Some(name) = name {
            for token in [&b"entry"[..], b"(", b"name", name, b"node"] {
                self.token(token);
            }
        }
        self.named.push(name.is_some());
        self.token(b"(");
        self.token(b"type");
    }

    fn token(&mut self, bytes: &[u8]) {
        self.bytes(&(bytes.len() as u64).to_le_bytes());
        self.bytes(bytes);
        self.pad(bytes.len() as u64);
    }

    fn pad(&mut self, size: u64) {
        let padding = usize::try_from((8 - size % 8) % 8).unwrap_or_default();
        self.bytes(ZEROS.get(..padding).unwrap_or_default());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.hash.update(bytes);
        self.size = self.size.saturating_add(bytes.len() as u64);
    }
}
