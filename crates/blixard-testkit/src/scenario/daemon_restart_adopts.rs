//! The daemon goes away in every way there is, and comes back: guests do not notice.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::guest::{Guest, GuestRun, await_new_run};
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemon_restart_adopts",
    shows: "guests outlive a restart, a kill, an absence and an upgrade of the daemon, which adopts them",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(3);

/// What happens to the daemon; after each it runs again.
const DISTURBANCES: [(&str, &str); 4] = [
    ("a restart", "systemctl restart blixardd"),
    ("a kill and a start", "systemctl kill --signal=KILL blixardd; systemctl restart blixardd"),
    (
        "another program in its place",
        "cp /usr/local/bin/blixardd /usr/local/bin/newer; echo >>/usr/local/bin/newer; mv /usr/local/bin/newer /usr/local/bin/blixardd; systemctl restart blixardd",
    ),
    ("a restart by systemd after a crash", "systemctl kill --signal=KILL blixardd"),
];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let guests = fixture::prepare(host, Fixture::Guests)?;
    host.run_ok(&["blixard", "deploy", &guests])?;
    let [hello, world] = ["hello", "world"].map(|name| Guest { host, name });
    for guest in [hello, world] {
        guest.await_boot_after(0)?;
    }
    let before = [hello.healthy()?, world.healthy()?];

    for (what, script) in DISTURBANCES {
        let daemon = daemon(host)?;
        host.shell(script)?;
        await_another_daemon(host, &daemon)?;
        unchanged([hello, world], &before).with_context(|| format!("after {what}"))?;
    }
    a_cluster_that_knows_nothing_of_them_is_not_founded(host)?;
    unchanged([hello, world], &before).context("after a daemon without its data")?;
    an_absence(host, [hello, world], &before).context("after an absence")?;
    a_guest_that_died_meanwhile_runs_again(host, hello, &before[0])?;
    a_unit_that_went_meanwhile_is_started_again(host, world, &before[1])
}

/// As if the disk with the log were not mounted.
fn a_cluster_that_knows_nothing_of_them_is_not_founded(host: &Host) -> anyhow::Result<()> {
    let config =
        "[storage]\ndata_dir = \"/var/lib/elsewhere\"\n[api]\nsocket = \"/run/elsewhere/blixardd.sock\"\n";
    host.write("/etc/elsewhere.toml", config, 0o600)?;
    let refused = host.run(&["blixardd", "--config", "/etc/elsewhere.toml"])?;
    ensure!(
        refused.status.code() == Some(78),
        "{}",
        refused.unexpected("a second cluster over running guests")
    );
    let says = |part| refused.stderr.contains(part);
    ensure!(says("default/hello, default/world") && says("systemctl stop"), "{}", refused.stderr);
    Ok(())
}

fn daemon(host: &Host) -> anyhow::Result<String> {
    host.run_ok(&["systemctl", "show", "--value", "--property=MainPID", "blixardd"])
}

fn await_another_daemon(host: &Host, before: &str) -> anyhow::Result<()> {
    wait::until("another daemon to answer", LIMIT, || {
        let status = host.run(&["blixard", "status"])?;
        let new = daemon(host)? != before;
        Ok(if new && status.status.success() { Seen::Done(()) } else { Seen::Instead(status.stderr) })
    })
}

/// The same boot of the same process, at the same epoch, and the daemon knows it to be healthy.
fn unchanged(guests: [Guest<'_>; 2], before: &[GuestRun; 2]) -> anyhow::Result<()> {
    for (guest, before) in guests.into_iter().zip(before) {
        let after = guest.healthy()?;
        ensure!(after == *before, "{} was {before:?} and is {after:?}", guest.name);
        ensure!(guest.boots()?.len() == 1, "{} has booted again", guest.name);
    }
    Ok(())
}

fn an_absence(host: &Host, guests: [Guest<'_>; 2], before: &[GuestRun; 2]) -> anyhow::Result<()> {
    let gone = daemon(host)?;
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    for (guest, before) in guests.iter().zip(before) {
        ensure!(guest.main_pid()? == Some(before.main_pid), "{} went with the daemon", guest.name);
    }
    // Whatever becomes of its own directory in /run, the guests' stay.
    host.run_ok(&["test", "-p", "/run/blixard-vms/default/hello/orders.in"])?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    await_another_daemon(host, &gone)?;
    unchanged(guests, before)
}

/// systemd has started it again; that is no new placement.
fn a_guest_that_died_meanwhile_runs_again(
    host: &Host,
    guest: Guest<'_>,
    before: &GuestRun,
) -> anyhow::Result<()> {
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    host.run_ok(&["kill", "-KILL", &before.main_pid.to_string()])?;
    wait::until("systemd to start the hypervisor again", LIMIT, || {
        let pid = guest.main_pid()?;
        Ok(match pid.filter(|&pid| pid != before.main_pid) {
            Some(_) => Seen::Done(()),
            None => Seen::Instead(format!("process {pid:?}")),
        })
    })?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    let after = await_new_run(guest, before, 1).context("its guest died while the daemon was away")?;
    ensure!((after.epoch, after.generation) == (before.epoch, before.generation), "{after:?}");
    Ok(())
}

/// Nothing runs that should: what the servers were told is not believed, what is seen is.
fn a_unit_that_went_meanwhile_is_started_again(
    host: &Host,
    guest: Guest<'_>,
    before: &GuestRun,
) -> anyhow::Result<()> {
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    host.run_ok(&["systemctl", "stop", &guest.unit()])?;
    guest.await_no_unit()?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    await_new_run(guest, before, 1).context("its unit went while the daemon was away").map(drop)
}
