//! A vm with a local volume: it is where that is, or waits, and what is on it stays.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{LIMIT, Trio, await_back, await_healthy};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "volume_sticks",
    shows: "a guest's disk keeps what is on it, grows, is never shrunk, holds its vm on its host, and goes only on somebody's word",
    needs: Needs::Blixard,
    run,
};

const VM: &str = "keeper";
const HOME: &str = "/var/lib/blixard/vms/default/keeper";

/// What a boot of the guest has found on its disks.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Found {
    /// The marker on the local one, and its size in sectors of 512 bytes.
    data: String,
    sectors: u64,
    /// The marker on the ephemeral one.
    scratch: String,
}

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "fast", Fixture::Volumes, &[VM])?;
    let host = trio.host(&trio.run_of(VM)?.host)?.clone();
    let asked = trio.other_than(&host)?.clone();
    let first = made(&host, &asked)?;
    let grown = grows_and_does_not_shrink(&asked, &first)?;
    waits_for_its_host(&trio, (&host, &asked), &grown)?;
    runs_elsewhere_when_given_up(&trio, (&host, &asked), &grown)?;
    goes_on_somebodys_word(&trio, (&host, &asked), &grown)?;
    trio.check_never_twice()
}

fn json(host: &Host, argv: &[&str]) -> anyhow::Result<Value> {
    let text = host.run_ok(&[&["blixard", "-o", "json"], argv].concat())?;
    serde_json::from_str(&text).with_context(|| format!("{argv:?} gives no JSON: {text}"))
}

/// The volumes, as `name node state size`.
fn volumes(asked: &Host) -> anyhow::Result<Vec<String>> {
    let listed = json(asked, &["volume", "list"])?;
    let volumes = listed.get("volumes").and_then(Value::as_array).context("no volumes")?;
    let word = |volume: &Value, key: &str| {
        let value = volume.get(key).cloned().unwrap_or_default();
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let shown =
        |volume: &Value| ["volume", "node", "state", "sizeMib"].map(|key| word(volume, key)).join(" ");
    Ok(volumes.iter().map(shown).collect())
}

/// What the run has found that the cluster says is there now, once its guest has booted.
fn found(asked: &Host) -> anyhow::Result<Found> {
    wait::until("the guest to say what it finds", LIMIT, || {
        let shown = json(asked, &["vm", "show", VM])?;
        let number = |key: &str| shown.get(key).and_then(Value::as_u64).unwrap_or_default();
        let run = format!(" run {}.{}", number("runningGeneration"), number("epoch"));
        let console = asked.run(&["blixard", "vm", "logs", VM])?.stdout;
        let said = |disk: &str| {
            let begins = format!("blixard-disk {disk} ");
            let line =
                console.lines().rfind(|line| line.contains(&begins) && line.trim_end().ends_with(&run))?;
            let (marker, sectors) = line.split_once(&begins)?.1.split_once(" sectors ")?;
            Some((marker.to_owned(), sectors.split_once(' ')?.0.parse().ok()?))
        };
        Ok(match said("vda").zip(said("vdc")) {
            Some(((data, sectors), (scratch, _))) => Seen::Done(Found { data, sectors, scratch }),
            None => Seen::Instead(format!("{run} in {console}")),
        })
    })
}

fn deploy(asked: &Host, data_mib: u64) -> anyhow::Result<crate::process::Output> {
    let flake = fixture::prepare(asked, Fixture::Volumes)?;
    asked.write(&format!("{flake}/sizes.nix"), format!("{{ data = {data_mib}; }}\n"), 0o644)?;
    asked.run(&["blixard", "deploy", "--take-over", &flake])
}

/// The images are there, sparse, with their file systems, and the guest writes to them.
fn made(host: &Host, asked: &Host) -> anyhow::Result<Found> {
    let name = host.name();
    let expected =
        [format!("default/keeper:data {name} made 8"), format!("default/keeper:files {name} made 16")];
    ensure!(volumes(asked)? == expected, "{:?}", volumes(asked)?);
    let sizes = host.run_ok(&[
        "stat",
        "--format=%s %a",
        &format!("{HOME}/data.img"),
        &format!("{HOME}/scratch.img"),
    ])?;
    ensure!(sizes == "8388608 600\n4194304 600\n", "{sizes}");
    let label = host.run_ok(&["e2label", &format!("{HOME}/disks/files.img")])?;
    ensure!(label.trim() == "files", "{label}");
    let first = found(asked)?;
    let on_disk = host.shell(&format!("head -c 64 {HOME}/data.img | tr -d '\\0'"))?;
    ensure!(first.data.starts_with("new-") && on_disk == first.data, "{first:?}, {on_disk}");
    ensure!(first.sectors == 16_384, "{first:?}");
    Ok(first)
}

fn grows_and_does_not_shrink(asked: &Host, first: &Found) -> anyhow::Result<Found> {
    deploy(asked, 12)?.ok()?;
    let grown = found(asked)?;
    let expected = Found { sectors: 24_576, ..first.clone() };
    ensure!(grown == expected, "the new generation finds {grown:?}, not {expected:?}");
    let refused = deploy(asked, 8)?.refused()?;
    ensure!(refused.contains("has 12 MiB and is not shrunk to 8 MiB"), "{refused}");
    asked.run_ok(&["blixard", "vm", "restart", VM])?;
    let again = found(asked)?;
    ensure!((&again.data, again.sectors) == (&grown.data, 24_576), "a restart finds {again:?}");
    ensure!(again.scratch != grown.scratch, "the ephemeral volume outlives its placement: {again:?}");
    Ok(again)
}

/// Its host dies: it waits, with the reason and what a person can do, and nothing of it runs anywhere.
fn await_waiting(trio: &Trio, (host, asked): (&Host, &Host)) -> anyhow::Result<()> {
    host.kill()?;
    let reason = format!("its volumes data, files are on {}, which is lost", host.name());
    wait::until("the vm to wait for its host", LIMIT, || {
        let shown = json(asked, &["vm", "show", VM])?;
        let waits = shown.get("status").and_then(Value::as_str) == Some("pending")
            && shown.get("reason").is_some_and(|text| text.to_string().contains(&reason));
        Ok(if waits { Seen::Done(()) } else { Seen::Instead(shown.to_string()) })
    })?;
    let explained = asked.run_ok(&["blixard", "vm", "explain", VM])?;
    ensure!(explained.contains("`blixard volume forget default/keeper:data` and"), "{explained}");
    ensure!(explained.contains("does not have the volume data"), "{explained}");
    ensure!(trio.run_of(VM).is_err(), "it runs: {:?}", trio.watch.spans());
    Ok(())
}

fn waits_for_its_host(trio: &Trio, (host, asked): (&Host, &Host), before: &Found) -> anyhow::Result<()> {
    await_waiting(trio, (host, asked))?;
    let spans = trio.watch.spans();
    ensure!(spans.iter().all(|span| span.host == host.name()), "it ran elsewhere: {spans:?}");
    host.boot()?;
    super::super::cluster::await_voters(host, 3)?;
    await_back(asked)?;
    await_healthy(asked, VM)?;
    ensure!(trio.run_of(VM)?.host == host.name(), "{:?}", trio.watch.spans());
    let back = found(asked)?;
    ensure!(back.data == before.data && back.scratch != before.scratch, "{back:?} after {before:?}");
    Ok(())
}

fn runs_elsewhere_when_given_up(
    trio: &Trio,
    (host, asked): (&Host, &Host),
    before: &Found,
) -> anyhow::Result<()> {
    let refused = asked.run(&["blixard", "volume", "forget", VM])?.refused()?;
    ensure!(refused.contains("is in use: vm default/keeper is on a host"), "{refused}");
    await_waiting(trio, (host, asked))?;
    let would = asked.run_ok(&["blixard", "volume", "forget", VM, "--dry-run"])?;
    ensure!(would.contains("default/keeper:data: would be given up"), "{would}");
    asked.run_ok(&["blixard", "volume", "forget", VM])?;
    let moved = trio.await_elsewhere(VM, host.name())?;
    await_healthy(asked, VM)?;
    let new = found(asked)?;
    ensure!(new.data != before.data, "{new:?} is no new volume");
    let there = volumes(asked)?;
    ensure!(there.iter().all(|volume| volume.contains(&moved.host)) && there.len() == 2, "{there:?}");
    host.boot()?;
    super::super::cluster::await_voters(host, 3)?;
    Ok(())
}

/// Deleted, and made anew on the host that has a leftover of another life.
fn goes_on_somebodys_word(trio: &Trio, (host, asked): (&Host, &Host), before: &Found) -> anyhow::Result<()> {
    let second = trio.host(&trio.run_of(VM)?.host)?.clone();
    let refused = asked.run(&["blixard", "volume", "delete", "keeper:data"])?.refused()?;
    ensure!(refused.contains("is in use"), "{refused}");
    asked.run_ok(&["blixard", "vm", "stop", VM])?;
    let would = asked.run_ok(&["blixard", "volume", "delete", "keeper:data", "--dry-run"])?;
    ensure!(would.contains(&format!("would be removed from {}", second.name())), "{would}");
    for volume in ["keeper:data", "keeper:files"] {
        asked.run_ok(&["blixard", "volume", "delete", volume])?;
    }
    ensure!(volumes(asked)?.is_empty(), "{:?}", volumes(asked)?);
    let left = second.shell(&format!("find {HOME} /var/lib/blixard/volumes -type f 2>/dev/null || true"))?;
    ensure!(left.is_empty(), "files of deleted volumes are left: {left}");
    for other in trio.hosts.iter().filter(|other| other.name() != host.name()) {
        asked.run_ok(&["blixard", "node", "cordon", other.name()])?;
    }
    asked.run_ok(&["blixard", "vm", "start", VM])?;
    ensure!(trio.run_of(VM)?.host == host.name(), "{:?}", trio.watch.spans());
    let new = found(asked)?;
    ensure!(new.data != before.data, "a leftover was taken for a new volume: {new:?}");
    let aside = host.shell(&format!("head -c 64 {HOME}/data.img.life-1 | tr -d '\\0'"))?;
    ensure!(aside == before.data, "what was given up is not kept: {aside}");
    asked.run_ok(&["blixard", "vm", "delete", VM, "--volumes"])?;
    ensure!(volumes(asked)?.is_empty(), "{:?}", volumes(asked)?);
    let left = host.shell(&format!("find {HOME} /var/lib/blixard/volumes -type f 2>/dev/null || true"))?;
    ensure!(left.is_empty(), "files of a deleted vm are left: {left}");
    Ok(())
}
