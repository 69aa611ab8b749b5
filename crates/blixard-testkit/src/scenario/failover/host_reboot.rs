//! A machine comes back after its vms have moved.

use anyhow::ensure;

use super::{Trio, await_back, await_healthy, figure};
use crate::fixture::{self, Fixture};
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host_reboot",
    shows: "a host crashes, its vm moves, the host boots: the vm does not start there again, and others may",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "fast", Fixture::Sleepers(3), &VMS)?;
    let before = trio.vm_on(false, &VMS)?;
    let host = trio.host(&before.host)?;
    host.kill()?;
    let killed = trio.watch.now();
    let after = trio.await_elsewhere(&before.vm, &before.host)?;
    figure(SCENARIO.name, "its unit is active elsewhere after the crash", killed, after.from);
    host.boot()?;
    super::super::cluster::await_voters(host, 3)?;
    let asked = trio.other_than(host)?;
    await_back(asked)?;
    await_healthy(host, &before.vm)?;
    // It takes part again: a vm that is new is placed there.
    let spans = trio.watch.spans();
    let again = spans.iter().filter(|span| span.vm == before.vm && span.host == before.host).count();
    ensure!(again == 1, "it has started again where it was: {spans:?}");
    // A vm that was anywhere goes back there; one that is new goes to the emptiest host.
    asked.run_ok(&["blixard", "vm", "delete", &before.vm])?;
    let flake = fixture::prepare(asked, Fixture::Sleepers(3))?;
    asked.run_ok(&["blixard", "deploy", &flake])?;
    await_healthy(host, &before.vm)?;
    ensure!(trio.run_of(&before.vm)?.host == before.host, "the emptiest host is not used: {spans:?}");
    trio.check_never_twice()
}
