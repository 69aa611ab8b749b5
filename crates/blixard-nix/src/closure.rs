//! Lists closures as the store records them.
//!
//! Owns: which questions give a closure, and what a failed one means. Refuses to know: what a
//! closure's digest is; the manifest does.

use blixard_core::ports::nix::{ClosureError, NixCommandError};
use blixard_types::{Manifest, StorePath};

use crate::batches::batches;
use crate::dump_db;
use crate::query::StoreQueries;

/// The closure of `root`.
pub(crate) async fn closure(queries: StoreQueries<'_>, root: StorePath) -> Result<Manifest, ClosureError> {
    let records = match records(queries, &root).await {
        Ok(records) => records,
        Err(error) => return Err(why(queries, root, error).await),
    };
    Manifest::new(root.clone(), records).map_err(|cause| ClosureError::Manifest { root, cause })
}

async fn records(
    queries: StoreQueries<'_>,
    root: &StorePath,
) -> Result<Vec<blixard_types::PathRecord>, NixCommandError> {
    let paths = queries.requisites(root).await?;
    let mut records = Vec::with_capacity(paths.len());
    for batch in batches(&paths, StorePath::as_str) {
        let dump = queries.dump_db(batch).await?;
        let parsed = dump_db::parse(&dump).map_err(|cause| NixCommandError::Unexpected {
            command: "nix-store --dump-db".to_owned(),
            reason: cause.to_string(),
        })?;
        records.extend(parsed);
    }
    Ok(records)
}

/// A question fails when the store does not have the root, or no longer: it may be collected meanwhile.
async fn why(queries: StoreQueries<'_>, root: StorePath, error: NixCommandError) -> ClosureError {
    match queries.has(&root).await {
        Ok(false) => ClosureError::NotValid { path: root },
        Ok(true) | Err(_) => ClosureError::Command(error),
    }
}
