//! Makes a garbage collection that is already running respect a new root.
//!
//! Owns: that race. Refuses to know: where roots are.
//!
//! A collector reads the folder of roots once, at its start; a link made after that protects nothing
//! from it. But whoever registers a path as a temporary root is waited for, and the running collector
//! then keeps the path to its end; the next one sees the link. So, after the link is there, a process
//! registers the path and tells whether it is still valid. (`LocalStore::addTempRoot` in Nix's
//! `src/libstore/gc.cc`; the goal that finds a valid path calls it first.)

use std::io;
use std::path::Path;

use blixard_core::ports::nix::NixCommandError;
use blixard_types::StorePath;

use crate::batches::batches;
use crate::command::NixCommand;
use crate::internal_json::Interpreter;
use crate::query::StoreQueries;

/// The first of these paths that the store does not have: there is nothing to keep.
pub(crate) async fn first_gone(
    queries: StoreQueries<'_>,
    paths: Vec<StorePath>,
) -> io::Result<Option<StorePath>> {
    Ok(queries.missing(paths).await.map_err(io::Error::other)?.into_iter().next())
}

/// Registers the paths with a running collector, and checks that they are still there. One process does
/// for all of them.
pub(crate) async fn hold(nix: &Path, paths: &[StorePath]) -> io::Result<()> {
    for batch in batches(paths, StorePath::as_str) {
        hold_batch(nix, batch).await?;
    }
    Ok(())
}

async fn hold_batch(nix: &Path, paths: &[StorePath]) -> io::Result<()> {
    let command = NixCommand::new(nix, "build")
        .args(["build", "--no-link"])
        .args(paths.iter().map(StorePath::as_str))
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(["--log-format", "internal-json"])
        // What is gone is not fetched again.
        .args(["--option", "substitute", "false"]);
    let mut said = Interpreter::default();
    let finished = command
        .run(|line| {
            said.line(line);
        })
        .await
        .map_err(io::Error::other)?;
    if finished.status.success() {
        return Ok(());
    }
    let failed: NixCommandError = command.failed(format!("{}: {}", finished.status, said.last_words()));
    Err(io::Error::other(failed))
}

pub(crate) fn gone(path: &StorePath) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{path} is not in the store"))
}
