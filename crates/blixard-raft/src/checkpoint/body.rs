//! A checkpoint in openraft's hands: a file of the store, or one that was just received.
//!
//! Owns the life of a received file: it is removed unless the store takes it. Unread until it is
//! installed or sent: openraft asks for a checkpoint oftener than it needs it.

use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blixard_core::ports::BoxStream;
use bytes::Bytes;
use futures_util::stream;

use super::file::{self, CheckpointError};
use crate::files::SharedFiles;
use crate::offload::Offload;

/// How much of a checkpoint is sent at once; a few are on their way at a time. Far below what a gRPC
/// message may have, and long enough that the work for each does not count.
const PIECE_BYTES: u64 = 256 * 1024;

/// A checkpoint file.
#[derive(Debug)]
pub(crate) struct CheckpointBody {
    files: SharedFiles,
    offload: Offload,
    path: PathBuf,
    /// What to remove when nobody has taken the file.
    _received: Option<Received>,
}

/// A file that goes when this goes.
#[derive(Debug)]
struct Received(SharedFiles, PathBuf);

impl Drop for Received {
    fn drop(&mut self) {
        let Self(files, path) = self;
        match files.remove(path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Removed at the next start.
            Err(error) => tracing::warn!(path = %path.display(), %error, "cannot remove a received file"),
        }
    }
}

impl CheckpointBody {
    /// A file of the store.
    pub(super) fn stored(files: SharedFiles, offload: Offload, path: PathBuf) -> Self {
        Self { files, offload, path, _received: None }
    }

    /// A file that is being received.
    pub(super) fn received(files: SharedFiles, offload: Offload, path: PathBuf) -> Self {
        let received = Received(Arc::clone(&files), path.clone());
        Self { files, offload, path, _received: Some(received) }
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The state, checked.
    pub(crate) fn read(&self) -> Result<Vec<u8>, CheckpointError> {
        file::read(self.files.as_ref(), &self.path).map(|(_, state)| state)
    }

    /// Gives the file another name, under which it stays.
    pub(super) fn rename(self, to: &Path) -> io::Result<()> {
        self.files.rename(&self.path, to)
    }

    /// The file as it is, in pieces. It is held open, so that it may be replaced meanwhile. A file that
    /// cannot be read to its end ends early, which its receiver finds.
    pub(crate) async fn pieces(self) -> Result<BoxStream<'static, Bytes>, CheckpointError> {
        let Self { files, offload, path, .. } = self;
        let opened = on_disk(&offload, {
            let path = path.clone();
            move || files.open(&path)
        });
        let failed = |source| CheckpointError::Read { path: path.clone(), source };
        let file = opened.await.map_err(failed)?;
        Ok(Box::pin(stream::unfold((file, offload), |(file, offload)| async move {
            match on_disk(&offload, move || next_piece(file)).await {
                Ok(piece) => piece.map(|(piece, file)| (piece, (file, offload))),
                Err(error) => {
                    tracing::error!(%error, "cannot read a checkpoint that is being sent");
                    None
                }
            }
        })))
    }
}

type Opened = Box<dyn io::Read + Send + Sync>;

fn next_piece(mut file: Opened) -> io::Result<Option<(Bytes, Opened)>> {
    let mut piece = Vec::new();
    file.by_ref().take(PIECE_BYTES).read_to_end(&mut piece)?;
    Ok((!piece.is_empty()).then(|| (piece.into(), file)))
}

/// Does something that blocks.
pub(super) async fn on_disk<T: Send + 'static>(
    offload: &Offload,
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    offload.run(work).await.map_err(io::Error::other)?
}
