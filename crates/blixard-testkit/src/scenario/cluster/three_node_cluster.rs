//! A machine with guests becomes a cluster of three, and any of them is as good as another.

use anyhow::{Context as _, ensure};

use super::{Kind, await_equal_states, await_voters, founder_config, join};
use crate::fixture::{self, Fixture};
use crate::scenario::guest::Guest;
use crate::scenario::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "three_node_cluster",
    shows: "a machine that runs guests becomes a cluster of three without touching them; any server deploys",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let hosts = context.world(3)?.hosts().to_vec();
    let [first, second, third] = hosts.as_slice() else { anyhow::bail!("not three hosts") };
    first.install_blixard(&binaries)?;
    let refused = first.run(&["blixard", "cluster", "init"])?.refused()?;
    ensure!(refused.contains("cluster.listen"), "what to do is not said: {refused}");

    let guests = fixture::prepare(first, Fixture::Guests)?;
    first.run_ok(&["blixard", "deploy", &guests])?;
    let hello = Guest { host: first, name: "hello" };
    hello.await_boot_after(0)?;
    let before = hello.healthy()?;

    first.write("/etc/blixard/blixardd.toml", founder_config(first, Kind::Whole), 0o644)?;
    first.run_ok(&["systemctl", "restart", "blixardd"])?;
    let made = first.run_ok(&["blixard", "cluster", "init"])?;
    let again = first.run_ok(&["blixard", "cluster", "init"])?;
    ensure!(made == again, "a second init made something else: {made} {again}");
    join(second, &binaries, first, Kind::Witness)?;
    // The third asks at the second.
    await_voters(first, 1)?;
    join(third, &binaries, second, Kind::Witness)?;
    await_voters(second, 3)?;
    ensure!(hello.healthy()? == before, "the guest was touched: {before:?}");

    for host in [second, third] {
        let list = host.run_ok(&["blixard", "vm", "list"])?;
        ensure!(list.contains("hello"), "{} does not know the guests: {list}", host.name());
        let nodes = host.run_ok(&["blixard", "node", "list"])?;
        ensure!(nodes.matches("ready").count() >= 1 && nodes.contains("n3"), "{nodes}");
        let said = host.run_ok(&["blixard", "vm", "logs", "hello"])?;
        ensure!(said.contains("blixard-guest hello"), "no console on {}: {said}", host.name());
    }
    third.run_ok(&["blixard", "vm", "stop", "world"]).context("a write to a follower")?;
    let shown = second.run_ok(&["blixard", "vm", "show", "world", "-o", "json"])?;
    ensure!(shown.contains("\"stopped\""), "{shown}");
    let same = fixture::prepare(third, Fixture::Guests)?;
    third.run_ok(&["blixard", "deploy", &same]).context("a deployment from a server that does not build")?;
    a_follower_shows_what_was_written_through_it(third)?;
    watch_goes_on_elsewhere(&hosts)?;
    await_equal_states(&hosts).map(drop)
}

/// A token is shown only when the state of the server that was asked has it, at once and every time.
fn a_follower_shows_what_was_written_through_it(follower: &crate::host::Host) -> anyhow::Result<()> {
    for round in 0..40 {
        let made = follower.run_ok(&["blixard", "cluster", "token", "create", "--ttl", "10m"]);
        made.with_context(|| format!("token {round}"))?;
    }
    Ok(())
}

/// What two servers tell after the same revision is the same.
fn watch_goes_on_elsewhere(hosts: &[crate::host::Host]) -> anyhow::Result<()> {
    let known = |index: usize, since: &str| {
        hosts
            .get(index)
            .context("no such host")?
            .run_ok(&["blixard", "events", "-o", "json", "--since", since])
    };
    let all = known(0, "0")?;
    let middle = all.lines().nth(all.lines().count() / 2).context("no events")?;
    let event: serde_json::Value = serde_json::from_str(middle)?;
    let revision = event.get("revision").context("no revision")?.to_string();
    let first = known(0, &revision)?;
    for index in 1..hosts.len() {
        ensure!(known(index, &revision)?.starts_with(first.trim_end()), "another history on {index}");
    }
    Ok(())
}
