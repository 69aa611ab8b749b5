//! A workbench for closures: serves and fetches them without a cluster, and lies on request.
//!
//! Scenarios and benchmarks run it on test hosts, where it uses the very code of the daemon: its server,
//! its fetcher, its importer. What it adds are peers by address, and ones that cannot be trusted.

#![allow(clippy::print_stdout, reason = "its output is for the scenario that runs it")]

mod fetch;
mod lie;
mod log_bytes;
mod make;
mod serve;
mod store;

use std::path::PathBuf;
use std::process::ExitCode;

use blixard_closure::{ImporterOptions, isolate, run_importer};
use blixard_types::StorePath;
use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Prints the reference of a path's closure as JSON.
    Reference {
        /// The root.
        path: StorePath,
    },
    /// Makes a closure in the store, of the bytes that a seed gives, and prints its root.
    Make(make::MakeArguments),
    /// Prints what a deployed vm costs in the log, beyond its spec.
    LogBytes {
        /// Paths of its closure.
        #[arg(long)]
        paths: u32,
    },
    /// Serves what the roots below gcroots/blixard keep.
    Serve(serve::ServeArguments),
    /// Fetches a closure.
    Fetch(fetch::FetchArguments),
    /// The importer, which `fetch` starts.
    Import,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments = Arguments::parse();
    if matches!(arguments.command, Command::Import) {
        return import();
    }
    tracing_subscriber::fmt().with_ansi(false).without_time().with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match arguments.command {
            Command::Reference { path } => println!("{}", store::reference(path).await?),
            Command::Make(arguments) => make::run(&arguments)?,
            Command::LogBytes { paths } => println!("{}", log_bytes::measure(paths)?),
            Command::Serve(arguments) => serve::run(arguments).await?,
            Command::Fetch(arguments) => return fetch::run(arguments).await,
            Command::Import => {}
        }
        Ok(ExitCode::SUCCESS)
    })
}

/// As `blixardd import` does it.
fn import() -> anyhow::Result<ExitCode> {
    isolate()?;
    let options =
        ImporterOptions { nix_store: PathBuf::from("nix-store"), nix_daemon: PathBuf::from("nix-daemon") };
    run_importer(&options, std::io::stdin().lock(), std::io::stdout().lock())?;
    Ok(ExitCode::SUCCESS)
}
