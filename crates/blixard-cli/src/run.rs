//! From arguments to an exit code.
//!
//! Owns: the order parse → command → rendered error. Refuses to know: the process around it; arguments,
//! Nix and both streams are handed in, so that tests run exactly what `main` runs.

use std::ffi::OsString;
use std::io::Write;
use std::pin::Pin;

use clap::Parser as _;

use crate::args::Cli;
use crate::command;
use crate::command::Columns;
use crate::error::Failure;
use crate::flake::Nix;

/// Exit code of a command that did what was asked.
const DONE: u8 = 0;
/// Exit code of a command line that cannot be understood (clap's).
const USAGE: u8 = 2;

/// The world around a command.
pub(crate) struct World<'a> {
    /// For results.
    pub(crate) out: &'a mut dyn Write,
    /// For progress, warnings, errors.
    pub(crate) err: &'a mut dyn Write,
    /// How wide the terminal is that `err` is; absent if it is none.
    pub(crate) terminal: Option<Columns>,
    pub(crate) nix: Nix,
    /// Ready when the user has had enough. Not polled by commands that may simply be killed.
    pub(crate) interrupt: Pin<Box<dyn Future<Output = ()>>>,
}

/// Runs one command line, program name first.
pub(crate) async fn run(args: impl IntoIterator<Item = OsString>, mut world: World<'_>) -> u8 {
    let world = &mut world;
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(answer) => return tell(&answer, world),
    };
    let result = command::run(cli, world).await;
    match result.and_then(|()| Ok(world.out.flush()?)) {
        Ok(()) => DONE,
        // Whoever read has read enough: `blixard vm logs web | head`.
        Err(failure) if failure.is_closed_pipe() => DONE,
        Err(failure) => report(&failure, world),
    }
}

fn report(failure: &Failure, world: &mut World<'_>) -> u8 {
    // What was said before the failure comes first; if neither stream works, nothing can be said.
    let _ = world.out.flush();
    let _ = failure.render(world.err);
    failure.kind.exit_code()
}

/// Writes what clap has to say: help and version are results, the rest is a mistake.
fn tell(answer: &clap::Error, world: &mut World<'_>) -> u8 {
    let text = answer.render();
    if answer.use_stderr() {
        let _ = write!(world.err, "{text}");
        return USAGE;
    }
    let _ = write!(world.out, "{text}").and_then(|()| world.out.flush());
    DONE
}
