//! Processes that are one cluster: what they cost, and what can be done to them.
//!
//! Owns the processes: they are killed when this goes. The load is another process.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use blixard_testkit::Workspace;
use blixard_testkit::wait::{self, Seen};

use super::Load;

/// How long a cluster may take to have a leader.
const LEADER_LIMIT: Duration = Duration::from_secs(30);
/// The kernel's unit of a process's times, on every Linux that we run on (USER_HZ).
const TICKS_PER_SECOND: f64 = 100.0;

/// The program of the benchmark.
#[derive(Debug, Clone)]
pub(super) struct Tool(PathBuf);

impl Tool {
    pub(super) fn built(workspace: &Workspace) -> Self {
        Self(workspace.target().join("release/blixard-bench"))
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Runs it to its end; returns the last line of what it printed.
    pub(super) fn run(&self, arguments: &[&str]) -> anyhow::Result<String> {
        let output = Command::new(&self.0).args(arguments).output().context("cannot start blixard-bench")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(output.status.success(), "`blixard-bench {}` failed: {said}", arguments.join(" "));
        let printed = String::from_utf8(output.stdout)?;
        Ok(printed.lines().last().unwrap_or_default().to_owned())
    }
}

/// One process, and how it is started again.
pub(super) struct Process {
    pub(super) argv: Vec<String>,
    child: Child,
}

impl Process {
    pub(super) fn start(argv: Vec<String>) -> anyhow::Result<Self> {
        let child = spawn(&argv)?;
        Ok(Self { argv, child })
    }
}

fn spawn(argv: &[String]) -> anyhow::Result<Child> {
    let (program, arguments) = argv.split_first().context("a command has a program")?;
    let mut command = Command::new(program);
    command.args(arguments).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.spawn().with_context(|| format!("cannot start {program}"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

/// How often a node has made its log durable.
pub(super) type Syncs = fn(&Tool, endpoint: &str) -> anyhow::Result<f64>;
/// Waits until a node that was started again is one of them.
pub(super) type Rejoined = fn(&Tool, leader: &str, number: usize, endpoint: &str) -> anyhow::Result<()>;

/// A cluster.
pub(super) struct Group {
    pub(super) name: &'static str,
    pub(super) tool: Tool,
    pub(super) processes: Vec<Process>,
    /// Where the load reaches each.
    pub(super) endpoints: Vec<String>,
    pub(super) syncs: Syncs,
    pub(super) rejoined: Rejoined,
}

impl Group {
    pub(super) fn name(&self) -> &'static str {
        self.name
    }

    /// Which of them leads.
    pub(super) fn leader(&self) -> anyhow::Result<usize> {
        let endpoints: Vec<&str> = self.endpoints.iter().map(String::as_str).collect();
        let arguments = [&["leader"], endpoints.as_slice()].concat();
        wait::until(&format!("a leader of {}", self.name), LEADER_LIMIT, || {
            Ok(match self.tool.run(&arguments) {
                Ok(number) => Seen::Done(number.parse::<usize>()?),
                Err(error) => Seen::Instead(error.to_string()),
            })
        })
    }

    pub(super) fn endpoint(&self, number: usize) -> anyhow::Result<&str> {
        self.endpoints.get(number).map(String::as_str).context("no such node")
    }

    pub(super) fn load(&self, to: usize, callers: u32, warm: u32, measure: u32) -> anyhow::Result<Load> {
        let [callers, warm, measure] = [callers, warm, measure].map(|number| number.to_string());
        let load = self.tool.run(&[
            "load",
            "--endpoint",
            self.endpoint(to)?,
            "--callers",
            &callers,
            "--warm-ms",
            &warm,
            "--measure-ms",
            &measure,
        ])?;
        Ok(serde_json::from_str(&load)?)
    }

    /// Writes so many keys of 300 bytes.
    pub(super) fn fill(&self, to: usize, keys: u32) -> anyhow::Result<()> {
        let (endpoint, keys) = (self.endpoint(to)?, keys.to_string());
        let fixed = ["--callers", "256", "--measure-ms", "0", "--fill", "--keys"];
        self.tool.run(&[&["load", "--endpoint", endpoint], fixed.as_slice(), &[&keys]].concat()).map(drop)
    }

    pub(super) fn syncs(&self, of: usize) -> anyhow::Result<f64> {
        (self.syncs)(&self.tool, self.endpoint(of)?)
    }

    /// Processor time of all of them until now.
    pub(super) fn cpu_seconds(&self) -> anyhow::Result<f64> {
        let mut ticks = 0.0;
        for process in &self.processes {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", process.child.id()))?;
            // The name may hold anything, and ends at the last parenthesis.
            let (_, fields) = stat.rsplit_once(") ").context("no process name in stat")?;
            let mut times = fields.split(' ').skip(11);
            for _ in 0..2 {
                ticks += times.next().context("no times in stat")?.parse::<f64>()?;
            }
        }
        Ok(ticks / TICKS_PER_SECOND)
    }

    pub(super) fn resident_megabytes(&self) -> anyhow::Result<f64> {
        let mut kib = 0.0;
        for process in &self.processes {
            let status = std::fs::read_to_string(format!("/proc/{}/status", process.child.id()))?;
            let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
            kib += line.trim().trim_end_matches(" kB").parse::<f64>()?;
        }
        Ok(kib * 1024.0 / 1e6)
    }

    /// Kills the leader; how many milliseconds until one of the others has acknowledged a write. The killed
    /// one is back afterwards.
    pub(super) fn failover(&mut self) -> anyhow::Result<f64> {
        let leader = self.leader()?;
        let others: Vec<&String> = self
            .endpoints
            .iter()
            .enumerate()
            .filter(|(number, _)| *number != leader)
            .map(|(_, e)| e)
            .collect();
        let mut watcher = Command::new(self.tool.path())
            .arg("failover")
            .args(others)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let mut stdin = watcher.stdin.take().context("a piped child has a standard input")?;
        let mut printed = BufReader::new(watcher.stdout.take().context("and a standard output")?).lines();
        ensure!(printed.next().context("no watcher")?? == "ready", "the watcher is not ready");
        let process = self.processes.get_mut(leader).context("no such process")?;
        process.child.kill()?;
        stdin.write_all(b"killed\n")?;
        let micros = printed.next().context("no write was accepted")??;
        watcher.wait()?;
        process.child.wait()?;
        process.child = spawn(&process.argv)?;
        let now = self.leader()?;
        (self.rejoined)(&self.tool, self.endpoint(now)?, leader, self.endpoint(leader)?)?;
        Ok(micros.parse::<f64>()? / 1e3)
    }
}
