//! `idle-cost`: what a thousand hosts cost their leader while nothing happens.
//!
//! The leader is a process of the production crates with a log on disk; the hosts are another, which sends their
//! heartbeats over loopback with what they run, without TLS. Ten thousand vms are placed on them. Told per second:
//! the leader's processor time, from the kernel. No peer: none has such hosts.

use std::process::{Command, Stdio};

use anyhow::Context as _;
use blixard_testkit::Workspace;
use serde::Deserialize;

use super::outcome::{Better, Limit};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "idle-cost",
    measures: "1,000 hosts with heartbeats and 10,000 vms: processor time and memory of their leader",
    run,
};

const HOSTS: &str = "1000";
const VMS: &str = "10000";
const LISTEN: &str = "127.0.0.1:27440";

/// A quarter of a core, and what a small machine can spare.
const CPU_MS: f64 = 250.0;
const MEMORY_MIB: f64 = 400.0;
/// A tenth of the pause between two heartbeats.
const P99_MS: f64 = 100.0;
/// Half of the pause between two: no host comes near the end of its lease, with fast times neither.
const LONGEST_MS: f64 = 500.0;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfLeader {
    cpu_ms: f64,
    cpu_ms_without_vms: f64,
    memory_mib: f64,
    entries: u64,
    placing: (u64, u64),
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct OfHosts {
    whole: usize,
    /// When a heartbeat was sent, in milliseconds, and what its grant took, in microseconds.
    waits: Vec<(u64, u64)>,
}

/// What grants took, in milliseconds, from the shortest to the longest.
struct Waits(Vec<f64>);

impl Waits {
    fn of(hosts: &OfHosts, counts: impl Fn(u64) -> bool) -> anyhow::Result<Self> {
        let waits = hosts.waits.iter().filter(|(at, _)| counts(*at));
        let in_ms = waits.map(|(_, micros)| Ok(f64::from(u32::try_from(*micros)?) / 1000.0));
        let mut waits = in_ms.collect::<anyhow::Result<Vec<_>>>()?;
        waits.sort_by(f64::total_cmp);
        Ok(Self(waits))
    }

    fn at(&self, percent: usize) -> f64 {
        let last = self.0.len().saturating_sub(1);
        self.0.get((self.0.len() * percent / 100).min(last)).copied().unwrap_or(f64::NAN)
    }
}

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::cargo(workspace, &["build", "--release", "-p", "blixard-bench"], &[])?;
    let program = workspace.target().join("release/blixard-bench");
    let data = workspace.target().join("bench-idle-cost");
    if data.exists() {
        std::fs::remove_dir_all(&data).context("cannot remove what an earlier run has left")?;
    }
    let leader = Command::new(&program)
        .args(["attended", "--listen", LISTEN, "--hosts", HOSTS, "--vms", VMS, "--dir"])
        .arg(&data)
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the leader")?;
    blixard_testkit::wait::until("the leader to listen", std::time::Duration::from_mins(1), || {
        use blixard_testkit::wait::Seen;
        Ok(match std::net::TcpStream::connect(LISTEN) {
            Ok(_) => Seen::Done(()),
            Err(error) => Seen::Instead(error.to_string()),
        })
    })?;
    let hosts = Command::new(&program)
        .args(["attend", &format!("http://{LISTEN}"), "--hosts", HOSTS])
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start the hosts")?;
    let leader = leader.wait_with_output()?;
    anyhow::ensure!(leader.status.success(), "the leader has failed");
    let hosts = hosts.wait_with_output()?;
    anyhow::ensure!(hosts.status.success(), "the hosts have failed");
    std::fs::remove_dir_all(&data).context("cannot remove the leader's log")?;
    let of_leader: OfLeader =
        serde_json::from_slice(&leader.stdout).context("the leader gives no figures")?;
    let of_hosts: OfHosts = serde_json::from_slice(&hosts.stdout).context("the hosts give no figures")?;
    let (from, to) = of_leader.placing;
    let is_placed = |at: u64| (from..=to).contains(&at);
    let all = Waits::of(&of_hosts, |_| true)?;
    let (idle, busy) = (Waits::of(&of_hosts, |at| !is_placed(at))?, Waits::of(&of_hosts, is_placed)?);
    step::say(&format!(
        "without vms {:.0} ms of processor time a second; {} entries while it was looked at; {} grants, {} of them \
         whole; vms were placed for {} ms",
        of_leader.cpu_ms_without_vms,
        of_leader.entries,
        all.0.len(),
        of_hosts.whole,
        to - from
    ));
    for (when, waits) in [("while nothing happens", &idle), ("while vms are placed", &busy)] {
        let [half, most, longest] = [50, 99, 100].map(|percent| waits.at(percent));
        step::say(&format!("a grant {when}: p50 {half:.1}, p99 {most:.1}, longest {longest:.1} ms"));
    }
    let mut outcome = Outcome::new(BENCH.name, 1);
    for (metric, unit, ours, must) in [
        ("processor time of a second", "ms", of_leader.cpu_ms, CPU_MS),
        ("memory", "MiB", of_leader.memory_mib, MEMORY_MIB),
        ("p99 from a heartbeat to its grant", "ms", all.at(99), P99_MS),
        ("the same while vms are placed", "ms", busy.at(99), P99_MS),
        ("the longest", "ms", all.at(100), LONGEST_MS),
    ] {
        outcome.add_limit(&Limit { metric, unit, ours, must }, Better::Lower);
    }
    Ok(outcome)
}
