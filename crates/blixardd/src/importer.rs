//! The daemon's importer: what has to be root to put paths into the store, as a process of its own.

use std::path::PathBuf;
use std::process::ExitCode;

use blixard_closure::{ImporterOptions, isolate, run_importer};
use clap::Args;

use crate::fail;

/// What an importer is told.
#[derive(Debug, Args)]
pub(crate) struct ImportArguments {
    /// The program `nix-store`.
    #[arg(long, default_value = "nix-store")]
    nix_store: PathBuf,
    /// The program `nix-daemon`.
    #[arg(long, default_value = "nix-daemon")]
    nix_daemon: PathBuf,
}

/// Runs an importer to its end.
pub(crate) fn main(arguments: &ImportArguments) -> ExitCode {
    if let Err(error) = isolate() {
        return fail(&error, 1);
    }
    let ImportArguments { nix_store, nix_daemon } = arguments;
    let options = ImporterOptions { nix_store: nix_store.clone(), nix_daemon: nix_daemon.clone() };
    match run_importer(&options, std::io::stdin().lock(), std::io::stdout().lock()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}
