//! Flakes and builds that try more than they may: each is stopped, and the daemon does not notice.

#![allow(clippy::print_stdout, reason = "a scenario's figures are for the developer at the terminal")]

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "hostile_evaluation",
    shows: "flakes that loop, eat memory, print a gigabyte or pry are stopped; the daemon does not notice",
    needs: Needs::Blixard,
    run,
};

/// Short enough for a scenario, long enough for a good flake on a busy machine.
const LIMITS: &str = "
[evaluation]
time_limit_s = 20
memory_max_mib = 512
output_max_mib = 4
[builder]
timeout_s = 120
max_silent_s = 20
log_max_mib = 4
";

/// Each vm of the fixture, and words that the error must have.
const REFUSED: [(&str, &[&str]); 15] = [
    ("loops", &["it took longer than 20 s", "evaluation.time_limit_s"]),
    ("recurses", &["stack overflow", "flake.nix:"]),
    ("eats", &["it needed more than 512 MiB of memory", "evaluation.memory_max_mib"]),
    ("doubles", &["it needed more than 512 MiB of memory", "evaluation.memory_max_mib"]),
    ("traces", &["it printed more than 4 MiB", "evaluation.output_max_mib"]),
    ("throws", &["it printed more than 4 MiB", "evaluation.output_max_mib"]),
    ("answers", &["it printed more than 4 MiB", "evaluation.output_max_mib"]),
    ("shadow", &["is forbidden in pure evaluation mode"]),
    ("state", &["is forbidden in pure evaluation mode"]),
    ("socket", &["is forbidden in pure evaluation mode"]),
    ("environment", &["the environment is empty"]),
    ("imports", &["allow-import-from-derivation"]),
    ("floods", &["its logs have more than 4 MiB", "builder.log_max_mib"]),
    ("hangs", &["timed out after 20 seconds of silence", "builder.max_silent_s"]),
    ("forks", &["timed out after 20 seconds of silence", "builder.max_silent_s"]),
];

const UNITS: &str = "blixard-confined-*.service";
/// Processes of builders, whoever has asked for them.
const BUILDERS: &str = "ps -eo user:16=,args= | grep '^nixbld' || true";
/// All that is stopped is gone by then, on a busy machine too.
const STOP_LIMIT: Duration = Duration::from_mins(1);
/// A refusal comes at the latest this long after it was asked for: the longest limit, with a margin.
const REFUSAL_LIMIT: Duration = Duration::from_secs(200);
/// What the daemon may keep of all of this, in KiB; a few megabytes of messages at a time go through it.
const GROWTH_MAX_KIB: u64 = 32 * 1024;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    let config = format!("[node]\nname = \"{}\"\n{LIMITS}", host.name());
    host.install_blixard_with(&context.binaries()?, &config)?;
    let guests = fixture::prepare(host, Fixture::Guests)?;
    host.run_ok(&["blixard", "deploy", &guests]).context("a good deploy works within these limits")?;
    let hostile = fixture::prepare(host, Fixture::Hostile)?;
    host.run_ok(&["blixard", "deploy", &format!("{hostile}#good")])?;

    let before = Daemon::look(host)?;
    let guests_before = guest_pids(host)?;
    for (vm, words) in REFUSED {
        refused(host, &hostile, vm, words).with_context(|| format!("the vm {vm}"))?;
        ensure!(Daemon::look(host)?.pid == before.pid, "the daemon has another pid after {vm}");
    }
    an_interrupted_deploy_ends_its_evaluation(host, &hostile)?;
    an_interrupted_deploy_ends_its_builders(host, &hostile)?;
    let after = Daemon::look(host)?;
    println!("daemon: {before} before, {after} after {} hostile deploys", REFUSED.len());
    ensure!(after.pid == before.pid, "the daemon has another pid");
    ensure!(after.rss < before.rss + GROWTH_MAX_KIB, "the daemon has grown");
    ensure!(after.peak < before.peak + GROWTH_MAX_KIB, "the daemon had grown");
    ensure!(guest_pids(host)? == guests_before, "a guest was touched");

    host.run_ok(&["blixard", "deploy", &guests]).context("a good deploy works after all that")?;
    a_killed_daemon_leaves_no_evaluation_behind(host, &hostile)?;
    ensure!(guest_pids(host)? == guests_before, "a guest was touched");
    Ok(())
}

/// A deploy of this vm ends by itself, with one error that says why.
fn refused(host: &Host, hostile: &str, vm: &str, words: &[&str]) -> anyhow::Result<()> {
    let flake = format!("{hostile}#{vm}");
    let (output, elapsed) =
        wait::timed(|| host.run_within(REFUSAL_LIMIT, &["blixard", "deploy", &flake], b""));
    let output = output?;
    let all = output.unexpected("was refused unclearly");
    let stderr = output.refused()?;
    for word in words {
        ensure!(stderr.contains(word), "{word:?} is not in the error: {all}");
    }
    let (left, gone) = wait::timed(|| nothing_is_left(host));
    left?;
    println!(
        "{vm:>12}: refused after {:.1} s, nothing left after {:.1} s more",
        elapsed.as_secs_f64(),
        gone.as_secs_f64()
    );
    Ok(())
}

/// No unit, no process of one, and no builder.
fn nothing_is_left(host: &Host) -> anyhow::Result<()> {
    let script = format!(
        "systemctl list-units --all --plain --no-legend '{UNITS}'
         if [ -d /sys/fs/cgroup/blixardbuild.slice ]; then
           find /sys/fs/cgroup/blixardbuild.slice -name cgroup.procs -exec cat {{}} + 2>/dev/null || true
         fi
         {BUILDERS}"
    );
    wait::until("units, processes and builders to go", STOP_LIMIT, || {
        let left = host.shell(&script)?;
        Ok(if left.trim().is_empty() { Seen::Done(()) } else { Seen::Instead(left) })
    })
}

fn an_interrupted_deploy_ends_its_evaluation(host: &Host, hostile: &str) -> anyhow::Result<()> {
    begin_deploy(host, "interrupted", &format!("{hostile}#loops"))?;
    let (answer, elapsed) = wait::timed(|| host.run_ok(&["blixard", "vm", "list"]));
    answer.context("the daemon answers while a flake loops")?;
    println!("`vm list` while a flake loops: {} ms", elapsed.as_millis());
    host.run_ok(&["systemctl", "kill", "--signal=INT", "interrupted.service"])?;
    let (left, gone) = wait::timed(|| nothing_is_left(host));
    println!("evaluation ends {:.1} s after Ctrl-C", gone.as_secs_f64());
    left
}

fn an_interrupted_deploy_ends_its_builders(host: &Host, hostile: &str) -> anyhow::Result<()> {
    begin_deploy(host, "interrupted", &format!("{hostile}#hangs"))?;
    wait::until("the builder to begin", STOP_LIMIT, || {
        let builders = host.shell(BUILDERS)?;
        Ok(if builders.contains("sleep infinity") { Seen::Done(()) } else { Seen::Instead(builders) })
    })?;
    host.run_ok(&["systemctl", "kill", "--signal=INT", "interrupted.service"])?;
    let (left, gone) = wait::timed(|| nothing_is_left(host));
    println!("builders end {:.1} s after Ctrl-C", gone.as_secs_f64());
    left
}

fn a_killed_daemon_leaves_no_evaluation_behind(host: &Host, hostile: &str) -> anyhow::Result<()> {
    let killed = Daemon::look(host)?;
    begin_deploy(host, "orphaned", &format!("{hostile}#loops"))?;
    host.run_ok(&["kill", "-KILL", &killed.pid])?;
    wait::until("the daemon to come back", STOP_LIMIT, || {
        let answer = host.run(&["blixard", "status"])?;
        let is_back = Daemon::look(host).is_ok_and(|daemon| daemon.pid != killed.pid);
        let said = answer.stderr.clone();
        Ok(if is_back && answer.ok().is_ok() { Seen::Done(()) } else { Seen::Instead(said) })
    })?;
    nothing_is_left(host)
}

/// Begins a deploy in the background, and waits until its evaluation runs.
fn begin_deploy(host: &Host, unit: &str, flake: &str) -> anyhow::Result<()> {
    let unit = format!("--unit={unit}");
    host.run_ok(&["systemd-run", &unit, "--collect", "--setenv=HOME=/root", "blixard", "deploy", flake])?;
    wait::until("the evaluation to begin", STOP_LIMIT, || {
        let units = host.run_ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", UNITS])?;
        Ok(if units.trim().is_empty() { Seen::Instead("no unit".to_owned()) } else { Seen::Done(()) })
    })
}

/// The daemon's process; memory in KiB.
#[derive(Debug)]
struct Daemon {
    pid: String,
    rss: u64,
    peak: u64,
}

impl Daemon {
    fn look(host: &Host) -> anyhow::Result<Self> {
        let pid = host.run_ok(&["systemctl", "show", "--property=MainPID", "--value", "blixardd.service"])?;
        let pid = pid.trim().to_owned();
        let status = host.run_ok(&["cat", &format!("/proc/{pid}/status")])?;
        let kib = |key: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(key));
            line.and_then(|line| line.split_whitespace().next()?.parse().ok())
                .with_context(|| format!("no {key} of the daemon"))
        };
        Ok(Self { rss: kib("VmRSS:")?, peak: kib("VmHWM:")?, pid })
    }
}

impl std::fmt::Display for Daemon {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mib = |kib: u64| format!("{}.{} MiB", kib / 1024, kib % 1024 * 10 / 1024);
        write!(out, "rss {} (peak {})", mib(self.rss), mib(self.peak))
    }
}

fn guest_pids(host: &Host) -> anyhow::Result<String> {
    host.run_ok(&[
        "systemctl",
        "show",
        "--property=MainPID",
        "blixard-vm-default-hello-run.service",
        "blixard-vm-default-world-run.service",
    ])
}
