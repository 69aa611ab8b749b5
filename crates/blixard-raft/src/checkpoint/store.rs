//! The directory of checkpoints: which one counts.
//!
//! Owns the rule that only the newest counts, and that the one before it goes only when the newest is
//! durable. A damaged newest one is an error, not a reason to take an older: the log before it may
//! be gone.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use openraft::storage::Snapshot;

use super::body::CheckpointBody;
use super::file::{self, CheckpointError};
use crate::files::{Files, SharedFiles};
use crate::offload::Offload;
use crate::types::SnapshotMeta;

/// The extension of a checkpoint that is whole.
const EXTENSION: &str = "checkpoint";

/// What a checkpoint covers, and the state.
type Loaded = (SnapshotMeta, Vec<u8>);
type CurrentSnapshot = openraft::alias::SnapshotOf<crate::types::TypeConfig, CheckpointBody>;

/// The checkpoints of one node.
#[derive(Debug)]
pub(crate) struct CheckpointStore {
    files: SharedFiles,
    offload: Offload,
    directory: PathBuf,
    /// Held while a checkpoint is written, so that they are written one at a time.
    current: Mutex<Option<Current>>,
    /// How many were received, so that two at once do not share a name.
    received: AtomicU64,
}

#[derive(Debug, Clone)]
struct Current {
    meta: SnapshotMeta,
    path: PathBuf,
}

impl CheckpointStore {
    /// Opens the directory, removes what a crash left half done, and loads the newest checkpoint.
    pub(crate) fn open(
        files: SharedFiles,
        offload: Offload,
        directory: &Path,
    ) -> Result<(Self, Option<Loaded>), CheckpointError> {
        let failed = |source| CheckpointError::Directory { path: directory.to_owned(), source };
        files.make_directory(directory).map_err(failed)?;
        let mut whole = sorted_files(files.as_ref(), directory).map_err(failed)?;
        let loaded = match whole.pop() {
            None => None,
            Some(path) => Some((file::read(files.as_ref(), &path)?, path)),
        };
        if loaded.is_some() {
            // A process that was killed may not have come to this, and the log is purged by what is found.
            files.sync_directory(directory).map_err(failed)?;
        }
        for older in whole {
            files.remove(&older).map_err(failed)?;
        }
        let current =
            loaded.as_ref().map(|((meta, _), path)| Current { meta: meta.clone(), path: path.clone() });
        let store = Self {
            files,
            offload,
            directory: directory.to_owned(),
            current: Mutex::new(current),
            received: AtomicU64::new(0),
        };
        Ok((store, loaded.map(|(checkpoint, _)| checkpoint)))
    }

    /// Makes a checkpoint durable and current, unless the current one covers as much already, and
    /// removes the one before. Blocks for as long as the disk takes.
    pub(crate) fn save(&self, meta: SnapshotMeta, state: &[u8]) -> Result<CurrentSnapshot, CheckpointError> {
        let mut current = self.lock();
        if let Some(current) = current.as_ref()
            && current.meta.last_log_id >= meta.last_log_id
        {
            return Ok(self.snapshot(current));
        }
        let path = self.directory.join(name(&meta));
        file::write(self.files.as_ref(), &path, &meta, state)?;
        Ok(self.replace(&mut current, Current { meta, path }))
    }

    /// Makes a checkpoint that was received, which is whole and synced, current.
    pub(crate) fn adopt(&self, meta: SnapshotMeta, body: CheckpointBody) -> Result<(), CheckpointError> {
        let mut current = self.lock();
        if current.as_ref().is_some_and(|current| current.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let path = self.directory.join(name(&meta));
        body.rename(&path).map_err(|source| CheckpointError::Write { path: path.clone(), source })?;
        file::sync_directory(self.files.as_ref(), &self.directory)?;
        self.replace(&mut current, Current { meta, path });
        Ok(())
    }

    /// Where the next one that is received is written. A crash leaves it to the next start.
    pub(super) fn landing(&self) -> CheckpointBody {
        let number = self.received.fetch_add(1, Ordering::Relaxed);
        let path = self.directory.join(format!("received-{number}.{}", file::TEMPORARY));
        CheckpointBody::received(Arc::clone(&self.files), self.offload.clone(), path)
    }

    pub(super) fn files(&self) -> SharedFiles {
        Arc::clone(&self.files)
    }

    pub(super) fn offload(&self) -> &Offload {
        &self.offload
    }

    /// Bytes of all files, half-written ones included.
    pub(crate) fn size(&self) -> io::Result<u64> {
        let mut size = 0;
        for found in self.files.list(&self.directory)? {
            match self.files.size(&found) {
                Ok(bytes) => size += bytes,
                // Replaced meanwhile.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(size)
    }

    fn replace(&self, current: &mut Option<Current>, saved: Current) -> CurrentSnapshot {
        let snapshot = self.snapshot(&saved);
        if let Some(before) = current.replace(saved)
            && let Err(error) = self.files.remove(&before.path)
        {
            // Removed at the next start.
            tracing::warn!(path = %before.path.display(), %error, "cannot remove an old checkpoint");
        }
        snapshot
    }

    /// The newest checkpoint.
    pub(crate) fn current(&self) -> Option<CurrentSnapshot> {
        self.lock().as_ref().map(|current| self.snapshot(current))
    }

    fn snapshot(&self, current: &Current) -> CurrentSnapshot {
        let path = current.path.clone();
        let body = CheckpointBody::stored(Arc::clone(&self.files), self.offload.clone(), path);
        Snapshot { meta: current.meta.clone(), snapshot: body }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Current>> {
        // The value is replaced whole.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The checkpoints in a directory, oldest first. Removes half-written ones; leaves other files alone.
fn sorted_files(files: &dyn Files, directory: &Path) -> io::Result<Vec<PathBuf>> {
    let mut whole = Vec::new();
    for path in files.list(directory)? {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some(EXTENSION) => whole.push(path),
            Some(file::TEMPORARY) => files.remove(&path)?,
            _ => {}
        }
    }
    whole.sort();
    Ok(whole)
}

/// A name that sorts by what it covers.
fn name(meta: &SnapshotMeta) -> String {
    let (next, term) = meta.last_log_id.map_or((0, 0), |id| (id.index + 1, id.leader_id.term));
    format!("{term:020}-{next:020}.{EXTENSION}")
}
