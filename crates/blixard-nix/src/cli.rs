//! The ports, by the Nix command line.
//!
//! Owns: the programs and the folder that are used. Refuses to know: everything else; each method is
//! one call of the module that does it.

use std::path::PathBuf;
use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::confined::{Confinement, Limits, Network};
use blixard_core::ports::nix::{
    BuildError, ClosureError, EvaluateError, EvaluatedVm, FlakeEvaluator, Garbage, GarbageCollector,
    LockedSource, NixCommandError, NixStore, ProgramError, ProgressSink, RootError, RootName, Selection,
    Sharing,
};
use blixard_core::ports::sources::{ContentSource, IncomingSource, SourceInbox, TakeError};
use blixard_types::{Manifest, Sha256Hash, StorePath};

use crate::build::Client;
use crate::command::{Cell, STDOUT_MAX};
use crate::evaluate::Evaluation;
use crate::inbox::Inbox;
use crate::query::StoreQueries;
use crate::roots::RootsFolder;
use crate::{build, closure, evaluate, garbage, hold, inputs, outputs};

/// Where our roots are unless said otherwise: below the collector's own folder, so that links in it
/// are roots without being registered.
pub const DEFAULT_ROOTS: &str = "/nix/var/nix/gcroots/blixard";

/// Where sources are kept while they are sent, unless said otherwise.
const DEFAULT_UPLOADS: &str = "/var/lib/blixard/uploads";

/// What a [`NixCli`] uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NixCliOptions {
    /// The program `nix`, looked up in `PATH` if it has no slash.
    pub nix: PathBuf,
    /// The program `nix-store`, likewise.
    pub nix_store: PathBuf,
    /// The folder of our garbage collector roots, below `gcroots` of Nix's state.
    pub roots: PathBuf,
    /// Where sources that callers send are kept until they are whole. The daemon's alone.
    pub uploads: PathBuf,
    /// What sources may take.
    pub sources: SourceLimits,
    /// What an evaluation may take.
    pub evaluation: EvaluationLimits,
    /// What builds may take.
    pub builds: BuildLimits,
}

/// What the sources of a flake may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourceLimits {
    /// The size of one that a caller sends, in bytes.
    pub upload_max: u64,
    /// Time to fetch the inputs of one flake, in seconds.
    pub fetch_s: u64,
}

/// What one evaluation may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvaluationLimits {
    /// Time, in seconds.
    pub time_s: u64,
    /// Memory, in bytes.
    pub memory_max: u64,
    /// What it prints, in bytes: its result, and its messages.
    pub output_max: u64,
}

/// What the builds of one deployment may take. Memory is a matter of nix-daemon's own unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuildLimits {
    /// Time of one derivation, in seconds; 0 for ever.
    pub timeout_s: u64,
    /// Silence of one derivation, in seconds; 0 for ever.
    pub max_silent_s: u64,
    /// The logs of all derivations together, in bytes.
    pub log_max: u64,
    /// Derivations at once; as nix-daemon is configured if absent.
    pub max_jobs: Option<u64>,
    /// Cores that a derivation is told of; likewise.
    pub cores: Option<u64>,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self { upload_max: 4096 << 20, fetch_s: 900 }
    }
}

impl Default for EvaluationLimits {
    fn default() -> Self {
        Self { time_s: 300, memory_max: 4096 << 20, output_max: 16 << 20 }
    }
}

impl Default for BuildLimits {
    fn default() -> Self {
        Self { timeout_s: 14_400, max_silent_s: 3_600, log_max: 128 << 20, max_jobs: None, cores: None }
    }
}

/// A client that waits for builds holds the graph of their derivations.
const CLIENT_MEMORY_MAX: u64 = 2 << 30;

/// Threads of a Nix process and of what it may start to fetch (`git`).
const CLIENT_TASKS_MAX: u64 = 128;

impl Default for NixCliOptions {
    fn default() -> Self {
        Self {
            nix: PathBuf::from("nix"),
            nix_store: PathBuf::from("nix-store"),
            roots: PathBuf::from(DEFAULT_ROOTS),
            uploads: PathBuf::from(DEFAULT_UPLOADS),
            sources: SourceLimits::default(),
            evaluation: EvaluationLimits::default(),
            builds: BuildLimits::default(),
        }
    }
}

/// Nix, by its command line: evaluates flakes and speaks for the local store. Needs a tokio runtime.
#[derive(Debug, Clone)]
pub struct NixCli {
    nix: PathBuf,
    nix_store: PathBuf,
    roots: RootsFolder,
    inbox: Arc<Inbox>,
    fetching: Cell,
    evaluation: Cell,
    client: Cell,
    builds: BuildLimits,
}

impl NixCli {
    /// Does nothing yet: programs and folder are looked for when they are used. What flakes say is
    /// evaluated, and builds are asked for, in this confinement.
    pub fn new(options: NixCliOptions, confinement: &Arc<dyn Confinement>) -> Self {
        let evaluation = Limits {
            time_ms: options.evaluation.time_s.saturating_mul(1000),
            memory_max: options.evaluation.memory_max,
            tasks_max: CLIENT_TASKS_MAX,
            stdout_max: options.evaluation.output_max,
            stderr_max: options.evaluation.output_max,
        };
        let client = Limits {
            // Nix keeps the time of each derivation; how many there are is not known.
            time_ms: u64::MAX,
            memory_max: CLIENT_MEMORY_MAX,
            tasks_max: CLIENT_TASKS_MAX,
            stdout_max: STDOUT_MAX as u64,
            stderr_max: options.builds.log_max,
        };
        let fetching = Limits {
            time_ms: options.sources.fetch_s.saturating_mul(1000),
            stderr_max: options.evaluation.output_max,
            ..client
        };
        let cell = |purpose, network, limits| Cell {
            confinement: Arc::clone(confinement),
            purpose,
            network,
            limits,
        };
        Self {
            inbox: Inbox::new(options.nix.clone(), options.uploads, options.sources.upload_max),
            nix: options.nix,
            nix_store: options.nix_store,
            roots: RootsFolder::new(options.roots),
            fetching: cell("fetch", Network::Host, fetching),
            evaluation: cell("evaluate", Network::None, evaluation),
            client: cell("build", Network::None, client),
            builds: options.builds,
        }
    }

    fn queries(&self) -> StoreQueries<'_> {
        StoreQueries::new(&self.nix_store)
    }
}

impl FlakeEvaluator for NixCli {
    fn evaluate(
        &self,
        source: LockedSource,
        selection: Selection,
        progress: ProgressSink,
    ) -> BoxFuture<'_, Result<Vec<EvaluatedVm>, EvaluateError>> {
        Box::pin(async move {
            inputs::provide(&self.nix, &self.fetching, self.queries(), &source, &progress).await?;
            Evaluation::new(&self.nix, &self.evaluation, &source).run(selection, &progress).await
        })
    }

    fn fingerprint(&self) -> Sha256Hash {
        evaluate::fingerprint()
    }
}

impl SourceInbox for NixCli {
    fn take(&self, source: ContentSource) -> BoxFuture<'_, Result<Box<dyn IncomingSource>, TakeError>> {
        Box::pin(self.inbox.take(source))
    }
}

impl NixStore for NixCli {
    fn build(&self, drvs: Vec<StorePath>, progress: ProgressSink) -> BoxFuture<'_, Result<(), BuildError>> {
        let client = Client { nix: &self.nix, cell: &self.client, limits: &self.builds };
        Box::pin(async move { build::build(client, self.queries(), drvs, &progress).await })
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

    fn closures(&self, roots: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<Manifest>, ClosureError>> {
        Box::pin(closure::closures(self.queries(), roots))
    }

    fn check_program(&self, path: StorePath, below: &'static str) -> BoxFuture<'_, Result<(), ProgramError>> {
        Box::pin(async move { outputs::check_program(&path, below).await })
    }

    fn add_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>> {
        Box::pin(async move {
            let paths: Vec<StorePath> = roots.iter().map(|(_, path)| path.clone()).collect();
            // What fails for all of them is told of the first.
            let first = roots.first().map(|(name, _)| name.0.clone()).unwrap_or_default();
            let refused = |cause| self.roots.error("add", &first, cause);
            let gone = hold::first_gone(self.queries(), paths.clone()).await.map_err(refused)?;
            if let Some((name, path)) = roots.iter().find(|(_, path)| gone.as_ref() == Some(path)) {
                return Err(self.roots.error("add", &name.0, hold::gone(path)));
            }
            self.roots.add(roots).await?;
            hold::hold(&self.nix, &paths).await.map_err(refused)
        })
    }

    fn reserve_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>> {
        Box::pin(self.roots.add(roots))
    }

    fn share_root(
        &self,
        name: RootName,
        path: StorePath,
        holder: RootName,
    ) -> BoxFuture<'_, Result<Sharing, RootError>> {
        Box::pin(self.roots.share(name, path, holder))
    }

    fn remove_root(&self, name: RootName) -> BoxFuture<'_, Result<(), RootError>> {
        Box::pin(self.roots.remove(name))
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<(RootName, StorePath)>, RootError>> {
        Box::pin(self.roots.list())
    }
}

impl GarbageCollector for NixCli {
    fn dead(&self, without: Vec<RootName>) -> BoxFuture<'_, Result<Garbage, NixCommandError>> {
        Box::pin(async move { garbage::dead(self.queries(), self.roots.path(), &without).await })
    }

    fn collect(&self) -> BoxFuture<'_, Result<(), NixCommandError>> {
        Box::pin(self.queries().collect())
    }
}
