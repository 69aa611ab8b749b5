//! The fake's store: paths, recipes, roots.
//!
//! Owns: validity, closures, and garbage. Refuses to know: flakes.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use blixard_core::ports::nix::{BuildError, ClosureError, RootError, RootName, Sharing};
use blixard_types::{Manifest, PathRecord, STORE_DIR, Sha256Hash, StorePath};

use super::{FakeVm, record};

/// Nix's digits in base 32.
const DIGITS: &[u8; 32] = b"0123456789abcdfghijklmnpqrsvwxyz";

/// Folders within folders that a root's name may have, itself included.
const DEPTH_MAX: usize = 8;

/// What building a derivation does.
#[derive(Debug, Clone)]
pub(super) enum Recipe {
    /// Makes these.
    Makes(Vec<(PathRecord, Vec<String>)>),
    /// Fails.
    Fails {
        /// What Nix would say.
        message: String,
        /// The end of the log.
        log_tail: Vec<String>,
    },
}

#[derive(Debug, Default)]
pub(super) struct Store {
    paths: BTreeMap<StorePath, PathRecord>,
    files: BTreeMap<StorePath, BTreeSet<String>>,
    pub(super) recipes: BTreeMap<StorePath, Recipe>,
    pub(super) roots: BTreeMap<RootName, StorePath>,
}

impl Store {
    pub(super) fn put(&mut self, record: PathRecord, files: &[String]) {
        self.files.insert(record.path.clone(), files.iter().cloned().collect());
        self.paths.insert(record.path.clone(), record);
    }

    pub(super) fn has(&self, path: &StorePath) -> bool {
        self.paths.contains_key(path)
    }

    pub(super) fn nar_hash(&self, path: &StorePath) -> Option<Sha256Hash> {
        self.paths.get(path).map(|record| record.nar_hash)
    }

    pub(super) fn has_file(&self, path: &StorePath, below: &str) -> bool {
        self.files.get(path).is_some_and(|files| files.contains(below))
    }

    /// Puts a vm's derivation into the store, and what it makes into the recipes unless it is to fail.
    pub(super) fn instantiate(&mut self, fake: &FakeVm) {
        self.put(record(&fake.vm.drv, &[]), &[]);
        let needed = fake.needs.iter().map(|path| (record(path, &[]), Vec::new()));
        let runner = (record(&fake.vm.out, &fake.needs), fake.files.clone());
        self.recipes
            .entry(fake.vm.drv.clone())
            .or_insert_with(|| Recipe::Makes(needed.chain([runner]).collect()));
    }

    pub(super) fn build(&mut self, drv: &StorePath) -> Result<(), BuildError> {
        let failed = |message: &str, log_tail: Vec<String>| BuildError::Failed {
            drv: drv.to_string(),
            message: message.to_owned(),
            log_tail,
        };
        let recipe = self.recipes.get(drv).filter(|_| self.has(drv)).cloned();
        match recipe {
            None => Err(failed("the derivation is not in the store", Vec::new())),
            Some(Recipe::Fails { message, log_tail }) => Err(failed(&message, log_tail)),
            Some(Recipe::Makes(made)) => {
                for (record, files) in made {
                    if !self.has(&record.path) {
                        self.put(record, &files);
                    }
                }
                Ok(())
            }
        }
    }

    pub(super) fn closure(&self, root: StorePath) -> Result<Manifest, ClosureError> {
        if !self.has(&root) {
            return Err(ClosureError::NotValid { path: root });
        }
        let needed = self.needed_by([&root]);
        let records = needed.iter().filter_map(|path| self.paths.get(path)).cloned();
        Manifest::new(root.clone(), records.collect()).map_err(|cause| ClosureError::Manifest { root, cause })
    }

    fn needed_by<'a>(&'a self, roots: impl IntoIterator<Item = &'a StorePath>) -> BTreeSet<StorePath> {
        let mut needed = BTreeSet::new();
        let mut open: Vec<&StorePath> = roots.into_iter().collect();
        while let Some(path) = open.pop() {
            if let Some(record) = self.paths.get(path)
                && needed.insert(path.clone())
            {
                open.extend(&record.references);
            }
        }
        needed
    }

    pub(super) fn collect_garbage(&mut self) -> BTreeSet<StorePath> {
        let kept = self.needed_by(self.roots.values());
        let garbage: BTreeSet<StorePath> =
            self.paths.keys().filter(|path| !kept.contains(*path)).cloned().collect();
        self.paths.retain(|path, _| kept.contains(path));
        self.files.retain(|path, _| kept.contains(path));
        garbage
    }

    pub(super) fn add_root(&mut self, name: RootName, path: StorePath) -> Result<(), RootError> {
        let refused = |kind: io::ErrorKind| root_error("add", &name, kind);
        check_name(&name).map_err(refused)?;
        if !self.has(&path) {
            return Err(refused(io::ErrorKind::NotFound));
        }
        let within = |outer: &RootName, inner: &RootName| inner.0.starts_with(&format!("{}/", outer.0));
        if self.roots.keys().any(|other| within(other, &name) || within(&name, other)) {
            return Err(refused(io::ErrorKind::NotADirectory));
        }
        self.roots.insert(name, path);
        Ok(())
    }

    pub(super) fn reserve_root(&mut self, name: RootName, path: StorePath) -> Result<(), RootError> {
        check_name(&name).map_err(|kind| root_error("add", &name, kind))?;
        self.roots.insert(name, path);
        Ok(())
    }

    pub(super) fn share_root(
        &mut self,
        name: RootName,
        path: StorePath,
        holder: &RootName,
    ) -> Result<Sharing, RootError> {
        check_name(holder).map_err(|kind| root_error("read", holder, kind))?;
        if self.roots.get(holder) != Some(&path) {
            return Ok(Sharing::NotHeld);
        }
        self.add_root(name, path)?;
        Ok(Sharing::Shared)
    }

    pub(super) fn remove_root(&mut self, name: &RootName) -> Result<(), RootError> {
        check_name(name).map_err(|kind| root_error("remove", name, kind))?;
        self.roots.remove(name);
        Ok(())
    }
}

/// The rule of the real folder of roots.
fn check_name(name: &RootName) -> Result<(), io::ErrorKind> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"-_.".contains(&byte);
    let is_safe =
        |part: &str| (1..=255).contains(&part.len()) && !part.starts_with('.') && part.bytes().all(allowed);
    if name.0.split('/').all(is_safe) && name.0.split('/').count() <= DEPTH_MAX {
        Ok(())
    } else {
        Err(io::ErrorKind::InvalidInput)
    }
}

fn root_error(action: &'static str, name: &RootName, kind: io::ErrorKind) -> RootError {
    RootError { action, root: name.0.clone(), cause: kind.into() }
}

/// A store path with this name, the same for the same name.
///
/// # Panics
/// When the name is not one that a store path can have.
pub fn fake_store_path(name: &str) -> StorePath {
    let hash = fake_hash(name);
    let digits: String = hash
        .0
        .iter()
        .filter_map(|byte| DIGITS.get(usize::from(byte % 32)))
        .map(|digit| char::from(*digit))
        .collect();
    let text = format!("{STORE_DIR}/{digits}-{name}");
    match text.parse() {
        Ok(path) => path,
        Err(error) => unreachable!("a test named a path {name:?}: {error}"),
    }
}

/// A hash, the same for the same text.
pub fn fake_hash(text: &str) -> Sha256Hash {
    Sha256Hash::of(text.as_bytes())
}
