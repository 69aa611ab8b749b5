//! The leader's daemon is killed over and over under a stream of writes.

use anyhow::ensure;

use super::writers::{self, Wishes};
use super::{await_equal_states, leader, three};
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "leader_kill",
    shows: "kill -9 of the leader's daemon under writes, 20 rounds: nothing acknowledged is lost, nothing is applied twice",
    needs: Needs::Blixard,
    run,
};

const ROUNDS: usize = 20;
const WRITERS: u32 = 2;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let binaries = context.binaries()?;
    let [first, second, _] = hosts.as_slice() else { anyhow::bail!("not three hosts") };
    let vms = writers::deploy_sleepers(first, WRITERS)?;
    writers::start(second, &binaries, Wishes::Toggle, &vms)?;
    for _ in 0..ROUNDS {
        writers::await_writes(second, 1)?;
        let leads = leader(&hosts, second).or_else(|_| leader(&hosts, first))?;
        // systemd starts it again.
        leads.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"])?;
        // One may have been acknowledged before the kill; the others are not.
        writers::await_writes(second, 1 + vms.len())?;
    }
    super::await_voters(second, 3)?;
    let due = writers::stop(second)?;
    for host in &hosts {
        writers::check(&due, host)?;
    }
    ensure!(writers::acknowledged(second)? >= ROUNDS, "too few writes to prove anything");
    await_equal_states(&hosts).map(drop)
}
