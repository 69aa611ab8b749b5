//! One server is cut off: it refuses, clearly; the others go on; it comes back clean.

use anyhow::{Context as _, ensure};

use super::{await_equal_states, await_voters, leader, members, refused_as_cut_off, text, three, writers};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "minority_partition",
    shows: "a leader that is cut off refuses writes and linearizable reads with one error, and rejoins clean",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let [first, ..] = hosts.as_slice() else { anyhow::bail!("no hosts") };
    writers::deploy_sleepers(first, 1)?;
    let cut = leader(&hosts, first)?;
    let other = hosts.iter().find(|host| host.name() != cut.name()).context("one host")?;
    let world = context.last_world()?;
    world.cut(cut)?;
    // Both refuse: what was a leader, and cannot know yet that it is none any more, too.
    refused_as_cut_off(cut, &["blixard", "vm", "stop", "--no-wait", "sleeper-1"])?;
    refused_as_cut_off(cut, &["blixard", "vm", "list"])?;
    let stale = cut.run_ok(&["blixard", "vm", "list", "--stale"])?;
    ensure!(stale.contains("sleeper-1"), "what it knows is not shown: {stale}");
    cut.run_ok(&["blixard", "cluster", "status"])?;

    wait::until("the others to go on", super::LIMIT, || {
        let output = other.run(&["blixard", "vm", "stop", "--no-wait", "sleeper-1"])?;
        Ok(if output.status.success() { Seen::Done(()) } else { Seen::Instead(output.stderr) })
    })?;
    let status = super::cluster_status(other, &[])?;
    let unreachable = |member: &&serde_json::Value| !text(member, "unreachable").is_empty();
    let lost: Vec<_> =
        members(&status).iter().filter(unreachable).map(|one| text(one, "name").to_owned()).collect();
    ensure!(lost == [cut.name()], "unreachable are {lost:?}");

    world.mend(cut)?;
    await_voters(cut, hosts.len())?;
    let shown = cut.run_ok(&["blixard", "vm", "show", "-o", "json", "sleeper-1"])?;
    ensure!(shown.contains("\"desired\": \"stopped\""), "it has not caught up: {shown}");
    await_equal_states(&hosts).map(drop)
}
