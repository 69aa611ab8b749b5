//! Whole commands against a daemon that answers from a script, over a real socket.

mod cluster;
mod daemon;
mod deploy;
mod errors;
mod explain;
mod help;
mod lock;
mod logs;
pub(crate) mod nix;
mod node;
mod packaging;
mod placement;
mod upload;
mod vm;
mod volume;
mod watched;

use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use crate::flake::Nix;
use crate::run::{World, run};
use daemon::Daemon;

/// What a command did.
struct Ran {
    code: u8,
    out: String,
    err: String,
}

impl fmt::Display for Ran {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}", self.out)?;
        if !self.err.is_empty() {
            write!(to, "--- stderr\n{}", self.err)?;
        }
        write!(to, "--- exit {}", self.code)
    }
}

/// Runs `blixard` with these words.
async fn blixard(socket: &Path, nix: &Nix, words: &str) -> Ran {
    let fixed = ["blixard".into(), "--socket".into(), socket.into()];
    let words = words.split_whitespace().map(OsString::from);
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let interrupt = Box::pin(std::future::pending());
    let world = World { out: &mut out, err: &mut err, terminal: None, nix: nix.clone(), interrupt };
    let code = run(fixed.into_iter().chain(words), world).await;
    Ran { code, out: String::from_utf8(out).unwrap(), err: String::from_utf8(err).unwrap() }
}

impl Daemon {
    /// Runs `blixard` with these words against this daemon.
    async fn blixard(&self, words: &str) -> Ran {
        blixard(&self.socket(), &Nix::in_path(), words).await
    }
}
