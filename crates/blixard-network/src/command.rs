//! The one place that starts `ip`.
//!
//! Owns: the commands, word by word, and what a failed one is called. Refuses to know: when they are due.

use std::fmt;
use std::io::ErrorKind;
use std::path::PathBuf;
use std::process::Stdio;

use blixard_core::ports::networks::{NetworkError, Tap};
use blixard_types::VmId;

use crate::UNMARKED;
use crate::link::{self, Link};

/// The program.
#[derive(Debug)]
pub(crate) struct Ip {
    program: PathBuf,
}

impl Ip {
    pub(crate) fn new(program: PathBuf) -> Self {
        Self { program }
    }

    /// All interfaces of the host. Where there is no such program none of ours can be: vms without
    /// interfaces do not need it.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, NetworkError> {
        match self.run(&["-json", "-details", "link", "show"]).await {
            Ok(listed) => link::parse(&listed),
            Err(Failure::NoProgram(_)) => Ok(Vec::new()),
            Err(failure) => Err(NetworkError::List { reason: failure.to_string() }),
        }
    }

    /// Makes a tap, whose name and bridge have been checked.
    pub(crate) async fn make(&self, vm: &VmId, tap: &Tap) -> Result<(), NetworkError> {
        let refused = |action| move |failure| refusal(action, &tap.id, &failure);
        self.run(&add(tap)).await.map_err(refused("make"))?;
        let mark = link::mark(vm);
        self.run(&["link", "set", "dev", UNMARKED, "alias", &mark]).await.map_err(refused("mark"))?;
        self.run(&["link", "set", "dev", UNMARKED, "name", &tap.id]).await.map_err(refused("name"))?;
        let mut up = vec!["link", "set", "dev", tap.id.as_str()];
        if let Some(bridge) = &tap.bridge {
            up.extend(["master", bridge]);
        }
        up.push("up");
        self.run(&up).await.map_err(refused("start")).map(drop)
    }

    /// Removes an interface.
    pub(crate) async fn delete(&self, name: &str) -> Result<(), NetworkError> {
        let deleted = self.run(&["link", "delete", "dev", name]).await;
        deleted.map_err(|failure| refusal("remove", name, &failure))?;
        tracing::debug!(interface = name, "removed");
        Ok(())
    }

    /// Runs the program; gives its output.
    #[allow(clippy::disallowed_methods, reason = "this is the adapter's one wrapper around processes")]
    async fn run(&self, arguments: &[&str]) -> Result<String, Failure> {
        let mut command = tokio::process::Command::new(&self.program);
        command.args(arguments).stdin(Stdio::null()).kill_on_drop(true);
        let output = command.output().await.map_err(|cause| {
            let text = format!("cannot start {}: {cause}", self.program.display());
            if cause.kind() == ErrorKind::NotFound { Failure::NoProgram(text) } else { Failure::Other(text) }
        })?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let said = String::from_utf8_lossy(&output.stderr);
        let text = format!("`ip {}` failed ({}): {}", arguments.join(" "), output.status, said.trim());
        Err(Failure::Other(text))
    }
}

/// Why a command has no output.
#[derive(Debug)]
enum Failure {
    /// There is no such program.
    NoProgram(String),
    /// Anything else.
    Other(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (Self::NoProgram(text) | Self::Other(text)) = self;
        out.write_str(text)
    }
}

fn refusal(action: &'static str, id: &str, failure: &Failure) -> NetworkError {
    NetworkError::Refused { action, id: id.to_owned(), reason: failure.to_string() }
}

/// As microvm.nix's `tap-up` does: the frames have headers of virtio-net, and the tap belongs to the user
/// that opens it. Of a group the kernel would ask besides, not instead.
fn add(tap: &Tap) -> Vec<&str> {
    let mut add = vec!["tuntap", "add", "dev", UNMARKED, "mode", "tap"];
    if let Some(account) = &tap.account {
        add.extend(["user", &account.user]);
    }
    add.push("vnet_hdr");
    if tap.multi_queue {
        add.push("multi_queue");
    }
    add
}
