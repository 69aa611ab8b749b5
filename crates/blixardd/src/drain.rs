//! `blixardd drain`: what `blixard-drain.service` runs before the machine goes down.
//!
//! Owns: that every guest on this machine is asked to shut down, all at once, and that the daemon, which goes on
//! meanwhile and renews the host's lease, takes no guest's end for a failure and starts none again. Refuses
//! to know: the cluster. It needs no daemon: one that hangs is no reason to pull the plug of a guest.

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use blixard_core::ports::units::{Asked, GracefulStop, UnitError, UnitManager as _};
use blixard_core::unit::graceful_stop;
use blixard_systemd::Systemd;
use blixard_types::chain;
use blixard_types::unit::GOING_DOWN;
use clap::Args;
use futures_util::future::join_all;

use crate::{fail, notify};

/// What is to be done.
#[derive(Debug, Args)]
pub(crate) struct DrainArguments {
    /// The machine is up: guests may start.
    #[arg(long)]
    up: bool,
}

/// Why guests were not asked.
#[derive(Debug, thiserror::Error)]
enum DrainError {
    /// The daemon would start them again.
    #[error("cannot tell the daemon that the machine goes down")]
    Mark(#[source] io::Error),
    /// systemd.
    #[error("cannot ask the guests of this machine to shut down")]
    Units(#[from] UnitError),
    /// No runtime.
    #[error("cannot begin")]
    Begin(#[source] io::Error),
}

/// Shuts all guests of this machine down, or lets them start again.
pub(crate) fn main(arguments: &DrainArguments) -> ExitCode {
    tracing_subscriber::fmt().with_ansi(false).without_time().init();
    let done = if arguments.up { mark(Machine::Up) } else { shut_down() };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(&error, 1),
    }
}

/// What is left to do once the last guest has had its time.
const MARGIN: Duration = Duration::from_secs(10);

/// What the machine is about to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Machine {
    Up,
    GoesDown,
}

fn mark(machine: Machine) -> Result<(), DrainError> {
    let path = Path::new(GOING_DOWN);
    let marked = match machine {
        Machine::Up => match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        },
        Machine::GoesDown => std::fs::write(path, ""),
    };
    marked.map_err(DrainError::Mark)
}

fn shut_down() -> Result<(), DrainError> {
    // Before the first guest ends, so that no plan is made that takes it for a failure.
    mark(Machine::GoesDown)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.map_err(DrainError::Begin)?.block_on(ask_all())
}

async fn ask_all() -> Result<(), DrainError> {
    let systemd = Systemd::connect().await?;
    let units = systemd.observe().await?;
    let asks: Vec<GracefulStop> = units.iter().filter_map(graceful_stop).collect();
    if let Some(longest) = longest(&asks) {
        notify::needs(longest);
    }
    let asked = asks.into_iter().map(|ask| {
        let systemd = &systemd;
        async move {
            let run = ask.run.as_str();
            tracing::info!(unit = run, limit_ms = ask.timeout_ms, "asking the guest to shut down");
            match systemd.shutdown_without_unit(&ask).await {
                Ok(Asked::Ended) => tracing::info!(unit = run, "the guest has shut down"),
                Ok(Asked::Runs { reason }) => tracing::warn!(unit = run, reason, "the guest is killed"),
                Err(error) => tracing::warn!(unit = run, error = chain(&error), "the guest cannot be asked"),
            }
        }
    });
    join_all(asked).await;
    Ok(())
}

/// What all of them may take together; they are asked at once. The unit's own limit is for guests that nobody has
/// given more time.
fn longest(asks: &[GracefulStop]) -> Option<Duration> {
    let longest = asks.iter().map(|ask| ask.timeout_ms).max()?;
    Some(Duration::from_millis(longest).saturating_add(MARGIN))
}
