//! The leader's daemon is killed over and over under a stream of writes.

use anyhow::ensure;

use super::{await_equal_states, leader, three, writers};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leader_kill",
    shows: "kill -9 of the leader's daemon under writes, 20 rounds: nothing acknowledged is lost",
    needs: Needs::Blixard,
    run,
};

const ROUNDS: usize = 20;
const WRITERS: usize = 2;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let [first, second, _] = hosts.as_slice() else { anyhow::bail!("not three hosts") };
    writers::deploy_sleepers(first, u32::try_from(WRITERS)?)?;
    let vms: Vec<String> = (1..=WRITERS).map(|number| format!("sleeper-{number}")).collect();
    writers::start(second, &vms)?;
    for round in 0..ROUNDS {
        let before = writers::acknowledged(second)?;
        let leads = leader(&hosts, second).or_else(|_| leader(&hosts, first))?;
        // systemd starts it again.
        leads.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"])?;
        wait::until(&format!("writes to go on after round {round}"), super::LIMIT, || {
            let now = writers::acknowledged(second)?;
            Ok(if now > before { Seen::Done(()) } else { Seen::Instead(now.to_string()) })
        })?;
    }
    super::await_voters(second, 3)?;
    writers::stop(second, &vms)?;
    for host in &hosts {
        writers::check(second, host, &vms)?;
    }
    ensure!(writers::acknowledged(second)? >= ROUNDS, "too few writes to prove anything");
    await_equal_states(&hosts).map(drop)
}
