//! Two of three servers are lost for ever; the third goes on with its state, and machines join it anew.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::super::cluster::{await_voters, cluster_status, members, refused_as_cut_off, token};
use super::{LIMIT, Trio, await_healthy, figure};
use crate::fixture::Fixture;
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "quorum_lost",
    shows: "two of three servers are lost: the third recovers the cluster, starts vms once no lease can be left, and the two join anew",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];
const DATA: &str = "/var/lib/blixard";
const RECOVER: [&str; 4] = ["blixardd", "--config", "/etc/blixard/blixardd.toml", "recover"];

/// What a new incarnation waits for at least.
const QUARANTINE: Duration = Duration::from_secs(37);

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Sleepers(3), &VMS)?;
    let [one, two, left] = trio.hosts.as_slice() else { anyhow::bail!("not three hosts") };
    let killed = trio.watch.now();
    one.kill()?;
    two.kill()?;
    // What runs on the one that is left ends with its lease: nobody renews it.
    wait::until("all vms to be gone", LIMIT, || {
        let spans = trio.watch.spans();
        let run = spans.iter().any(|span| span.to.is_none());
        Ok(if run { Seen::Instead(format!("{spans:?}")) } else { Seen::Done(()) })
    })?;
    refused_as_cut_off(left, &["blixard", "vm", "list"])?;

    let begun = recover(&trio, left)?;
    figure(SCENARIO.name, "leads alone after the loss", killed, begun);
    await_voters(left, 1)?;
    for vm in VMS {
        await_healthy(left, vm)?;
        let run = trio.run_of(vm)?;
        figure(SCENARIO.name, &format!("{vm} is active after its server was started"), begun, run.from);
        ensure!(run.from >= begun + QUARANTINE, "a lease could still have been held: {run:?}");
    }
    trio.check_never_twice()?;

    // One comes back as it was: nobody knows it any more, and it changes nothing.
    one.boot()?;
    wait::until("its certificate to be refused", LIMIT, || {
        let journal = left.journal("blixardd")?;
        Ok(if journal.contains("Revoked") { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    await_voters(left, 1)?;
    // One after the other: both together are the majority of the cluster that was.
    join_anew(left, one)?;
    two.boot()?;
    join_anew(left, two)?;
    await_voters(left, 3)?;
    for vm in VMS {
        await_healthy(left, vm)?;
    }
    trio.check_never_twice()
}

/// Lets a server go on alone; gives the instant before its daemon was started.
fn recover(trio: &Trio, left: &Host) -> anyhow::Result<Duration> {
    let beside = left.run(&[RECOVER.as_slice(), &["--confirm"]].concat())?.refused()?;
    ensure!(beside.contains("in use by another process"), "beside the daemon: {beside}");
    left.run_ok(&["systemctl", "stop", "blixardd"])?;
    let asked = left.run(&RECOVER)?;
    ensure!(asked.status.code() == Some(2), "{}", asked.unexpected("only says what it would do"));
    for words in ["certificates void: n1, n2.", "placed anew: 3, none before 37 s", "Nothing was changed."] {
        ensure!(asked.stdout.contains(words), "no {words:?} in {}", asked.stdout);
    }
    left.run_ok(&[RECOVER.as_slice(), &["--confirm"]].concat())?;
    let begun = trio.watch.now();
    left.run_ok(&["systemctl", "start", "blixardd"])?;
    Ok(begun)
}

/// A machine that was cut off gives up what it knew, and is a new one.
fn join_anew(left: &Host, lost: &Host) -> anyhow::Result<()> {
    let name = lost.name();
    left.run_ok(&["blixard", "node", "remove", name]).context("a node that is cut off can be removed")?;
    let status = cluster_status(left, &[])?;
    ensure!(members(&status).len() < 3, "{status}");
    lost.run_ok(&["systemctl", "stop", "blixardd"])?;
    lost.run_ok(&["mv", DATA, "/var/lib/blixard-before"])?;
    lost.write("/etc/blixard/join", token(left, &[])?, 0o600)?;
    // The founder had none.
    let config = lost.run_ok(&["cat", "/etc/blixard/blixardd.toml"])?;
    if !config.contains("join_file") {
        let config = config.replace("[cluster]\n", "[cluster]\njoin_file = \"/etc/blixard/join\"\n");
        lost.write("/etc/blixard/blixardd.toml", config, 0o644)?;
    }
    lost.run_ok(&["systemctl", "start", "blixardd"]).map(drop)
}
