//! A daemon hangs: its host's lease runs out, and it has no say when it goes on.

use anyhow::{Context as _, ensure};

use super::{Trio, await_back, await_healthy, figure};
use crate::fixture::Fixture;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemon_hung",
    shows: "a daemon is stopped (SIGSTOP): its vm ends with the lease, runs elsewhere, and not again where it was",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "fast", Fixture::Sleepers(3), &VMS)?;
    let before = trio.vm_on(false, &VMS)?;
    let host = trio.host(&before.host)?;
    let stopped = trio.watch.now();
    host.run_ok(&["systemctl", "kill", "--signal=STOP", "blixardd"])?;
    let after = trio.await_elsewhere(&before.vm, &before.host)?;
    let here = |span: &super::Span| span.vm == before.vm && span.host == before.host;
    let old = trio.watch.spans().into_iter().find(here).and_then(|span| span.to);
    let old = old.context("the vm of the host whose daemon hangs runs although another does")?;
    ensure!(old < after.from, "the old one ended at {old:?}, the new one began at {:?}", after.from);
    figure(SCENARIO.name, "its vm is dead after the daemon's stop", stopped, old);
    figure(SCENARIO.name, "the new one starts after the stop", stopped, after.from);

    host.run_ok(&["systemctl", "kill", "--signal=CONT", "blixardd"])?;
    let asked = trio.other_than(host)?;
    await_back(asked)?;
    await_healthy(asked, &before.vm)?;
    let runs = trio.watch.spans().into_iter().filter(here).count();
    ensure!(runs == 1, "it has started again where it was: {:?}", trio.watch.spans());
    trio.check_never_twice()
}
