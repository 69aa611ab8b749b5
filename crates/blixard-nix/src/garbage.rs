//! What nothing needs in the store, and removing it.
//!
//! Owns: how the collector is asked. Refuses to know: which generations are kept; their roots say so.
//! Nothing is ever removed from the store but by the collector.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use blixard_core::ports::nix::{Garbage, NixCommandError, RootName};
use blixard_types::StorePath;

use crate::batches::batches;
use crate::dump_db;
use crate::query::StoreQueries;

/// What would be dead if these roots of ours were gone.
pub(crate) async fn dead(
    queries: StoreQueries<'_>,
    folder: &Path,
    without: &[RootName],
) -> Result<Garbage, NixCommandError> {
    let mut dead: BTreeSet<StorePath> = queries.dead().await?.into_iter().collect();
    if !without.is_empty() {
        let links: BTreeSet<String> =
            without.iter().map(|name| folder.join(&name.0).to_string_lossy().into_owned()).collect();
        let roots = queries.all_roots().await?;
        let (going, staying): (Vec<_>, Vec<_>) =
            roots.into_iter().partition(|(link, _)| links.contains(link));
        let needed = requisites(queries, staying).await?;
        dead.extend(requisites(queries, going).await?.difference(&needed).cloned());
    }
    let sizes = sizes(queries).await?;
    let bytes = dead.iter().filter_map(|path| sizes.get(path)).sum();
    Ok(Garbage { paths: dead.len() as u64, bytes })
}

async fn requisites(
    queries: StoreQueries<'_>,
    roots: Vec<(String, StorePath)>,
) -> Result<BTreeSet<StorePath>, NixCommandError> {
    let mut paths: Vec<StorePath> = roots.into_iter().map(|(_, path)| path).collect();
    paths.sort();
    paths.dedup();
    // A root may lead to what is not there.
    let missing = queries.missing(paths.clone()).await?;
    paths.retain(|path| !missing.contains(path));
    let mut needed = BTreeSet::new();
    for batch in batches(&paths, StorePath::as_str) {
        needed.extend(queries.requisites(batch).await?);
    }
    Ok(needed)
}

/// The sizes of all that is in the store.
async fn sizes(queries: StoreQueries<'_>) -> Result<BTreeMap<StorePath, u64>, NixCommandError> {
    let dump = queries.dump_all().await?;
    let records = dump_db::parse(&dump).map_err(|cause| NixCommandError::Unexpected {
        command: "nix-store --dump-db".to_owned(),
        reason: cause.to_string(),
    })?;
    Ok(records.into_iter().map(|record| (record.path, record.nar_size)).collect())
}
