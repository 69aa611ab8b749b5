//! Lists closures as the store records them.
//!
//! Owns: which questions give a closure, and what a failed one means. Refuses to know: what a
//! closure's digest is; the manifest does.

use std::collections::{BTreeMap, BTreeSet};

use blixard_core::ports::nix::{ClosureError, NixCommandError};
use blixard_types::{Manifest, PathRecord, StorePath};

use crate::batches::batches;
use crate::dump_db;
use crate::query::StoreQueries;

/// The closures of `roots`, in their order: one listing for all of them, taken apart afterwards.
pub(crate) async fn closures(
    queries: StoreQueries<'_>,
    roots: Vec<StorePath>,
) -> Result<Vec<Manifest>, ClosureError> {
    let records = match records(queries, &roots).await {
        Ok(records) => records,
        Err(error) => return Err(why(queries, roots, error).await),
    };
    let records = records.into_iter().map(|record| (record.path.clone(), record)).collect();
    roots.into_iter().map(|root| manifest(&records, root)).collect()
}

/// The part of the records that a root needs.
fn manifest(records: &BTreeMap<StorePath, PathRecord>, root: StorePath) -> Result<Manifest, ClosureError> {
    let mut needed = BTreeSet::new();
    let mut open = vec![&root];
    while let Some(path) = open.pop() {
        // What is referred to and not listed is missed by the manifest itself.
        if let Some(record) = records.get(path)
            && needed.insert(&record.path)
        {
            open.extend(&record.references);
        }
    }
    let own = needed.into_iter().filter_map(|path| records.get(path)).cloned().collect();
    Manifest::new(root.clone(), own).map_err(|cause| ClosureError::Manifest { root, cause })
}

async fn records(queries: StoreQueries<'_>, roots: &[StorePath]) -> Result<Vec<PathRecord>, NixCommandError> {
    let mut paths = BTreeSet::new();
    for batch in batches(roots, StorePath::as_str) {
        paths.extend(queries.requisites(batch).await?);
    }
    let paths: Vec<StorePath> = paths.into_iter().collect();
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

/// A question fails when the store does not have a root, or no longer: it may be collected meanwhile.
async fn why(queries: StoreQueries<'_>, roots: Vec<StorePath>, error: NixCommandError) -> ClosureError {
    let missing = queries.missing(roots).await.unwrap_or_default();
    match missing.into_iter().next() {
        Some(path) => ClosureError::NotValid { path },
        None => ClosureError::Command(error),
    }
}
