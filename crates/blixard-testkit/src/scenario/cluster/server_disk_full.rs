//! A server's disk is full: that server stops, the others go on, and it returns when there is room.

use anyhow::{Context as _, ensure};

use super::writers::{self, Wishes};
use super::{await_equal_states, await_voters, leader, three};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "server_disk_full",
    shows: "a server whose disk is full stops loudly, opens again, and loses nothing; the others go on; it returns",
    needs: Needs::Blixard,
    run,
};

/// Enough to fill, within the limit, the segment of the log that is there when the disk is full.
const WRITERS: u32 = 16;

/// The log's own file system, small enough to be filled.
const SMALL_DISK: &str = "
systemctl stop blixardd
mv /var/lib/blixard /var/lib/blixard.was; mkdir -m 700 /var/lib/blixard
mount -t tmpfs -o size=96m,mode=700 tmpfs /var/lib/blixard
cp -a /var/lib/blixard.was/. /var/lib/blixard/
systemctl start blixardd
";

/// It may have stopped before it was ready, which is no matter here.
const RESTART: &str =
    "systemctl stop blixardd; systemctl reset-failed blixardd || true; systemctl start --no-block blixardd";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let [first, .., last] = hosts.as_slice() else { anyhow::bail!("no hosts") };
    let binaries = context.binaries()?;
    let vms = writers::deploy_sleepers(first, WRITERS)?;
    last.shell(SMALL_DISK)?;
    await_voters(first, hosts.len())?;
    writers::start(first, &binaries, Wishes::Toggle, &vms)?;
    last.shell("dd if=/dev/zero of=/var/lib/blixard/filler bs=1M 2>/dev/null || true")?;
    wait::until("the full server to stop", super::LIMIT, || {
        let journal = last.journal("blixardd")?;
        let stopped = journal.contains("the consensus node has stopped");
        Ok(if stopped { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    writers::await_writes(first, 3).context("the others go on")?;
    last.shell(RESTART).context("it is started on the full disk")?;
    wait::until("the full server to open its log all the same", super::LIMIT, || {
        let journal = last.journal("blixardd")?;
        let opened = journal.contains("the log is opened without a seal");
        Ok(if opened { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    ensure!(leader(&hosts, first)?.name() != last.name(), "a server without a disk leads");
    last.shell(&format!("rm /var/lib/blixard/filler; {RESTART}")).context("there is room again")?;
    await_voters(first, hosts.len())?;
    let due = writers::stop(first)?;
    for host in &hosts {
        writers::check(&due, host)?;
    }
    await_equal_states(&hosts).map(drop)
}
