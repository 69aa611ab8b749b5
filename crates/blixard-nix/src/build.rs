//! Builds derivations.
//!
//! Owns: the process that builds, and which of its errors is told. Refuses to know: what is built.

use std::path::Path;

use blixard_core::ports::nix::{BuildError, ProgressSink};
use blixard_types::StorePath;

use crate::batches::batches;
use crate::command::NixCommand;
use crate::internal_json::{Fault, Interpreter};
use crate::query::StoreQueries;

/// Where the words that tell what failed end, and lists begin that are told otherwise.
const LISTS: [&str; 2] = ["Output paths:", "Last "];

/// Builds all outputs of these derivations. What one failure does not prevent is built all the same.
pub(crate) async fn build(
    nix: &Path,
    queries: StoreQueries<'_>,
    mut drvs: Vec<StorePath>,
    progress: &ProgressSink,
) -> Result<(), BuildError> {
    drvs.sort_unstable();
    drvs.dedup();
    let mut first_failure = Ok(());
    for batch in batches(&drvs, StorePath::as_str) {
        let built = build_batch(nix, queries, batch, progress).await;
        first_failure = first_failure.and(built);
    }
    first_failure
}

async fn build_batch(
    nix: &Path,
    queries: StoreQueries<'_>,
    drvs: &[StorePath],
    progress: &ProgressSink,
) -> Result<(), BuildError> {
    let command = NixCommand::new(nix, "build")
        .args(["build", "--no-link", "--keep-going"])
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(["--log-format", "internal-json"])
        .args(drvs.iter().map(|drv| format!("{drv}^*")));
    let mut said = Interpreter::default();
    let finished = command
        .run(|line| {
            if let Some(told) = said.line(line) {
                progress(told);
            }
        })
        .await?;
    if !finished.status.success() {
        return Err(failure(&said).unwrap_or_else(|| {
            command.failed(format!("{}: {}", finished.status, said.last_words())).into()
        }));
    }
    check_outputs(queries, &command, drvs).await
}

/// Success is what the store says it is.
async fn check_outputs(
    queries: StoreQueries<'_>,
    command: &NixCommand,
    drvs: &[StorePath],
) -> Result<(), BuildError> {
    let outputs = queries.outputs(drvs).await?;
    match queries.missing(outputs).await?.first() {
        Some(path) => {
            let reason = format!("it succeeded, but {path} is not in the store");
            Err(command.unexpected(reason).into())
        }
        None => Ok(()),
    }
}

/// The first error that speaks of a derivation: with `--keep-going`, those that need it come later.
fn failure(said: &Interpreter) -> Option<BuildError> {
    said.faults().iter().find_map(|fault| {
        let drv = fault.drv.as_ref()?;
        Some(BuildError::Failed { drv: drv.to_string(), message: words(fault), log_tail: said.log_tail(drv) })
    })
}

fn words(fault: &Fault) -> String {
    let told = |line: &&str| !LISTS.iter().any(|list| line.starts_with(list));
    let lines: Vec<&str> = fault.message.lines().take_while(told).collect();
    lines.join("\n")
}

#[cfg(test)]
mod tests;
