//! A machine is cut off: what runs there has ended before it runs elsewhere.

use anyhow::{Context as _, ensure};

use super::{Trio, await_back, await_healthy, figure};
use crate::fixture::Fixture;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host_partitioned",
    shows: "a host is cut off: its guest is dead before the new one starts, by one clock, and stays so once it is back",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 2] = ["hello", "world"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Guests, &VMS)?;
    let before = trio.vm_on(false, &VMS)?;
    let host = trio.host(&before.host)?;
    let cut = trio.watch.now();
    context.last_world()?.cut(host)?;
    let after = trio.await_elsewhere(&before.vm, &before.host)?;
    let ended = |span: &super::Span| span.vm == before.vm && span.host == before.host;
    let old = trio.watch.spans().into_iter().find(ended).and_then(|span| span.to);
    let old = old.context("the cut-off host's guest runs although another does")?;
    ensure!(old < after.from, "the old guest ended at {old:?}, the new one began at {:?}", after.from);
    figure(SCENARIO.name, "its guest is dead after the cut", cut, old);
    figure(SCENARIO.name, "the new one starts after the cut", cut, after.from);
    figure(SCENARIO.name, "between the two", old, after.from);
    await_healthy(trio.host(&after.host)?, &before.vm)?;

    context.last_world()?.mend(host)?;
    await_back(trio.other_than(host)?)?;
    await_healthy(host, &before.vm)?;
    let here = trio.watch.spans().into_iter().filter(ended).count();
    ensure!(here == 1, "it has started again where it was: {:?}", trio.watch.spans());
    trio.check_never_twice()
}
