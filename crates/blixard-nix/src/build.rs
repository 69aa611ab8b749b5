//! Builds derivations.
//!
//! Owns: the process that builds, and which of its errors is told. Refuses to know: what is built.

use std::path::Path;

use blixard_core::ports::confined::LimitReached;
use blixard_core::ports::nix::{BuildError, NixCommandError, ProgressSink};
use blixard_types::StorePath;

use crate::batches::batches;
use crate::cli::BuildLimits;
use crate::command::{Cell, NixCommand};
use crate::internal_json::{Fault, Interpreter};
use crate::query::StoreQueries;

/// Where the words that tell what failed end, and lists begin that are told otherwise.
const LISTS: [&str; 2] = ["Output paths:", "Last "];

/// The confined client that asks nix-daemon to build, and what it asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Client<'a> {
    pub(crate) nix: &'a Path,
    pub(crate) cell: &'a Cell,
    pub(crate) limits: &'a BuildLimits,
}

/// Builds all outputs of these derivations. What one failure does not prevent is built all the same.
pub(crate) async fn build(
    client: Client<'_>,
    queries: StoreQueries<'_>,
    mut drvs: Vec<StorePath>,
    progress: &ProgressSink,
) -> Result<(), BuildError> {
    drvs.sort_unstable();
    drvs.dedup();
    let mut first_failure = Ok(());
    for batch in batches(&drvs, StorePath::as_str) {
        let built = build_batch(client, queries, batch, progress).await;
        first_failure = first_failure.and(built);
    }
    first_failure
}

async fn build_batch(
    client: Client<'_>,
    queries: StoreQueries<'_>,
    drvs: &[StorePath],
    progress: &ProgressSink,
) -> Result<(), BuildError> {
    let command = NixCommand::new(client.nix, "build")
        .args(["build", "--no-link", "--keep-going"])
        .args(settings(client.limits))
        .args(["--extra-experimental-features", "nix-command flakes"])
        .args(["--log-format", "internal-json"])
        .args(drvs.iter().map(|drv| format!("{drv}^*")));
    let mut said = Interpreter::default();
    let finished = command
        .run_confined(client.cell, |line| {
            if let Some(told) = said.line(line) {
                progress(told);
            }
        })
        .await
        .map_err(command_error)?;
    if !finished.status.success() {
        return Err(failure(&said).unwrap_or_else(|| {
            command.failed(format!("{}: {}", finished.status, said.last_words())).into()
        }));
    }
    check_outputs(queries, &command, drvs).await
}

/// Those of Nix's settings that a client which nix-daemon does not trust may choose.
fn settings(limits: &BuildLimits) -> Vec<String> {
    let mut settings = vec![
        "--timeout".to_owned(),
        limits.timeout_s.to_string(),
        "--max-silent-time".to_owned(),
        limits.max_silent_s.to_string(),
    ];
    for (name, value) in [("--max-jobs", limits.max_jobs), ("--cores", limits.cores)] {
        settings.extend(value.into_iter().flat_map(|value| [name.to_owned(), value.to_string()]));
    }
    settings
}

/// What the client prints are the builders' logs.
fn command_error(error: NixCommandError) -> BuildError {
    match error {
        NixCommandError::Limit { limit: LimitReached::Output(limit), .. } => {
            BuildError::OutputLimit { mib: limit >> 20 }
        }
        other => BuildError::Command(other),
    }
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
        // "building '…' timed out after 5 seconds", "… of silence".
        if fault.message.contains(" timed out after ") {
            return Some(BuildError::TimeLimit { drv: drv.to_string(), message: words(fault) });
        }
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
