//! The command line of Blixard: parses, builds a runtime, runs one command, maps it to an exit code.
//!
//! ```text
//! args → run → command::{deploy, vm, logs, node, status} → connect (gRPC) and flake (Nix)
//!          ↘ error (exit code, causes, hints)            ↘ output (table, json)
//! ```
//! Owns: what people type and read. Refuses to know: what the cluster decides; that is the daemon's.

mod args;
mod command;
mod connect;
mod error;
mod flake;
mod output;
mod run;
#[cfg(test)]
mod tests;

use std::io::{self, BufWriter, IsTerminal as _, Write as _};
use std::process::ExitCode;

use flake::Nix;
use run::{World, run};

fn main() -> ExitCode {
    let mut out = BufWriter::new(io::stdout().lock());
    let mut err = io::stderr();
    // One call at a time, and little to do: no other thread is needed.
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            let _ = writeln!(err, "error: cannot start: {error}");
            return ExitCode::FAILURE;
        }
    };
    let interrupt = Box::pin(async {
        if tokio::signal::ctrl_c().await.is_err() {
            std::future::pending::<()>().await;
        }
    });
    let world = World { out: &mut out, err: &mut err, terminal: terminal(), nix: Nix::in_path(), interrupt };
    ExitCode::from(runtime.block_on(run(std::env::args_os(), world)))
}

/// How wide the terminal is that standard error is, if it is one that can clear a line.
fn terminal() -> Option<fn() -> usize> {
    let can_clear = std::env::var_os("TERM").is_some_and(|term| !term.is_empty() && term != "dumb");
    (can_clear && io::stderr().is_terminal()).then_some(columns)
}

fn columns() -> usize {
    let size = rustix::termios::tcgetwinsize(io::stderr());
    // A terminal that does not know how wide it is says 0.
    match size.map_or(0, |size| size.ws_col) {
        0 => 80,
        columns => usize::from(columns),
    }
}
