//! The paths that may be served, by their hashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use blixard_core::ports::nix::{NixStore, RootName};
use blixard_types::{PathRecord, StorePath};
use tokio::sync::Mutex;

/// Digits of a path's hash.
const HASH_DIGITS: usize = 32;

/// Everything that this node's roots keep, listed anew when the roots are others.
pub(super) struct PathIndex {
    store: Arc<dyn NixStore>,
    listed: Mutex<Listed>,
}

#[derive(Default)]
struct Listed {
    roots: Vec<(RootName, StorePath)>,
    paths: BTreeMap<String, PathRecord>,
}

impl PathIndex {
    pub(super) fn new(store: Arc<dyn NixStore>) -> Self {
        Self { store, listed: Mutex::default() }
    }

    /// The path with this hash, if it may be served; an error when the store cannot be asked.
    pub(super) async fn find(&self, hash: &str) -> Result<Option<PathRecord>, String> {
        // One at a time, so that a burst of questions after a change lists once.
        let mut listed = self.listed.lock().await;
        let roots = self.store.roots().await.map_err(|error| blixard_types::chain(&error))?;
        if roots != listed.roots {
            *listed = self.list(roots).await?;
        }
        Ok(listed.paths.get(hash).cloned())
    }

    async fn list(&self, roots: Vec<(RootName, StorePath)>) -> Result<Listed, String> {
        // A root may be on its way in or out, and its path not in the store.
        let mut targets: Vec<StorePath> = roots.iter().map(|(_, path)| path.clone()).collect();
        targets.sort();
        targets.dedup();
        let missing =
            self.store.missing(targets.clone()).await.map_err(|error| blixard_types::chain(&error))?;
        targets.retain(|path| !missing.contains(path));
        let manifests = self.store.closures(targets).await.map_err(|error| blixard_types::chain(&error))?;
        let records = manifests.iter().flat_map(blixard_types::Manifest::records);
        let keyed = records.filter_map(|record| {
            let hash = record.path.basename().get(..HASH_DIGITS)?;
            Some((hash.to_owned(), record.clone()))
        });
        Ok(Listed { paths: keyed.collect(), roots })
    }
}
