//! All daemons are killed at once under load, over and over.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::writers::{self, Wishes};
use super::{await_equal_states, three};
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "all_killed_under_load",
    shows: "kill -9 of all three daemons under 64 writers, 30 rounds: nothing lost, nothing twice, one state, one log",
    needs: Needs::Blixard,
    run,
};

const ROUNDS: usize = 30;
const WRITERS: u32 = 64;
/// Writes on each host before a kill: more than one of each writer there.
const WRITES: usize = 100;
/// Entries that every log keeps before its newest checkpoint; each is compared with two others.
const KEPT: usize = 1000;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let binaries = context.binaries()?;
    let [first, ..] = hosts.as_slice() else { anyhow::bail!("no hosts") };
    let vms = writers::define_sleepers(first, WRITERS)?;
    let shares = vms.chunks(vms.len().div_ceil(hosts.len()));
    for (host, share) in hosts.iter().zip(shares) {
        writers::start(host, &binaries, Wishes::Stop, share)?;
    }
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let (round, took) = wait::timed(|| round(&hosts));
        round.with_context(|| format!("round {}", times.len()))?;
        times.push(took);
    }
    let mut written = 0;
    for host in &hosts {
        let due = writers::stop(host)?;
        written += writers::acknowledged(host)?;
        for asked in &hosts {
            writers::check(&due, asked)?;
        }
    }
    let compared = writers::compare_logs(&hosts)?;
    let longest = times.iter().max().copied().unwrap_or_default();
    tell(times.iter().sum(), longest, (written, compared));
    ensure!(compared >= 2 * KEPT, "only {compared} entries were compared");
    Ok(())
}

#[expect(clippy::print_stdout, reason = "figures of a scenario, for whoever runs it")]
fn tell(all: Duration, longest: Duration, (written, compared): (usize, usize)) {
    let (all, longest) = (all.as_secs_f64(), longest.as_secs_f64());
    println!(
        "    {written} writes, {compared} entries equal; {ROUNDS} rounds in {all:.0} s, the longest {longest:.1} s"
    );
}

fn round(hosts: &[Host]) -> anyhow::Result<()> {
    for host in hosts {
        writers::await_writes(host, WRITES)?;
    }
    // At one moment, and systemd starts them again.
    std::thread::scope(|scope| {
        let kill =
            |host: &'_ Host| host.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"]).map(drop);
        let kills: Vec<_> = hosts.iter().map(|host| scope.spawn(move || kill(host))).collect();
        kills
            .into_iter()
            .try_for_each(|kill| kill.join().unwrap_or_else(|_| anyhow::bail!("a kill has panicked")))
    })?;
    for host in hosts {
        writers::await_writes(host, 1)?;
    }
    for host in hosts {
        writers::pause(host)?;
    }
    await_equal_states(hosts)?;
    hosts.iter().try_for_each(writers::resume)
}
