//! Receiving a checkpoint: to a temporary file, synced, then checked.
//!
//! Owns the rule that what is not whole is never loaded: a torn or damaged one is refused and removed.
//! Holds one piece in memory.

use std::io;

use blixard_core::ports::peer::{Arriving, PeerRefusal};
use futures_util::StreamExt as _;

use super::body::{CheckpointBody, on_disk};
use super::file;
use super::store::CheckpointStore;
use crate::types::SnapshotMeta;

/// Receives the file that these pieces make.
pub(crate) async fn receive(
    store: &CheckpointStore,
    mut pieces: Arriving,
) -> Result<(SnapshotMeta, CheckpointBody), PeerRefusal> {
    let body = store.landing();
    let offload = store.offload();
    let (files, path) = (store.files(), body.path().to_owned());
    let create = move || files.create(&path);
    let mut file = on_disk(offload, create).await.map_err(|error| refused(&error))?;
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        file = on_disk(offload, move || file.write_all(&piece).map(|()| file))
            .await
            .map_err(|error| refused(&error))?;
    }
    let (files, path) = (store.files(), body.path().to_owned());
    let checked = on_disk(offload, move || {
        file.sync()?;
        drop(file);
        Ok(file::check(files.as_ref(), &path))
    });
    let meta = checked.await.map_err(|error| refused(&error))?.map_err(|bad| {
        tracing::warn!(error = %bad, "a received snapshot is not taken");
        PeerRefusal::Snapshot { reason: bad.to_string() }
    })?;
    Ok((meta, body))
}

fn refused(error: &io::Error) -> PeerRefusal {
    tracing::warn!(%error, "cannot keep a snapshot that is being received");
    PeerRefusal::Snapshot { reason: error.to_string() }
}
