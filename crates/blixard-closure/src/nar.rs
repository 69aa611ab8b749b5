//! NARs: a tree of the store as one stream of bytes, and back.
//!
//! Owns: packing a path into bounded chunks, reading a stream as simple pieces, and making a tree of such
//! pieces while its hash is computed. Refuses to know: where a stream comes from and what may be stored.
//!
//! The format is `nix-archive`'s, both ways. What it has no form for is a tree that is made while pieces
//! of several NARs arrive mixed: its encoder lends itself out for as long as a file lasts. So
//! [`hasher`] writes the tokens of a tree into a hash, and is tested against the crate.

pub(crate) mod hasher;
pub(crate) mod pieces;
pub(crate) mod plant;

use std::io::{self, Write};
use std::path::Path;

use bytes::{Bytes, BytesMut};
use nix_archive::nar::{CaseHack, Error, encode_path};

/// Bytes of a NAR that travel together.
pub(crate) const CHUNK: usize = 256 << 10;

/// Deepest tree that Nix accepts.
pub(crate) const DEPTH_MAX: usize = 64;

/// Packs a path; each full chunk goes to `send`, the last one with `true`.
///
/// # Errors
/// When the path cannot be read, or whatever `send` gives.
pub(crate) fn pack(path: &Path, send: impl FnMut(Bytes, bool) -> io::Result<()>) -> io::Result<()> {
    let mut chunks = Chunks { buffer: BytesMut::with_capacity(CHUNK), send };
    encode_path(&mut chunks, path, CaseHack::Disabled).map_err(|error| match error {
        Error::Io(cause) => cause,
        other => io::Error::other(other),
    })?;
    let rest = chunks.buffer.split().freeze();
    (chunks.send)(rest, true)
}

struct Chunks<F> {
    buffer: BytesMut,
    send: F,
}

impl<F: FnMut(Bytes, bool) -> io::Result<()>> Write for Chunks<F> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = CHUNK - self.buffer.len();
        let (now, _) = bytes.split_at(bytes.len().min(room));
        self.buffer.extend_from_slice(now);
        if self.buffer.len() == CHUNK {
            let full = std::mem::replace(&mut self.buffer, BytesMut::with_capacity(CHUNK));
            (self.send)(full.freeze(), false)?;
        }
        Ok(now.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
