//! `blixardd`: the daemon. Parses, composes, runs, maps to an exit code; all else is in the crates below.

mod binary_cache;
mod cluster;
mod compose;
mod config;
mod disk;
mod drain;
mod facts;
mod file;
mod identity;
mod importer;
mod incoming;
mod join;
mod local;
mod notify;
mod recover;
mod servers;
mod socket;
mod system;

use std::error::Error;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tracing_subscriber::EnvFilter;

use crate::config::Config;

/// The daemon of Blixard: evaluates, builds, places and runs microVMs.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// The configuration; docs/blixardd.toml describes every key.
    #[arg(long, value_name = "FILE", default_value = "/etc/blixard/blixardd.toml")]
    config: PathBuf,
    /// Join the cluster that has made this token, unless this node is in it already.
    #[arg(long, value_name = "TOKEN")]
    join: Option<String>,
    /// Read the configuration, say what is wrong with it, and end.
    #[arg(long)]
    check_config: bool,
    #[command(subcommand)]
    part: Option<Part>,
}

/// Parts of the daemon that are processes of their own. The daemon starts those that are hidden, people do not.
#[derive(Debug, Subcommand)]
enum Part {
    /// Puts a closure into the store: orders on standard input, answers on standard output.
    #[command(hide = true)]
    Import(importer::ImportArguments),
    /// Asks all guests of this machine to shut down: what `blixard-drain.service` runs when it goes down.
    #[command(hide = true)]
    Drain(drain::DrainArguments),
    /// Lets this server go on alone when the others are lost for ever, or after its data was put back from a copy.
    ///
    /// The daemon must not run. Says what is lost and who is cut off; changes nothing without --confirm.
    Recover(recover::RecoverArguments),
}

/// The exit code for a configuration that cannot be used: systemd need not try again.
const EXIT_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match &arguments.part {
        Some(Part::Import(arguments)) => return importer::main(arguments),
        Some(Part::Drain(arguments)) => return drain::main(arguments),
        Some(Part::Recover(_)) | None => {}
    }
    let config = match Config::load(&arguments.config) {
        Ok(config) => config,
        Err(error) => return fail(&error, EXIT_CONFIG),
    };
    if arguments.check_config {
        return ExitCode::SUCCESS;
    }
    if let Some(Part::Recover(arguments)) = arguments.part {
        return recover::main(&config, &arguments);
    }
    let filter = EnvFilter::new(&config.log.filter);
    // The journal adds time and level; colours would only be in the way there.
    tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).without_time().init();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, 1),
    };
    match runtime.block_on(compose::run(config, arguments.join)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, if error.is_final() { EXIT_CONFIG } else { 1 }),
    }
}

/// Says what is wrong, with its causes, once.
fn fail(error: &dyn Error, code: u8) -> ExitCode {
    let mut out = std::io::stderr().lock();
    let _ = writeln!(out, "blixardd: error: {error}");
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = writeln!(out, "  caused by: {error}");
        cause = error.source();
    }
    ExitCode::from(code)
}
