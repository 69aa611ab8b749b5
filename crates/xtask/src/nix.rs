//! `nix`: everything of this project that is written in Nix.

use std::path::PathBuf;
use std::process::{Command, ExitCode};

use anyhow::Context as _;

/// The scenarios in which our Nix is used.
const SCENARIOS: [&str; 5] =
    ["nix_evaluates", "plain_microvm_nix", "flake_app_deploys", "profiles_boot", "nixos_tests"];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A checkout of nix-community/nixpkgs.lib; without it nothing is evaluated, and that is said
    #[arg(long, value_name = "DIR")]
    lib: Option<PathBuf>,
    /// A checkout of microvm-nix/microvm.nix, likewise
    #[arg(long, value_name = "DIR")]
    microvm: Option<PathBuf>,
    /// Write the snapshots and the options' pages, instead of comparing them
    #[arg(long)]
    update: bool,
}

/// Runs this program again for the scenarios, which take what they need from the environment.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let scenarios = if arguments.update { &SCENARIOS[..1] } else { &SCENARIOS[..] };
    let mut e2e = Command::new(std::env::current_exe().context("where is this program?")?);
    e2e.arg("e2e").args(scenarios);
    let checkouts = [("BLIXARD_NIXPKGS_LIB", &arguments.lib), ("BLIXARD_MICROVM_NIX", &arguments.microvm)];
    for (variable, folder) in checkouts {
        if let Some(folder) = folder {
            let folder =
                folder.canonicalize().with_context(|| format!("{} is not there", folder.display()))?;
            e2e.env(variable, folder);
        }
    }
    if arguments.update {
        e2e.env("BLIXARD_UPDATE_SNAPSHOTS", "1");
    }
    let status = e2e.status().context("cannot start the scenarios")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
