//! One test host, and what can be done to it.
//!
//! Owns nothing but the way in: the world owns the host. Commands run in the namespaces of the host's
//! process 1 with a clean environment, as root, and are killed when they take longer than a limit.
//!
//! ```text
//! down ──boot──▶ booting ──▶ up ──kill (a crash) or shutdown──▶ down
//! ```

pub(crate) mod install;

use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;

use crate::process::{self, Output};
use crate::wait::{self, Seen};
use crate::world::{Cgroup, Orders};

pub use install::Binaries;

const BOOT_LIMIT: Duration = Duration::from_mins(1);
const SHUTDOWN_LIMIT: Duration = Duration::from_mins(2);
/// A command that takes longer is stuck; `run_within` sets another limit.
const COMMAND_LIMIT: Duration = Duration::from_mins(5);
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A host of a world.
#[derive(Debug, Clone)]
pub struct Host {
    name: String,
    address: String,
    folder: PathBuf,
    cgroup: Cgroup,
    orders: Arc<Orders>,
}

impl Host {
    pub(crate) fn new(
        name: &str,
        address: &str,
        folder: PathBuf,
        cgroup: Cgroup,
        orders: &Arc<Orders>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            address: address.to_owned(),
            folder,
            cgroup,
            orders: Arc::clone(orders),
        }
    }

    /// Its host name, which the other hosts of its world can resolve.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address on the bridge.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The bridge's end of its wire.
    pub(crate) fn wire(&self) -> String {
        format!("vb-{}", self.name)
    }

    /// A cgroup of its systemd, as this machine reaches it.
    pub(crate) fn group(&self, below: &str) -> PathBuf {
        self.cgroup.below(&format!("payload/{below}"))
    }

    /// Runs a command.
    ///
    /// # Errors
    /// When it cannot be run; a command that fails is an `Ok`.
    pub fn run(&self, argv: &[&str]) -> anyhow::Result<Output> {
        self.run_within(COMMAND_LIMIT, argv, &[])
    }

    /// Runs a command that must succeed, and returns its standard output.
    ///
    /// # Errors
    /// When it fails, with everything it said.
    pub fn run_ok(&self, argv: &[&str]) -> anyhow::Result<String> {
        self.run(argv)?.ok()
    }

    /// Runs a shell script that must succeed in every step.
    ///
    /// # Errors
    /// As [`Host::run_ok`].
    pub fn shell(&self, script: &str) -> anyhow::Result<String> {
        self.run_ok(&["bash", "-euo", "pipefail", "-c", script])
    }

    /// Runs a command with this standard input; one that takes longer than the limit is killed, which
    /// shows as exit status 124.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn run_within(&self, limit: Duration, argv: &[&str], input: &[u8]) -> anyhow::Result<Output> {
        let limit = format!("{:.3}", limit.as_secs_f64());
        let timeout = ["timeout", "--kill-after=5", &limit].map(str::to_owned);
        let whole = [timeout.to_vec(), self.enter(&[], argv)?].concat();
        process::capture(&whole, &self.shown(argv), input)
    }

    /// Runs a command on the caller's terminal, without a limit.
    ///
    /// # Errors
    /// As [`Host::run`].
    pub fn attach(&self, argv: &[&str]) -> anyhow::Result<ExitStatus> {
        let term = format!("TERM={}", std::env::var("TERM").unwrap_or_else(|_| "dumb".to_owned()));
        process::attach(&self.enter(&[&term], argv)?, &self.shown(argv))
    }

    /// Puts a file there; its folders are made.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, path: &str, bytes: impl AsRef<[u8]>, mode: u32) -> anyhow::Result<()> {
        let script =
            r#"mkdir -p "$(dirname "$1")"; cat >"$1.new"; chmod "$2" "$1.new"; mv -fT "$1.new" "$1""#;
        let argv = ["sh", "-euc", script, "write", path, &format!("{mode:o}")];
        let output = self.run_within(COMMAND_LIMIT, &argv, bytes.as_ref())?;
        output.ok().map(drop).with_context(|| format!("cannot write {path} on {}", self.name))
    }

    /// A path of it as this machine reaches it, while it is up.
    ///
    /// # Errors
    /// When it is down.
    pub fn see(&self, path: &str) -> anyhow::Result<PathBuf> {
        let leader = self.leader().with_context(|| format!("{} is down", self.name))?;
        Ok(PathBuf::from(format!("/proc/{leader}/root{path}")))
    }

    /// Copies a file of this machine there.
    ///
    /// # Errors
    /// When it cannot be read here or written there.
    pub fn copy_in(&self, from: &Path, to: &str, mode: u32) -> anyhow::Result<()> {
        let bytes = std::fs::read(from).with_context(|| format!("cannot read {}", from.display()))?;
        self.write(to, bytes, mode)
    }

    /// What a unit said, in all boots.
    ///
    /// # Errors
    /// When the journal cannot be read.
    pub fn journal(&self, unit: &str) -> anyhow::Result<String> {
        self.run_ok(&["journalctl", "--no-pager", "--output=short-precise", "--unit", unit])
    }

    /// Crashes it: every process of it is gone at once. Its disk stays.
    ///
    /// # Errors
    /// When something survives.
    pub fn kill(&self) -> anyhow::Result<()> {
        self.cgroup.kill()
    }

    /// Whether it has a process 1.
    #[must_use]
    pub fn is_up(&self) -> bool {
        self.leader().is_some()
    }

    /// Sends a signal to its process 1, which no process of its own could.
    ///
    /// # Errors
    /// When it is down.
    pub fn signal_init(&self, signal: &str) -> anyhow::Result<()> {
        let init = self.leader().with_context(|| format!("{} is down", self.name))?;
        process::run(&["kill", "--signal", signal, &init.to_string()]).map(drop)
    }

    /// Shuts it down in good order.
    ///
    /// # Errors
    /// When it takes too long.
    pub fn shutdown(&self) -> anyhow::Result<()> {
        self.run_ok(&["systemctl", "poweroff"])?;
        self.cgroup.wait_until_empty(SHUTDOWN_LIMIT)
    }

    /// Boots it after a crash or a shutdown, with the disk it had.
    ///
    /// # Errors
    /// When it runs already, or does not come up.
    pub fn boot(&self) -> anyhow::Result<()> {
        anyhow::ensure!(!self.cgroup.is_populated(), "{} runs already", self.name);
        self.cgroup.renew()?;
        self.order_boot()?;
        self.wait_until_up()
    }

    pub(crate) fn order_boot(&self) -> anyhow::Result<()> {
        self.orders.send(&format!("boot {}", self.name))
    }

    pub(crate) fn wait_until_up(&self) -> anyhow::Result<()> {
        wait::until(&format!("{} to boot", self.name), BOOT_LIMIT, || self.look_at_boot())
            .with_context(|| format!("its console said:\n{}", self.console_tail()))
    }

    fn look_at_boot(&self) -> anyhow::Result<Seen<()>> {
        if self.leader().is_none() {
            return Ok(Seen::Instead("no process 1".to_owned()));
        }
        let state = self.run(&["systemctl", "is-system-running"])?;
        Ok(match state.stdout.trim_end() {
            "running" | "degraded" => Seen::Done(()),
            other => Seen::Instead(format!("{other} {}", state.stderr.trim_end())),
        })
    }

    fn console_tail(&self) -> String {
        let console = std::fs::read(self.folder.join("console.log")).unwrap_or_default();
        let console = String::from_utf8_lossy(&console);
        let lines: Vec<&str> = console.lines().collect();
        lines.get(lines.len().saturating_sub(20)..).unwrap_or_default().join("\n")
    }

    /// The host's process 1, by its number here: alone in `init.scope` once systemd has set itself up.
    fn leader(&self) -> Option<u32> {
        self.cgroup.processes("payload/init.scope").into_iter().find(|process| {
            std::fs::read_to_string(format!("/proc/{process}/status")).is_ok_and(|status| {
                status
                    .lines()
                    .any(|line| line.starts_with("NSpid:") && line.split_whitespace().last() == Some("1"))
            })
        })
    }

    /// The command that runs `argv` inside.
    fn enter(&self, environment: &[&str], argv: &[&str]) -> anyhow::Result<Vec<String>> {
        let leader = self.leader().with_context(|| format!("{} is down", self.name))?.to_string();
        let namespaces = ["--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd"];
        Ok([
            &["nsenter", "--target", &leader],
            &namespaces[..],
            &["--", "env", "--ignore-environment", "--chdir=/root", PATH, "HOME=/root", "LANG=C.UTF-8"],
            environment,
            argv,
        ]
        .concat()
        .into_iter()
        .map(str::to_owned)
        .collect())
    }

    /// The words that run on it what follows them, for programs of this machine that know nothing of test hosts.
    pub(crate) fn entrance(&self) -> anyhow::Result<Vec<String>> {
        self.enter(&[], &[])
    }

    fn shown(&self, argv: &[&str]) -> String {
        format!("{}: {}", self.name, argv.join(" "))
    }
}
