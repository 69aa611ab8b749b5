//! A machine dies: what ran there runs elsewhere.

use super::{Trio, await_healthy, figure};
use crate::fixture::Fixture;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host_killed",
    shows: "a host is killed: its guest runs on another, once, and the rest goes on untouched",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 2] = ["hello", "world"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Guests, &VMS)?;
    let victim = trio.vm_on(false, &VMS)?;
    let host = trio.host(&victim.host)?;
    let killed = trio.watch.now();
    host.kill()?;
    let moved = trio.await_elsewhere(&victim.vm, &victim.host)?;
    figure(SCENARIO.name, "its unit is active elsewhere after its host's death", killed, moved.from);
    let asked = trio.host(&moved.host)?;
    await_healthy(asked, &victim.vm)?;
    figure(SCENARIO.name, "its guest is healthy after", killed, trio.watch.now());
    for vm in VMS.iter().filter(|&&vm| vm != victim.vm) {
        let runs = trio.watch.spans().into_iter().filter(|span| span.vm == *vm).count();
        anyhow::ensure!(runs == 1, "{vm} was touched: {:?}", trio.watch.spans());
    }
    trio.check_never_twice()
}
