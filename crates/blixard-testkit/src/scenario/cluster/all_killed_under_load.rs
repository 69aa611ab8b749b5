//! All daemons are killed at once under load, over and over.

use super::{await_equal_states, await_voters, three, writers};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "all_killed_under_load",
    shows: "kill -9 of all three daemons under writers and a restart, over and over: one state on all",
    needs: Needs::Blixard,
    run,
};

const ROUNDS: usize = 10;
const WRITERS: usize = 8;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let [first, ..] = hosts.as_slice() else { anyhow::bail!("no hosts") };
    writers::deploy_sleepers(first, u32::try_from(WRITERS)?)?;
    let vms: Vec<String> = (1..=WRITERS).map(|number| format!("sleeper-{number}")).collect();
    for round in 0..ROUNDS {
        for host in &hosts {
            writers::start(host, &vms)?;
        }
        wait::until(&format!("writes in round {round}"), super::LIMIT, || {
            let written = writers::acknowledged(first)?;
            Ok(if written >= WRITERS { Seen::Done(()) } else { Seen::Instead(written.to_string()) })
        })?;
        for host in &hosts {
            host.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"])?;
        }
        for host in &hosts {
            host.run_ok(&["touch", "/run/writers/end"])?;
        }
        for host in &hosts {
            host.shell("systemctl reset-failed blixardd 2>/dev/null || true; systemctl start blixardd")?;
        }
        await_voters(first, hosts.len())?;
        for host in &hosts {
            writers::stop(host, &vms)?;
        }
        await_equal_states(&hosts)?;
    }
    Ok(())
}
