//! A vm is built on one node and runs on another, which has its closure from there.

use anyhow::ensure;

use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::cluster::{Kind, founder_config, join};
use crate::scenario::{Context, Needs, Scenario};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "remote_host_fetches",
    shows: "a vm is built on one node and runs on another, which fetches it and neither evaluates nor builds",
    needs: Needs::Blixard,
    run,
};

/// What evaluation and builds leave in a store.
const DERIVATIONS: &str = "find /nix/store -maxdepth 1 -name '*.drv' | wc -l";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let [builder, host] = context.world(2)?.hosts() else { anyhow::bail!("a world of two hosts") };
    let (builder, host) = (builder.clone(), host.clone());
    builder.install_blixard_with(&binaries, &founder_config(&builder, Kind::Builds))?;
    builder.run_ok(&["blixard", "cluster", "init"])?;
    join(&host, &binaries, &builder, Kind::Runs)?;
    let before = host.shell(DERIVATIONS)?;
    // As on NixOS; who imports has a view of its own.
    host.shell("mount --bind /nix/store /nix/store; mount -o remount,bind,ro /nix/store")?;

    let flake = fixture::prepare(&builder, Fixture::Guests)?;
    builder.run_ok(&["blixard", "deploy", &flake])?;
    for vm in ["hello", "world"] {
        let shown = builder.run_ok(&["blixard", "vm", "show", "-o", "json", vm])?;
        ensure!(shown.contains("\"status\": \"healthy\""), "{vm} does not run: {shown}");
        ensure!(shown.contains(&format!("\"{}\"", host.name())), "{vm} runs elsewhere: {shown}");
    }
    has_fetched(&host)?;
    let written = host.run(&["touch", "/nix/store/written"])?;
    ensure!(
        !written.status.success(),
        "the store is writable for everybody: {}",
        written.unexpected("was written")
    );
    let after = host.shell(DERIVATIONS)?;
    ensure!(after == before, "derivations have come to the host: {before} before, {after} after");
    ensure!(evaluations(&host)? == "0", "the host has evaluated");
    the_next_generation_comes_before_this_one_goes(&builder, &host)?;
    // The builder has, so what is looked for is what there would be.
    ensure!(evaluations(&builder)? != "0", "an evaluation leaves no trace in the journal");
    host.run_ok(&["nix-store", "--verify", "--check-contents"]).map(drop)
}

/// A guest is down for a stop and a start, and not for a transfer.
fn the_next_generation_comes_before_this_one_goes(builder: &Host, host: &Host) -> anyhow::Result<()> {
    let flake = fixture::prepare(builder, Fixture::Sleepers(1))?;
    builder.run_ok(&["blixard", "deploy", &flake])?;
    builder.write(&format!("{flake}/changed.nix"), "[ 1 ]\n", 0o644)?;
    let said = builder.run(&["blixard", "deploy", &flake])?;
    ensure!(said.status.success(), said.unexpected("failed"));
    ensure!(said.stderr.contains(&format!("fetching on {}", host.name())), "{}", said.stderr);
    let journal = host.journal("blixardd")?;
    let of_vm = |line: &&str| line.contains("vm=default/sleeper-1 ");
    let lines: Vec<&str> = journal.lines().filter(of_vm).collect();
    let at = |text: &str| lines.iter().rposition(|line| line.contains(text));
    let (ready, stopped, started) = (at("next generation is ready"), at("stopped"), at("started"));
    ensure!(ready.is_some() && ready < stopped && stopped < started, "not in this order: {lines:#?}");
    let fetched = at("fetched");
    ensure!(fetched < ready, "it was fetched after it was stopped: {lines:#?}");
    Ok(())
}

/// How often the journal speaks of the units in which flakes are evaluated.
fn evaluations(host: &Host) -> anyhow::Result<String> {
    let count = host.shell("journalctl --no-pager | grep --count blixard-confined || true")?;
    Ok(count.trim().to_owned())
}

/// Both runners came over the wire, are valid, and are kept by a root.
fn has_fetched(host: &Host) -> anyhow::Result<()> {
    let journal = host.journal("blixardd")?;
    for vm in ["hello", "world"] {
        let fetched = |line: &str| line.contains("fetched") && line.contains(&format!("vm=default/{vm} "));
        ensure!(journal.lines().any(fetched), "nothing was fetched for {vm}: {journal}");
        let root = format!("readlink /nix/var/nix/gcroots/blixard/vms/default/{vm}/1");
        let path = host.shell(&root)?;
        host.run_ok(&["nix-store", "--check-validity", path.trim()])?;
    }
    Ok(())
}
