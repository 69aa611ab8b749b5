//! A Nix that builds nothing: an in-memory store and an evaluator that answers what it was told.
//!
//! Owns: what the two ports promise, without a process or a disk. Refuses to know: Nix's formats. It
//! passes the contract in [`contract`], as the real one does.

pub mod contract;
mod inbox;
pub mod inbox_contract;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::BoxFuture;
use blixard_core::ports::nix::{
    BuildError, ClosureError, EvaluateError, EvaluatedVm, FlakeEvaluator, FlakeOutput, LockedSource,
    NixCommandError, NixProgress, NixStore, ProgramError, ProgressSink, RootError, RootName, Selection,
    Sharing, SourcePosition,
};
use blixard_types::{Manifest, PathRecord, Sha256Hash, StorePath};

pub use inbox::FAKE_UPLOAD_MAX;
use store::{Recipe, Store};
pub use store::{fake_hash, fake_store_path};

/// A vm of a fake flake, with the derivation that a build of it runs.
#[derive(Debug, Clone, PartialEq)]
pub struct FakeVm {
    /// What an evaluation gives.
    pub vm: EvaluatedVm,
    /// The paths that the runner needs besides itself. A build makes those that are not there.
    pub needs: Vec<StorePath>,
    /// The runner's files, by their paths below it.
    pub files: Vec<String>,
}

impl FakeVm {
    /// A vm whose runner needs one path of its own and has `bin/microvm-run`.
    pub fn new(attribute: &str, spec: serde_json::Value) -> Self {
        Self::version(attribute, "1", spec)
    }

    /// Another version is another runner.
    pub fn version(attribute: &str, version: &str, spec: serde_json::Value) -> Self {
        let label = format!("{attribute}-{version}");
        let vm = EvaluatedVm {
            output: FlakeOutput::Microvms,
            attribute: attribute.to_owned(),
            drv: fake_store_path(&format!("{label}.drv")),
            out: fake_store_path(&label),
            system: "x86_64-linux".to_owned(),
            spec,
        };
        Self {
            vm,
            needs: vec![fake_store_path(&format!("{label}-kernel"))],
            files: vec!["bin/microvm-run".to_owned()],
        }
    }
}

/// What a fake flake gives when it is evaluated.
#[derive(Debug, Clone, PartialEq)]
pub enum FakeFlake {
    /// These vms.
    Vms(Vec<FakeVm>),
    /// No output `microvms`.
    NoMicrovms,
    /// An error.
    Fails {
        /// What Nix would say.
        message: String,
        /// Where.
        position: Option<SourcePosition>,
    },
}

/// The fake. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeNix {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    flakes: BTreeMap<StorePath, FakeFlake>,
    store: Store,
    evaluations: usize,
    builds: Vec<StorePath>,
}

impl FakeNix {
    /// An empty store, no flakes.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts a flake's source into the store and says what it evaluates to; gives what to evaluate.
    pub fn add_flake(&self, name: &str, flake: FakeFlake) -> LockedSource {
        let path = fake_store_path(name);
        let record = record(&path, &[]);
        let nar_hash = record.nar_hash;
        let mut state = self.state();
        state.store.put(record, &[]);
        state.flakes.insert(path.clone(), flake);
        LockedSource {
            path,
            nar_hash,
            rev: None,
            rev_count: None,
            last_modified: None,
            subdir: String::new(),
            lock: None,
        }
    }

    /// Puts a path into the store, as if it had been copied there.
    pub fn add_path(&self, path: &StorePath, references: &[StorePath], files: &[&str]) {
        let files: Vec<String> = files.iter().map(|file| (*file).to_owned()).collect();
        self.state().store.put(record(path, references), &files);
    }

    /// Puts a path into the store with these facts.
    pub fn add_record(&self, record: PathRecord) {
        self.state().store.put(record, &[]);
    }

    /// Makes each later build of a derivation fail.
    pub fn fail_build(&self, drv: &StorePath, message: &str, log_tail: &[&str]) {
        let recipe = Recipe::Fails {
            message: message.to_owned(),
            log_tail: log_tail.iter().map(|line| (*line).to_owned()).collect(),
        };
        self.state().store.recipes.insert(drv.clone(), recipe);
    }

    /// Removes what no root needs; gives what was removed.
    pub fn collect_garbage(&self) -> BTreeSet<StorePath> {
        self.state().store.collect_garbage()
    }

    /// How often a flake was evaluated.
    pub fn evaluations(&self) -> usize {
        self.state().evaluations
    }

    /// The derivations that were run, in their order.
    pub fn builds(&self) -> Vec<StorePath> {
        self.state().builds.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn evaluate(
        &mut self,
        source: &StorePath,
        selection: Selection,
    ) -> Result<Vec<EvaluatedVm>, EvaluateError> {
        self.evaluations += 1;
        let vms = match self.flakes.get(source) {
            Some(FakeFlake::Vms(vms)) => vms.clone(),
            Some(FakeFlake::NoMicrovms) | None => return Err(EvaluateError::NoMicrovms),
            Some(FakeFlake::Fails { message, position }) => {
                return Err(EvaluateError::Failed { message: message.clone(), position: position.clone() });
            }
        };
        let mut chosen = choose(vms, selection)?;
        chosen.sort_by(|a, b| a.vm.attribute.cmp(&b.vm.attribute));
        for fake in &chosen {
            self.store.instantiate(fake);
        }
        Ok(chosen.into_iter().map(|fake| fake.vm).collect())
    }

    /// Like `--keep-going`: what can be built is, and the first failure is told.
    fn build(&mut self, drvs: &[StorePath], progress: &ProgressSink) -> Result<(), BuildError> {
        let expected = drvs.len() as u64;
        let mut first_failure = Ok(());
        for (done, drv) in (1..).zip(drvs) {
            progress(NixProgress::BuildStarted { drv: drv.to_string() });
            self.builds.push(drv.clone());
            first_failure = first_failure.and(self.store.build(drv));
            progress(NixProgress::Builds { done, expected });
        }
        first_failure
    }
}

/// Configurations are those of its vms that come from there.
fn choose(vms: Vec<FakeVm>, selection: Selection) -> Result<Vec<FakeVm>, EvaluateError> {
    let (output, names) = match selection {
        Selection::All => return Ok(vms),
        Selection::Named(names) => (FlakeOutput::Microvms, names),
        Selection::Configurations(names) => (FlakeOutput::Configurations, names),
    };
    let is_of = |fake: &FakeVm| output == FlakeOutput::Microvms || fake.vm.output == output;
    let missing = |name: &&String| !vms.iter().any(|fake| is_of(fake) && fake.vm.attribute == **name);
    if let Some(attribute) = names.iter().find(missing).cloned() {
        return Err(EvaluateError::NoSuchVm { output, attribute });
    }
    Ok(vms.into_iter().filter(|fake| is_of(fake) && names.contains(&fake.vm.attribute)).collect())
}

/// A path's record, the same for the same path.
fn record(path: &StorePath, references: &[StorePath]) -> PathRecord {
    PathRecord {
        path: path.clone(),
        nar_hash: fake_hash(path.basename()),
        nar_size: 1000 + path.basename().len() as u64,
        references: references.iter().cloned().collect(),
    }
}

fn ready<'a, T: Send + 'a>(value: T) -> BoxFuture<'a, T> {
    Box::pin(std::future::ready(value))
}

impl FlakeEvaluator for FakeNix {
    fn evaluate(
        &self,
        source: LockedSource,
        selection: Selection,
        _progress: ProgressSink,
    ) -> BoxFuture<'_, Result<Vec<EvaluatedVm>, EvaluateError>> {
        ready(self.state().evaluate(&source.path, selection))
    }

    fn fingerprint(&self) -> Sha256Hash {
        fake_hash("the fake evaluator")
    }
}

impl NixStore for FakeNix {
    fn build(&self, drvs: Vec<StorePath>, progress: ProgressSink) -> BoxFuture<'_, Result<(), BuildError>> {
        ready(self.state().build(&drvs, &progress))
    }

    fn missing(&self, paths: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<StorePath>, NixCommandError>> {
        let state = self.state();
        let missing = paths.into_iter().filter(|path| !state.store.has(path)).collect();
        ready(Ok(missing))
    }

    fn nar_hash(&self, path: StorePath) -> BoxFuture<'_, Result<Option<Sha256Hash>, NixCommandError>> {
        ready(Ok(self.state().store.nar_hash(&path)))
    }

    fn closures(&self, roots: Vec<StorePath>) -> BoxFuture<'_, Result<Vec<Manifest>, ClosureError>> {
        let state = self.state();
        ready(roots.into_iter().map(|root| state.store.closure(root)).collect())
    }

    fn check_program(&self, path: StorePath, below: &'static str) -> BoxFuture<'_, Result<(), ProgramError>> {
        let is_there = self.state().store.has_file(&path, below);
        ready(if is_there { Ok(()) } else { Err(ProgramError::Missing) })
    }

    fn add_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>> {
        let store = &mut self.state().store;
        ready(roots.into_iter().try_for_each(|(name, path)| store.add_root(name, path)))
    }

    fn reserve_roots(&self, roots: Vec<(RootName, StorePath)>) -> BoxFuture<'_, Result<(), RootError>> {
        let store = &mut self.state().store;
        ready(roots.into_iter().try_for_each(|(name, path)| store.reserve_root(name, path)))
    }

    fn share_root(
        &self,
        name: RootName,
        path: StorePath,
        holder: RootName,
    ) -> BoxFuture<'_, Result<Sharing, RootError>> {
        ready(self.state().store.share_root(name, path, &holder))
    }

    fn remove_root(&self, name: RootName) -> BoxFuture<'_, Result<(), RootError>> {
        ready(self.state().store.remove_root(&name))
    }

    fn roots(&self) -> BoxFuture<'_, Result<Vec<(RootName, StorePath)>, RootError>> {
        let roots = self.state().store.roots.clone();
        ready(Ok(roots.into_iter().collect()))
    }
}

#[cfg(test)]
mod tests;
