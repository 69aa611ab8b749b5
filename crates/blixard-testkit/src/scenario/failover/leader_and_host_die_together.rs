//! The machine that dies leads the cluster, too.

use super::{Trio, await_healthy, figure};
use crate::fixture::Fixture;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leader_and_host_die_together",
    shows: "the leader's machine is killed with a vm on it: the next leader waits anew, then moves the vm",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "fast", Fixture::Sleepers(3), &VMS)?;
    let victim = trio.vm_on(true, &VMS)?;
    let killed = trio.watch.now();
    trio.host(&victim.host)?.kill()?;
    let moved = trio.await_elsewhere(&victim.vm, &victim.host)?;
    figure(SCENARIO.name, "its unit is active elsewhere after its host's death", killed, moved.from);
    trio.tell(SCENARIO.name, killed)?;
    await_healthy(trio.host(&moved.host)?, &victim.vm)?;
    // Hosts whose leader has died find the next one within their leases.
    let lapsed = trio.watch.spans().into_iter().find(|span| span.to.is_some() && span.vm != victim.vm);
    anyhow::ensure!(lapsed.is_none(), "an election has ended the lease of another host: {lapsed:?}");
    trio.check_never_twice()
}
