//! Everything a developer runs: `cargo xtask help`.
//!
//! Owns the commands and how they report; what a test host is, and what a scenario does, is the test
//! kit's. Nothing here is part of a shipped binary.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a tool for the terminal, which runs programs and takes the time they need"
)]

mod bench;
mod demo;
mod nix;
mod step;
mod suite;
mod testhost;
mod tidy;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(
    name = "cargo xtask",
    about = "Everything a developer of Blixard runs",
    disable_version_flag = true
)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Check what can be checked without running: format, lints, tidy, documentation. Writes no source
    Verify,
    /// Format, and apply what clippy can fix by itself
    Fix,
    /// Check the rules of this project alone: headers, lengths, layers, tests, manifests
    Tidy,
    /// Run every test, then every end-to-end scenario (as root)
    Test,
    /// Run end-to-end scenarios on test hosts (as root); all of them without a name
    E2e {
        /// Names of scenarios
        scenarios: Vec<String>,
        /// List them instead
        #[arg(long)]
        list: bool,
    },
    /// Run simulations of a cluster with many seeds; `cargo xtask sim -- --help`
    Sim {
        /// Passed on: --seeds, --minutes, --shape, --seed, --broken
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Test hosts that stay up, to try things on (as root)
    #[command(subcommand)]
    Testhost(testhost::Command),
    /// Deploy two microVMs on a test host while you watch (as root)
    Demo {
        /// Leave the host up at the end
        #[arg(long)]
        keep: bool,
    },
    /// Check the flake, the modules and all other Nix of this project on a test host (as root)
    Nix(nix::Arguments),
    /// Run a benchmark beside its peer; the last line of the output is one JSON object
    Bench {
        /// Its name; without one, the benchmarks are listed
        name: Option<String>,
        /// Print nothing but the JSON object
        #[arg(long)]
        json: bool,
    },
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Verify => verify::verify(),
        Command::Fix => verify::fix(),
        Command::Tidy => verify::tidy(),
        Command::Test => suite::test(),
        Command::E2e { list: true, .. } => Ok(suite::list()),
        Command::E2e { scenarios, list: false } => suite::e2e(&scenarios),
        Command::Sim { arguments } => suite::sim(&arguments),
        Command::Testhost(command) => testhost::run(command),
        Command::Demo { keep } => demo::demo(keep),
        Command::Nix(arguments) => nix::run(&arguments),
        Command::Bench { name, json } => bench::bench(name.as_deref(), json),
    };
    match done {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
