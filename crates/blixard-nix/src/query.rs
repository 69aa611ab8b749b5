//! Asks the store by `nix-store`, whose plain output is the same in every version of Nix.
//!
//! Owns: one function for each question. Refuses to know: why it is asked.

use std::collections::BTreeSet;
use std::path::Path;

use blixard_core::ports::nix::NixCommandError;
use blixard_types::{Sha256Hash, StorePath};

use crate::batches::batches;
use crate::command::NixCommand;
use crate::internal_json::Interpreter;

/// The store, by the program `nix-store`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct StoreQueries<'a> {
    nix_store: &'a Path,
}

impl<'a> StoreQueries<'a> {
    pub(crate) fn new(nix_store: &'a Path) -> Self {
        Self { nix_store }
    }

    /// Those of the paths that the store does not have, in their order.
    pub(crate) async fn missing(self, paths: Vec<StorePath>) -> Result<Vec<StorePath>, NixCommandError> {
        let mut missing = BTreeSet::new();
        for batch in batches(&paths, StorePath::as_str) {
            let command = self
                .command("--check-validity")
                .args(["--check-validity", "--print-invalid"])
                .args(batch.iter().map(StorePath::as_str));
            missing.extend(store_paths(&command, &succeed(&command).await?)?);
        }
        Ok(paths.into_iter().filter(|path| missing.contains(path)).collect())
    }

    pub(crate) async fn has(self, path: &StorePath) -> Result<bool, NixCommandError> {
        Ok(self.missing(vec![path.clone()]).await?.is_empty())
    }

    /// The NAR hash of a path that the store has.
    pub(crate) async fn nar_hash(self, path: &StorePath) -> Result<Sha256Hash, NixCommandError> {
        let command = self.command("--query --hash").args(["--query", "--hash", path.as_str()]);
        let output = succeed(&command).await?;
        output.trim().parse().map_err(|cause: blixard_types::HashError| command.unexpected(cause.to_string()))
    }

    /// All that these paths need, themselves included.
    pub(crate) async fn requisites(self, roots: &[StorePath]) -> Result<Vec<StorePath>, NixCommandError> {
        let command = self
            .command("--query --requisites")
            .args(["--query", "--requisites"])
            .args(roots.iter().map(StorePath::as_str));
        store_paths(&command, &succeed(&command).await?)
    }

    /// All outputs of these derivations.
    pub(crate) async fn outputs(self, drvs: &[StorePath]) -> Result<Vec<StorePath>, NixCommandError> {
        let command = self
            .command("--query --outputs")
            .args(["--query", "--outputs"])
            .args(drvs.iter().map(StorePath::as_str));
        store_paths(&command, &succeed(&command).await?)
    }

    /// The store's records of these paths, as text. Of none it would print all that it has.
    pub(crate) async fn dump_db(self, paths: &[StorePath]) -> Result<String, NixCommandError> {
        if paths.is_empty() {
            return Ok(String::new());
        }
        let command = self.command("--dump-db").args(["--dump-db"]).args(paths.iter().map(StorePath::as_str));
        succeed(&command).await
    }

    /// The store's records of all that it has, as text.
    pub(crate) async fn dump_all(self) -> Result<String, NixCommandError> {
        succeed(&self.command("--dump-db").args(["--dump-db"])).await
    }

    /// What nothing needs; also what is only in the way, and no path.
    pub(crate) async fn dead(self) -> Result<Vec<StorePath>, NixCommandError> {
        let command = self.command("--gc --print-dead").by_daemon().args(["--gc", "--print-dead"]);
        Ok(succeed(&command).await?.lines().filter_map(|line| line.parse().ok()).collect())
    }

    /// All roots that the collector sees, with what they lead to.
    pub(crate) async fn all_roots(self) -> Result<Vec<(String, StorePath)>, NixCommandError> {
        let command = self.command("--gc --print-roots").by_daemon().args(["--gc", "--print-roots"]);
        let root = |line: &str| {
            let (link, path) = line.rsplit_once(" -> ")?;
            Some((link.to_owned(), path.parse().ok()?))
        };
        Ok(succeed(&command).await?.lines().filter_map(root).collect())
    }

    /// Collects.
    pub(crate) async fn collect(self) -> Result<(), NixCommandError> {
        succeed(&self.command("--gc").by_daemon().args(["--gc"])).await.map(drop)
    }

    fn command(self, verb: &str) -> NixCommand {
        NixCommand::new(self.nix_store, verb)
    }
}

/// Runs the command, which must succeed; gives its output.
async fn succeed(command: &NixCommand) -> Result<String, NixCommandError> {
    let mut said = Interpreter::default();
    let finished = command
        .run(|line| {
            said.line(line);
        })
        .await?;
    if !finished.status.success() {
        return Err(command.failed(format!("{}: {}", finished.status, said.last_words())));
    }
    String::from_utf8(finished.stdout).map_err(|cause| command.unexpected(cause.to_string()))
}

fn store_paths(command: &NixCommand, output: &str) -> Result<Vec<StorePath>, NixCommandError> {
    output
        .lines()
        .map(|line| {
            line.parse().map_err(|cause: blixard_types::StorePathError| command.unexpected(cause.to_string()))
        })
        .collect()
}
