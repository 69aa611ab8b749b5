//! From arguments to an exit code.
//!
//! Owns: the order parse → command → rendered error. Refuses to know: the process around it; arguments,
//! Nix and both streams are handed in, so that tests run exactly what `main` runs.

use std::ffi::OsString;
use std::io::Write;

use clap::Parser as _;

use crate::args::Cli;
use crate::command;
use crate::error::Failure;
use crate::flake::Nix;

/// Exit code of a command that did what was asked.
const DONE: u8 = 0;
/// Exit code of a command line that cannot be understood (clap's).
const USAGE: u8 = 2;

/// Where results and everything else go.
pub(crate) struct Terminal<'a> {
    /// Results.
    pub(crate) out: &'a mut dyn Write,
    /// Progress, warnings, errors.
    pub(crate) err: &'a mut dyn Write,
}

/// Runs one command line, program name first.
pub(crate) async fn run(
    args: impl IntoIterator<Item = OsString>,
    nix: &Nix,
    terminal: &mut Terminal<'_>,
) -> u8 {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(answer) => return tell(&answer, terminal),
    };
    let result = command::run(cli, nix, terminal).await;
    match result.and_then(|()| Ok(terminal.out.flush()?)) {
        Ok(()) => DONE,
        // Whoever read has read enough: `blixard vm logs web | head`.
        Err(failure) if failure.is_closed_pipe() => DONE,
        Err(failure) => report(&failure, terminal),
    }
}

fn report(failure: &Failure, terminal: &mut Terminal<'_>) -> u8 {
    // What was said before the failure comes first; if neither stream works, nothing can be said.
    let _ = terminal.out.flush();
    let _ = failure.render(terminal.err);
    failure.kind.exit_code()
}

/// Writes what clap has to say: help and version are results, the rest is a mistake.
fn tell(answer: &clap::Error, terminal: &mut Terminal<'_>) -> u8 {
    let text = answer.render();
    if answer.use_stderr() {
        let _ = write!(terminal.err, "{text}");
        return USAGE;
    }
    let _ = write!(terminal.out, "{text}").and_then(|()| terminal.out.flush());
    DONE
}
