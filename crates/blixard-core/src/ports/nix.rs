//! Nix: evaluating a flake, building, and what the local store holds.

use std::sync::Arc;

use blixard_types::{Manifest, ManifestError, Sha256Hash, StorePath};
use serde_json::Value;

use super::BoxFuture;
use super::confined::LimitReached;

/// A flake source that is in the local store, locked by content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LockedSource {
    /// The source tree in the store.
    pub path: StorePath,
    /// Its NAR hash: what makes the evaluation pure.
    pub nar_hash: Sha256Hash,
    /// The git revision, if the tree is clean and of a git repository.
    pub rev: Option<String>,
    /// The number of commits up to `rev`.
    pub rev_count: Option<u64>,
    /// When the source was last changed, in seconds since the Unix epoch.
    pub last_modified: Option<u64>,
    /// The folder of `flake.nix` within the tree, empty for the top.
    pub subdir: String,
    /// A lock file in the local store that is used instead of the one in the tree, which lacks inputs.
    pub lock: Option<StorePath>,
}

/// Which vms of a flake are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// All of `microvms`, and the configurations that `blixard.microvmNix` lists.
    All,
    /// Those of these names.
    Named(Vec<String>),
    /// `nixosConfigurations.<name>` for each of these, listed or not.
    Configurations(Vec<String>),
}

/// The output of a flake that defines a vm.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlakeOutput {
    /// `microvms`.
    Microvms,
    /// `nixosConfigurations`: a guest of microvm.nix, whose spec is derived.
    Configurations,
}

impl FlakeOutput {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Microvms => "microvms",
            Self::Configurations => "nixosConfigurations",
        }
    }
}

/// One vm as a flake defines it, not yet checked.
#[derive(Debug, Clone, PartialEq)]
pub struct EvaluatedVm {
    /// The output it comes from.
    pub output: FlakeOutput,
    /// The attribute under that.
    pub attribute: String,
    /// The runner's derivation.
    pub drv: StorePath,
    /// The runner.
    pub out: StorePath,
    /// The platform it is built for, `x86_64-linux`.
    pub system: String,
    /// Its `blixard` attribute; null if it has none.
    pub spec: Value,
}

/// What a long Nix command is doing, told while it does it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NixProgress {
    /// Of `expected` derivations, `done` are built.
    Builds {
        /// Finished.
        done: u64,
        /// Known to be needed.
        expected: u64,
    },
    /// A build has begun.
    BuildStarted {
        /// Its derivation.
        drv: String,
    },
    /// A line of a build's log.
    BuildLog {
        /// The derivation's name, as far as known.
        drv: String,
        /// The line, without colours.
        line: String,
    },
    /// The flake's lock file lacks inputs: what it gives depends on more than its source.
    Unlocked {
        /// The text, without colours.
        text: String,
    },
    /// Inputs that are locked but not in the store are being fetched.
    Fetching {
        /// How many.
        inputs: u64,
    },
    /// A warning or trace of the evaluation.
    Message {
        /// The text, without colours.
        text: String,
    },
}

/// Takes progress. Called from the task that reads Nix's output; must not block.
pub type ProgressSink = Arc<dyn Fn(NixProgress) + Send + Sync>;

/// Where in a user's tree an evaluation failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SourcePosition {
    /// The file, relative to the flake's source if it is inside it.
    pub file: String,
    /// The line, from 1.
    pub line: u64,
    /// The column, from 1.
    pub column: u64,
}

/// Why a flake gave no vms.
#[derive(Debug, thiserror::Error)]
pub enum EvaluateError {
    /// The flake has no `microvms` output.
    #[error("the flake has no output `microvms`")]
    NoMicrovms,
    /// A named vm is not there.
    #[error("the flake has no output `{}.{attribute}`", .output.name())]
    NoSuchVm {
        /// Where it was looked for.
        output: FlakeOutput,
        /// The attribute asked for.
        attribute: String,
    },
    /// Nix refused the expression.
    #[error("evaluation failed: {message}")]
    Failed {
        /// What Nix said, without colours and trace.
        message: String,
        /// Where.
        position: Option<SourcePosition>,
    },
    /// It took too long.
    #[error("the evaluation was stopped: it took longer than {seconds} s")]
    TimeLimit {
        /// The limit.
        seconds: u64,
    },
    /// It needed too much memory.
    #[error("the evaluation was stopped: it needed more than {mib} MiB of memory")]
    MemoryLimit {
        /// The limit.
        mib: u64,
    },
    /// Its result or its messages are too long.
    #[error("the evaluation was stopped: it printed more than {mib} MiB")]
    OutputLimit {
        /// The limit.
        mib: u64,
    },
    /// A locked input is not in the store, and could not be fetched.
    #[error("the flake's inputs could not be fetched: {message}")]
    Fetch {
        /// What Nix said, without colours and trace.
        message: String,
    },
    /// Fetching took too long.
    #[error("fetching the flake's inputs was stopped: it took longer than {seconds} s")]
    FetchTimeLimit {
        /// The limit.
        seconds: u64,
    },
    /// The result has another shape than asked for.
    #[error("the evaluation's result cannot be read: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: String,
    },
    /// The command could not be run.
    #[error(transparent)]
    Command(#[from] NixCommandError),
}

/// A Nix command that could not be run or ended in an unexpected way.
#[derive(Debug, thiserror::Error)]
pub enum NixCommandError {
    /// It could not be started.
    #[error("cannot start {program}")]
    Start {
        /// The program.
        program: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Its output could not be read, or its input not written.
    #[error("lost contact with {program}")]
    Io {
        /// The program.
        program: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// It failed.
    #[error("{command} failed: {message}")]
    Failed {
        /// The program and its verb.
        command: String,
        /// Its last words.
        message: String,
    },
    /// It was stopped at a limit.
    #[error("{command} was stopped: {limit}")]
    Limit {
        /// The program and its verb.
        command: String,
        /// Which one.
        limit: LimitReached,
    },
    /// It could not be started in confinement, or its end is not known.
    #[error("cannot run {command} in confinement: {reason}")]
    Confinement {
        /// The program and its verb.
        command: String,
        /// Why.
        reason: String,
    },
    /// It printed something else than it should.
    #[error("{command} printed something unexpected: {reason}")]
    Unexpected {
        /// The program and its verb.
        command: String,
        /// What was wrong.
        reason: String,
    },
}

/// Evaluates flakes, purely. Untrusted code runs behind this port.
pub trait FlakeEvaluator: Send + Sync + 'static {
    /// Evaluates the selected vms together; their derivations are in the store afterwards.
    fn evaluate(
        &self,
        source: LockedSource,
        selection: Selection,
        progress: ProgressSink,
    ) -> BoxFuture<'_, Result<Vec<EvaluatedVm>, EvaluateError>>;

    /// A hash of everything in the evaluator that a result depends on: the expression, the settings.
    fn fingerprint(&self) -> Sha256Hash;
}

/// Why a derivation was not built.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The builder failed.
    #[error("building {drv} failed: {message}")]
    Failed {
        /// The first derivation that failed.
        drv: String,
        /// What Nix said.
        message: String,
        /// The last lines of its log.
        log_tail: Vec<String>,
    },
    /// A builder took too long, or was silent for too long.
    #[error("building {drv} was stopped: {message}")]
    TimeLimit {
        /// The derivation.
        drv: String,
        /// What Nix said.
        message: String,
    },
    /// The builders printed too much.
    #[error("the build was stopped: its logs have more than {mib} MiB")]
    OutputLimit {
        /// The limit.
        mib: u64,
    },
    /// The command could not be run.
    #[error(transparent)]
    Command(#[from] NixCommandError),
}

/// Why a closure cannot be listed.
#[derive(Debug, thiserror::Error)]
pub enum ClosureError {
    /// The store does not have the root.
    #[error("{path} is not in the store")]
    NotValid {
        /// The path.
        path: StorePath,
    },
    /// What the store says is not a closure.
    #[error("the store's records of {root} are not a closure")]
    Manifest {
        /// The root.
        root: StorePath,
        /// Why.
        #[source]
        cause: ManifestError,
    },
    /// The command could not be run.
    #[error(transparent)]
    Command(#[from] NixCommandError),
}

/// Why a store path does not have a program that can be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProgramError {
    /// Nothing is there, or a link to nothing.
    #[error("is not there")]
    Missing,
    /// A link to what another machine may not have.
    #[error("leads out of the store")]
    Elsewhere,
    /// A folder, for example.
    #[error("is no file")]
    NoFile,
    /// A file without the mode of a program.
    #[error("is not executable")]
    NotExecutable,
}

/// A garbage collector root of ours, named by a path below our directory of roots.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RootName(pub String);

/// Why a root could not be made, listed or removed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} the garbage collector root {root}")]
pub struct RootError {
    /// What was tried.
    pub action: &'static str,
    /// The root's file.
    pub root: String,
    /// Why.
    #[source]
    pub cause: std::io::Error,
}

/// Whether a root could be made beside another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// The path cannot be collected.
    Shared,
    /// The holder does not keep that path: only [`NixStore::add_roots`] makes sure of it.
    NotHeld,
}

/// Paths that nothing needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Garbage {
    /// How many.
    pub paths: u64,
    /// The bytes of their NARs.
    pub bytes: u64,
}

/// The local store's garbage collector.
pub trait GarbageCollector: Send + Sync + 'static {
    /// What would be removed if these roots of ours were gone.
    fn dead(&self, without: Vec<RootName>) -> BoxFuture<'_, Result<Garbage, NixCommandError>>;

    /// Removes what nothing needs.
    fn collect(&self) -> BoxFuture<'_, Result<(), NixCommandError>>;
}

/// The local store.
pub trait NixStore: Send + Sync + 'static {
    /// Builds these derivations (all their outputs) and what they need.
    fn build(&self, drvs: Vec<StorePath>, progress: ProgressSink) -> BoxFuture<'_, Result<(), BuildError>>;

    /// Which of these paths the store does not have, in their order.
    fn missing(&self, paths: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<StorePath>, NixCommandError>>;

    /// The NAR hash that the store has recorded for a path, `None` if it does not have the path.
    fn nar_hash(&self, path: StorePath) -> BoxFuture<'_, Result<Option<Sha256Hash>, NixCommandError>>;

    /// The closures of these roots, in their order.
    fn closures(&self, roots: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<Manifest>, ClosureError>>;

    /// Looks for a program, by its path below a store path.
    fn check_program(&self, path: StorePath, below: &'static str) -> BoxFuture<'_, Result<(), ProgramError>>;

    /// The closure of a root.
    fn closure(&self, root: StorePath) -> BoxFuture<'_, Result<Manifest, ClosureError>> {
        Box::pin(async move {
            let listed = self.closures(vec![root.clone()]).await?;
            listed.into_iter().next().ok_or(ClosureError::NotValid { path: root })
        })
    }

    /// Makes a root or points it elsewhere, durably: when this returns the path cannot be collected.
    fn add_root(&self, name: RootName, path: StorePath) -> BoxFuture<'_, Result<(), RootError>> {
        self.add_roots(vec![(name, path)])
    }

    /// Makes roots or points them elsewhere, durably: when this returns their paths cannot be collected.
    /// After a failure some of them may be there.
    fn add_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>>;

    /// Makes roots of paths whether they are there or not: what is there keeps, and what comes later will.
    /// A collection that runs already may not see them.
    fn reserve_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>>;

    /// Makes a root of a path that another root of ours, the holder, keeps already; costs no process. One that keeps
    /// the path itself is left as it is.
    /// The holder may go as soon as this has returned, if it was made before the new root was asked for.
    fn share_root(
        &self,
        name: RootName,
        path: StorePath,
        holder: RootName,
    ) -> BoxFuture<'_, Result<Sharing, RootError>>;

    /// Removes a root; one that is not there is no error.
    fn remove_root(&self, name: RootName) -> BoxFuture<'_, Result<(), RootError>>;

    /// All roots of ours, with what they point at.
    fn roots(&self) -> BoxFuture<'_, Result<Vec<(RootName, StorePath)>, RootError>>;
}
