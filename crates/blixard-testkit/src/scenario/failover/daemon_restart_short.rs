//! A daemon is away for less than a lease: nobody notices.

use std::time::Duration;

use super::{Trio, await_healthy, figure, lease_of};
use crate::fixture::Fixture;
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

const LIMIT: Duration = Duration::from_secs(30);

pub(super) const SCENARIO: Scenario = Scenario {
    name: "daemon_restart_short",
    shows: "every daemon of a cluster is restarted, one by one: no vm is touched and the leases are the same",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Sleepers(3), &VMS)?;
    let leases = || trio.hosts.iter().map(lease_of).collect::<anyhow::Result<Vec<_>>>();
    let before = leases()?;
    for round in 0..2 {
        for host in &trio.hosts {
            let begun = trio.watch.now();
            let how = if round == 0 { "restart" } else { "kill --signal=KILL" };
            host.shell(&format!("systemctl {how} blixardd"))?;
            super::super::cluster::await_voters(host, 3)?;
            figure(
                SCENARIO.name,
                &format!("{} after {how}: all answer again", host.name()),
                begun,
                trio.watch.now(),
            );
        }
    }
    for vm in VMS {
        await_healthy(trio.host("n1")?, vm)?;
    }
    for host in &trio.hosts {
        await_awake(host)?;
    }
    let after = leases()?;
    anyhow::ensure!(before == after, "leases have lapsed: {before:?} {after:?}");
    let spans = trio.watch.spans();
    anyhow::ensure!(spans.len() == VMS.len() && spans.iter().all(|span| span.to.is_none()), "{spans:?}");
    Ok(())
}

/// Whoever runs a vm under a lease is not suspended: the daemon that came last says so, too.
fn await_awake(host: &Host) -> anyhow::Result<()> {
    wait::until("the host to be kept awake", LIMIT, || {
        let locks = host.run_ok(&["systemd-inhibit", "--list", "--no-legend"])?;
        let kept =
            locks.lines().any(|lock| ["Blixard", "sleep", "block"].iter().all(|word| lock.contains(word)));
        Ok(if kept { Seen::Done(()) } else { Seen::Instead(locks) })
    })
}
