//! Writers that count what was acknowledged (`blixard-bench writers`), and what must then be there.
//!
//! A write is a wish for a vm (to run, to stop), asked for again with the same request id until it is
//! acknowledged. A vm counts its wishes: if one that was acknowledged is lost, or one is applied twice,
//! the count differs.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::fixture::{self, Fixture};
use crate::host::{Binaries, Host};
use crate::wait::{self, Seen};

const PROGRAM: &str = "/usr/local/bin/blixard-bench";
const FOLDER: &str = "/run/writers";

/// What is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wishes {
    /// Start and stop by turns: its host has work, too.
    Toggle,
    /// Stop, again and again: only the log has work.
    Stop,
}

/// Deploys so many vms that only sleep, to write to, and gives their names.
pub(super) fn deploy_sleepers(host: &Host, count: u32) -> anyhow::Result<Vec<String>> {
    let flake = fixture::prepare(host, Fixture::Sleepers(count))?;
    host.run_ok(&["blixard", "deploy", &flake])?;
    Ok(names(count))
}

/// The same, of more than there is room for: those that find none are there, too, and can be written to.
pub(super) fn define_sleepers(host: &Host, count: u32) -> anyhow::Result<Vec<String>> {
    let flake = fixture::prepare(host, Fixture::Sleepers(count))?;
    let deployed = host.run(&["blixard", "deploy", &flake])?;
    let json = host.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
    let list: Value = serde_json::from_str(&json)?;
    let defined = list.get("vms").and_then(Value::as_array).map_or(0, Vec::len);
    ensure!(defined == usize::try_from(count)?, "{}", deployed.unexpected("defines too few"));
    Ok(names(count))
}

fn names(count: u32) -> Vec<String> {
    (1..=count).map(|number| format!("sleeper-{number}")).collect()
}

/// Starts a writer for each of these vms on a host. Vms of writers on other hosts are others.
pub(super) fn start(host: &Host, binaries: &Binaries, wishes: Wishes, vms: &[String]) -> anyhow::Result<()> {
    host.copy_in(&binaries.writers, PROGRAM, 0o755)?;
    let start =
        ["systemd-run", "--quiet", "--collect", "--unit=writers", PROGRAM, "writers", "--folder", FOLDER];
    let how: &[&str] = if wishes == Wishes::Toggle { &["--toggle"] } else { &[] };
    let vms: Vec<&str> = vms.iter().map(String::as_str).collect();
    host.run_ok(&[start.as_slice(), how, &vms].concat()).map(drop)
}

/// How many writes were acknowledged so far.
pub(super) fn acknowledged(host: &Host) -> anyhow::Result<usize> {
    let count = host.shell(&format!("cat {FOLDER}/acknowledged 2>/dev/null || echo 0"))?;
    Ok(count.trim().parse()?)
}

/// Waits until this many writes more were acknowledged.
pub(super) fn await_writes(host: &Host, more: usize) -> anyhow::Result<()> {
    let before = acknowledged(host)?;
    wait::until(&format!("{more} writes on {}", host.name()), super::LIMIT, || {
        let now = acknowledged(host)?;
        Ok(if now >= before + more { Seen::Done(()) } else { Seen::Instead(format!("{before}, then {now}")) })
    })
}

/// Lets the writers finish what they have begun, and begin nothing; waits for it.
pub(super) fn pause(host: &Host) -> anyhow::Result<()> {
    host.shell(&format!("rm -f {FOLDER}/idle; touch {FOLDER}/pause"))?;
    wait::until("the writers to pause", super::LIMIT, || {
        let idle = host.run(&["test", "-e", &format!("{FOLDER}/idle")])?.status.success();
        Ok(if idle { Seen::Done(()) } else { Seen::Instead("some still write".to_owned()) })
    })
}

/// Lets them go on.
pub(super) fn resume(host: &Host) -> anyhow::Result<()> {
    host.shell(&format!("rm {FOLDER}/pause")).map(drop)
}

/// What a vm must look like.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    wishes: u64,
    desired: String,
}

/// Ends the writers, once all that they have begun is acknowledged; what must be there now, by vm.
pub(super) fn stop(host: &Host) -> anyhow::Result<BTreeMap<String, Due>> {
    host.run_ok(&["touch", &format!("{FOLDER}/end")])?;
    let result = wait::until("the writers to end", super::LIMIT, || {
        let result = host.run(&["cat", &format!("{FOLDER}/result")])?;
        Ok(if result.status.success() { Seen::Done(result.stdout) } else { Seen::Instead(result.stderr) })
    })?;
    let due = |line: &str| {
        let mut words = line.split(' ');
        let mut word = || words.next().map(str::to_owned).with_context(|| format!("a short line: {line}"));
        let (vm, wishes, wish) = (word()?, word()?.parse()?, word()?);
        let desired = wish.trim_start_matches("DESIRED_").to_lowercase();
        Ok((format!("default/{vm}"), Due { wishes, desired }))
    };
    result.lines().map(due).collect()
}

/// What was acknowledged is there, once: each vm counts as many wishes as its writer, and its wish is the
/// writer's last.
pub(super) fn check(due: &BTreeMap<String, Due>, asked: &Host) -> anyhow::Result<()> {
    let json = asked.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
    let list: Value = serde_json::from_str(&json)?;
    let vms = list.get("vms").and_then(Value::as_array).context("no vms")?;
    let mut checked = 0;
    for vm in vms {
        let Some(due) = due.get(super::text(vm, "vm")) else { continue };
        let seen = Due {
            wishes: vm.get("wishes").and_then(Value::as_u64).context("no count of wishes")?,
            desired: super::text(vm, "desired").to_owned(),
        };
        let lost = if seen.wishes < due.wishes { "lost" } else { "applied twice" };
        ensure!(seen.wishes == due.wishes, "a write was {lost}: {vm} on {}, due {due:?}", asked.name());
        ensure!(seen == *due, "the last write does not count: {vm} on {}, due {due:?}", asked.name());
        checked += 1;
    }
    ensure!(checked == due.len(), "{checked} of {} vms are there", due.len());
    Ok(())
}

/// Stops the daemons and compares their logs: where two have an entry of one index, it is the same one.
pub(super) fn compare_logs(hosts: &[Host]) -> anyhow::Result<usize> {
    let mut known: BTreeMap<String, (String, String)> = BTreeMap::new();
    let mut compared = 0;
    for host in hosts {
        host.run_ok(&["systemctl", "stop", "blixardd"])?;
    }
    for host in hosts {
        let log =
            host.shell(&format!("cp /var/lib/blixard/log /run/log.copy; {PROGRAM} log /run/log.copy"))?;
        for line in log.lines() {
            let (index, digest) = line.split_once(' ').with_context(|| format!("a short line: {line}"))?;
            let here = (host.name().to_owned(), digest.to_owned());
            if let Some((there, other)) = known.get(index) {
                ensure!(other == digest, "entry {index} of {there} and {} differ", host.name());
                compared += 1;
            } else {
                known.insert(index.to_owned(), here);
            }
        }
    }
    for host in hosts {
        host.run_ok(&["systemctl", "start", "blixardd"])?;
    }
    Ok(compared)
}
