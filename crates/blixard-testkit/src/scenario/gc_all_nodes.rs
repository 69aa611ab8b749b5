//! `blixard gc` in a cluster: every store is collected, and who is not there is named.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::cluster::{Kind, await_voters, founder_config, join};
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::process::Output;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "gc_all_nodes",
    shows: "gc collects the stores of all nodes, or of one; a node that is gone is named, and holds up no other",
    needs: Needs::Blixard,
    run,
};

const GENERATIONS: usize = 3;
/// Runners that roots of these folders keep on a host.
const KEPT: &str = "{ find /nix/var/nix/gcroots/blixard/vms /nix/var/nix/gcroots/blixard/builds -type l \
    2>/dev/null || true; } | wc -l";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let [builder, runner, witness] = context.world(3)?.hosts() else { anyhow::bail!("three hosts") };
    let (builder, runner, witness) = (builder.clone(), runner.clone(), witness.clone());
    builder.install_blixard_with(&binaries, &founder_config(&builder, Kind::Builds))?;
    builder.run_ok(&["blixard", "cluster", "init"])?;
    join(&runner, &binaries, &builder, Kind::Runs)?;
    join(&witness, &binaries, &builder, Kind::Witness)?;
    await_voters(&builder, 3)?;
    for generation in 1..=GENERATIONS {
        let flake = fixture::prepare(&builder, Fixture::Sleepers(1))?;
        builder.shell(&format!("sed -i 's/\"microvm-/\"microvm-v{generation}-/' {flake}/flake.nix"))?;
        builder.run_ok(&["blixard", "deploy", &flake])?;
    }
    let all = [&builder, &runner, &witness];
    let garbage = all.map(litter).into_iter().collect::<anyhow::Result<Vec<_>>>()?;

    a_dry_run_names_every_store(&builder, &all)?;
    ensure!(
        all.iter().zip(&garbage).all(|(host, path)| is_valid(host, path)),
        "a dry run has removed something"
    );
    only_the_named_one(&builder, &runner, &garbage)?;
    everywhere(&witness, &all, &garbage)?;
    one_is_gone(&builder, &runner, &witness)
}

fn a_dry_run_names_every_store(asked: &Host, all: &[&Host]) -> anyhow::Result<()> {
    let output = collect(asked, &["--dry-run", "--keep", "1"])?;
    let foreseen = json(&output)?;
    ensure!(output.status.success() && list(&foreseen, "forgotten").len() == GENERATIONS - 1, "{foreseen}");
    for host in all {
        let store = store(&foreseen, host)?;
        ensure!(number(&store, "paths") > 0 && number(&store, "bytes") > 0, "nothing would go: {foreseen}");
    }
    let sum: u64 = list(&foreseen, "stores").iter().map(|store| number(store, "bytes")).sum();
    ensure!(number(&foreseen, "bytes") == sum, "{foreseen}");
    Ok(())
}

fn only_the_named_one(asked: &Host, named: &Host, garbage: &[String]) -> anyhow::Result<()> {
    let [on_asked, on_named, _] = garbage else { anyhow::bail!("garbage on three") };
    let output = collect(asked, &["--node", named.name()])?;
    let collected = json(&output)?;
    ensure!(output.status.success() && list(&collected, "stores").len() == 1, "{collected}");
    ensure!(!is_valid(named, on_named), "garbage is still there: {collected}");
    ensure!(is_valid(asked, on_asked), "another node's store was collected: {collected}");
    let nobody = asked.run(&["blixard", "gc", "--node", "nobody"])?;
    ensure!(nobody.status.code() == Some(5), "{}", nobody.unexpected("an unknown node"));
    ensure!(nobody.stderr.contains("blixard node list"), "{}", nobody.stderr);
    asked.run_ok(&["blixard", "gc", "--dry-run", "--node", "1"]).context("a node by its number")?;
    Ok(())
}

/// Asked of the one that neither builds nor runs anything.
fn everywhere(asked: &Host, all: &[&Host; 3], garbage: &[String]) -> anyhow::Result<()> {
    let [builder, runner, _] = all;
    for host in [builder, runner] {
        let before = host.shell(KEPT)?;
        ensure!(before.trim() == GENERATIONS.to_string(), "{} roots on {}", before.trim(), host.name());
    }
    let output = collect(asked, &["--keep", "1"])?;
    ensure!(output.status.success(), "{}", output.unexpected("not collected"));
    for (host, path) in all.iter().zip(garbage) {
        ensure!(!is_valid(host, path), "garbage is left on {}: {}", host.name(), output.stdout);
    }
    for host in [builder, runner] {
        let kept = host.shell(KEPT)?;
        ensure!(kept.trim() == "1", "{} roots are left on {}", kept.trim(), host.name());
        let runners = host.shell("ls -d /nix/store/*-microvm-v*-sleeper-1 | wc -l")?;
        ensure!(runners.trim() == "1", "{} runners are left on {}", runners.trim(), host.name());
    }
    let list = builder.run_ok(&["blixard", "vm", "list"])?;
    ensure!(list.contains("healthy"), "the vm does not run any more: {list}");
    Ok(())
}

fn one_is_gone(asked: &Host, other: &Host, gone: &Host) -> anyhow::Result<()> {
    let garbage = [litter(asked)?, litter(other)?];
    gone.kill()?;
    let output = asked.run(&["blixard", "gc"])?;
    let said = output.unexpected("who is gone must be named");
    ensure!(output.status.code() == Some(3), "{:?}: {said}", output.status.code());
    ensure!(output.stderr.contains(&format!("not collected: {}", gone.name())), "{said}");
    ensure!(
        output.stdout.lines().any(|line| line.starts_with(gone.name()) && line.contains(" - ")),
        "{said}"
    );
    for (host, path) in [asked, other].into_iter().zip(&garbage) {
        ensure!(!is_valid(host, path), "garbage is left on {}: {said}", host.name());
    }
    Ok(())
}

/// A path that nothing needs.
fn litter(host: &Host) -> anyhow::Result<String> {
    Ok(host.shell("date +%s%N > /tmp/garbage; nix-store --add /tmp/garbage")?.trim().to_owned())
}

fn collect(host: &Host, options: &[&str]) -> anyhow::Result<Output> {
    host.run(&[&["blixard", "gc", "-o", "json"], options].concat())
}

fn json(output: &Output) -> anyhow::Result<Value> {
    serde_json::from_str(&output.stdout).with_context(|| output.unexpected("no JSON").to_string())
}

fn list(value: &Value, key: &str) -> Vec<Value> {
    value.get(key).and_then(Value::as_array).cloned().unwrap_or_default()
}

fn number(value: &Value, key: &str) -> u64 {
    value.get(key).and_then(Value::as_u64).unwrap_or_default()
}

fn store(collected: &Value, host: &Host) -> anyhow::Result<Value> {
    let named = |store: &Value| store.get("node").and_then(Value::as_str) == Some(host.name());
    let stores = list(collected, "stores");
    stores.into_iter().find(named).with_context(|| format!("no store of {}: {collected}", host.name()))
}

fn is_valid(host: &Host, path: &str) -> bool {
    host.run(&["nix-store", "--check-validity", path]).is_ok_and(|output| output.status.success())
}
