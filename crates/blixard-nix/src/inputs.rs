//! Fetches the locked inputs of a flake that the store lacks.
//!
//! Owns: which inputs a lock file names, and the one process that has a network. Refuses to know: what a
//! flake does with its inputs; evaluation finds them in the store by their hashes.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Component, Path};

use blixard_core::ports::confined::LimitReached;
use blixard_core::ports::nix::{EvaluateError, LockedSource, NixCommandError, NixProgress, ProgressSink};
use blixard_types::{STORE_DIR, Sha256Hash, StorePath};
use rustix::fs::{CWD, Mode, OFlags, openat};
use serde_json::Value;

use crate::command::{Cell, NixCommand};
use crate::internal_json::Interpreter;
use crate::query::StoreQueries;
use crate::reference::{flake_reference, lock_arguments};

/// Lock files have some hundred bytes for each input.
const LOCK_MAX: u64 = 16 << 20;

/// Has every locked input in the store, by fetching if need be.
pub(crate) async fn provide(
    nix: &Path,
    cell: &Cell,
    queries: StoreQueries<'_>,
    source: &LockedSource,
    progress: &ProgressSink,
) -> Result<(), EvaluateError> {
    let lock = read_lock(source);
    // A lock file that cannot be read is the evaluation's to complain of.
    let Some(lock) = lock.ok().and_then(|lock| serde_json::from_slice::<Value>(&lock).ok()) else {
        return Ok(());
    };
    let missing = queries.missing(locked_inputs(&lock)).await?;
    if missing.is_empty() {
        return Ok(());
    }
    progress(NixProgress::Fetching { inputs: missing.len() as u64 });
    fetch(nix, cell, source, progress).await
}

/// Where the inputs of a lock file are in the store, each once. Those within the flake's own tree have no place
/// of their own.
fn locked_inputs(lock: &Value) -> Vec<StorePath> {
    let nodes = lock.get("nodes").and_then(Value::as_object);
    let path = |node: &Value| {
        if node.get("parent").is_some() {
            return None;
        }
        let hash = node.get("locked")?.get("narHash")?.as_str()?;
        StorePath::of_source(hash.parse::<Sha256Hash>().ok()?).ok()
    };
    let mut paths: Vec<StorePath> =
        nodes.into_iter().flat_map(|nodes| nodes.values()).filter_map(path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Reads the flake's lock file. What is in the tree is a stranger's: no link in it is followed.
fn read_lock(source: &LockedSource) -> io::Result<Vec<u8>> {
    match &source.lock {
        Some(lock) => read_below(Path::new(STORE_DIR), Path::new(lock.basename())),
        None => read_below(source.path.as_path(), &Path::new(&source.subdir).join("flake.lock")),
    }
}

/// Opens one name after another, because `openat2`, which could do it at once, is refused to a service with
/// `RestrictSUIDSGID=`.
fn read_below(folder: &Path, file: &Path) -> io::Result<Vec<u8>> {
    let reached = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let mut folder = openat(CWD, folder, reached, Mode::empty())?;
    let mut names = file.components().peekable();
    while let Some(name) = names.next() {
        let name = match name {
            Component::Normal(name) => name,
            Component::CurDir => continue,
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        };
        if names.peek().is_some() {
            folder = openat(&folder, name, reached, Mode::empty())?;
            continue;
        }
        let file = openat(&folder, name, OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?;
        let mut bytes = Vec::new();
        File::from(file).take(LOCK_MAX).read_to_end(&mut bytes)?;
        return Ok(bytes);
    }
    Err(io::ErrorKind::InvalidInput.into())
}

async fn fetch(
    nix: &Path,
    cell: &Cell,
    source: &LockedSource,
    progress: &ProgressSink,
) -> Result<(), EvaluateError> {
    let command = NixCommand::new(nix, "flake archive")
        .args(["flake", "archive", &flake_reference(source)])
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(["--log-format", "internal-json", "--no-write-lock-file"])
        .args(lock_arguments(source))
        // A flake may ask for settings.
        .args(["--option", "accept-flake-config", "false"]);
    let mut said = Interpreter::default();
    let finished = command
        .run_confined(cell, |line| {
            if let Some(told @ NixProgress::Message { .. }) = said.line(line) {
                progress(told);
            }
        })
        .await
        .map_err(stopped)?;
    if finished.status.success() {
        return Ok(());
    }
    let words = said.faults().first().map_or_else(|| said.last_words(), |fault| fault.message.clone());
    Err(EvaluateError::Fetch { message: words })
}

fn stopped(error: NixCommandError) -> EvaluateError {
    match error {
        NixCommandError::Limit { limit: LimitReached::Time(limit), .. } => {
            EvaluateError::FetchTimeLimit { seconds: limit / 1000 }
        }
        other => EvaluateError::Command(other),
    }
}

#[cfg(test)]
mod tests;
