//! The ports, by the Nix command line.
//!
//! Owns: the programs and the folder that are used. Refuses to know: everything else; each method is
//! one call of the module that does it.

use std::path::PathBuf;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::nix::{
    BuildError, ClosureError, EvaluateError, EvaluatedVm, FlakeEvaluator, LockedSource, NixCommandError,
    NixStore, ProgressSink, RootError, RootName, Selection,
};
use blixard_types::{Manifest, Sha256Hash, StorePath};

use crate::evaluate::Evaluation;
use crate::query::StoreQueries;
use crate::roots::RootsFolder;
use crate::{build, closure, hold, outputs};

/// Where our roots are unless said otherwise: below the collector's own folder, so that links in it
/// are roots without being registered.
pub const DEFAULT_ROOTS: &str = "/nix/var/nix/gcroots/blixard";

/// What a [`NixCli`] uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixCliOptions {
    /// The program `nix`, looked up in `PATH` if it has no slash.
    pub nix: PathBuf,
    /// The program `nix-store`, likewise.
    pub nix_store: PathBuf,
    /// The folder of our garbage collector roots, below `gcroots` of Nix's state.
    pub roots: PathBuf,
}

impl Default for NixCliOptions {
    fn default() -> Self {
        Self {
            nix: PathBuf::from("nix"),
            nix_store: PathBuf::from("nix-store"),
            roots: PathBuf::from(DEFAULT_ROOTS),
        }
    }
}

/// Nix, by its command line: evaluates flakes and speaks for the local store. Needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct NixCli {
    nix: PathBuf,
    nix_store: PathBuf,
    roots: RootsFolder,
}

impl NixCli {
    /// Does nothing yet: programs and folder are looked for when they are used.
    pub fn new(options: NixCliOptions) -> Self {
        Self { nix: options.nix, nix_store: options.nix_store, roots: RootsFolder::new(options.roots) }
    }

    fn queries(&self) -> StoreQueries<'_> {
        StoreQueries::new(&self.nix_store)
    }
}

impl Default for NixCli {
    fn default() -> Self {
        Self::new(NixCliOptions::default())
    }
}

impl FlakeEvaluator for NixCli {
    fn evaluate(
        &self,
        source: LockedSource,
        selection: Selection,
        progress: ProgressSink,
    ) -> BoxFuture<'_, Result<Vec<EvaluatedVm>, EvaluateError>> {
        Box::pin(async move { Evaluation::new(&self.nix, &source).run(selection, &progress).await })
    }
}

impl NixStore for NixCli {
    fn build(&self, drvs: Vec<StorePath>, progress: ProgressSink) -> BoxFuture<'_, Result<(), BuildError>> {
        Box::pin(async move { build::build(&self.nix, self.queries(), drvs, &progress).await })
    }

    fn missing(&self, paths: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<StorePath>, NixCommandError>> {
        Box::pin(self.queries().missing(paths))
    }

    fn nar_hash(&self, path: StorePath) -> BoxFuture<'_, Result<Option<Sha256Hash>, NixCommandError>> {
        Box::pin(async move {
            match self.queries().nar_hash(&path).await {
                Ok(hash) => Ok(Some(hash)),
                Err(error) => match self.queries().has(&path).await {
                    Ok(false) => Ok(None),
                    Ok(true) | Err(_) => Err(error),
                },
            }
        })
    }

    fn closure(&self, root: StorePath) -> BoxFuture<'_, Result<Manifest, ClosureError>> {
        Box::pin(closure::closure(self.queries(), root))
    }

    fn has_file(&self, path: StorePath, below: &'static str) -> BoxFuture<'_, bool> {
        Box::pin(async move { outputs::has_file(&path, below).await })
    }

    fn add_root(&self, name: RootName, path: StorePath) -> BoxFuture<'_, Result<(), RootError>> {
        Box::pin(async move {
            let refused = |cause| self.roots.error("add", &name.0, cause);
            hold::check(self.queries(), &path).await.map_err(refused)?;
            self.roots.add(name.clone(), path.clone()).await?;
            hold::hold(&self.nix, &path).await.map_err(refused)
        })
    }

    fn remove_root(&self, name: RootName) -> BoxFuture<'_, Result<(), RootError>> {
        Box::pin(self.roots.remove(name))
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<(RootName, StorePath)>, RootError>> {
        Box::pin(self.roots.list())
    }
}
