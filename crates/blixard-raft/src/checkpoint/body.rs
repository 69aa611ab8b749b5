//! A checkpoint in openraft's hands: a file of the store, or one that was just received.
//!
//! Owns the life of a received file: it is removed unless the store takes it. Unread until it is
//! installed or sent: openraft asks for a checkpoint oftener than it needs it.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use blixard_core::ports::BoxStream;
use bytes::Bytes;
use futures_util::stream;
use tokio::task::spawn_blocking;

use super::file::{self, CheckpointError};

/// How much of a checkpoint is sent at once; a few are on their way at a time. Far below what a gRPC
/// message may have, and long enough that the work for each does not count.
const PIECE_BYTES: u64 = 256 * 1024;

/// A checkpoint file.
#[derive(Debug)]
pub(crate) struct CheckpointBody {
    path: PathBuf,
    /// What to remove when nobody has taken the file.
    _received: Option<Received>,
}

/// A file that goes when this goes.
#[derive(Debug)]
struct Received(PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        match fs::remove_file(&self.0) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Removed at the next start.
            Err(error) => tracing::warn!(path = %self.0.display(), %error, "cannot remove a received file"),
        }
    }
}

impl CheckpointBody {
    /// A file of the store.
    pub(super) fn stored(path: PathBuf) -> Self {
        Self { path, _received: None }
    }

    /// A file that is being received.
    pub(super) fn received(path: PathBuf) -> Self {
        Self { _received: Some(Received(path.clone())), path }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The state, checked.
    pub(crate) fn read(&self) -> Result<Vec<u8>, CheckpointError> {
        file::read(&self.path).map(|(_, state)| state)
    }

    /// Gives the file another name, under which it stays.
    pub(super) fn rename(self, to: &Path) -> io::Result<()> {
        fs::rename(&self.path, to)
    }

    /// The file as it is, in pieces. It is held open, so that it may be replaced meanwhile. A file that
    /// cannot be read to its end ends early, which its receiver finds.
    pub(crate) async fn pieces(self) -> Result<BoxStream<'static, Bytes>, CheckpointError> {
        let path = self.path;
        let opened = on_disk({
            let path = path.clone();
            move || File::open(path)
        });
        let failed = |source| CheckpointError::Read { path: path.clone(), source };
        let file = opened.await.map_err(failed)?;
        Ok(Box::pin(stream::unfold(file, |file| async move {
            match on_disk(move || next_piece(file)).await {
                Ok(piece) => piece,
                Err(error) => {
                    tracing::error!(%error, "cannot read a checkpoint that is being sent");
                    None
                }
            }
        })))
    }
}

fn next_piece(file: File) -> io::Result<Option<(Bytes, File)>> {
    let mut piece = Vec::new();
    (&file).take(PIECE_BYTES).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then(|| (piece.into(), file)))
}

/// Does something that blocks.
pub(super) async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    spawn_blocking(work).await.map_err(io::Error::other)?
}
