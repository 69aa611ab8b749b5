//! Vms that are better placed elsewhere move there, one by one; and lower priorities make room for a higher one.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{LIMIT, Trio, await_healthy, cluster_of_three, figure};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::guest::{Guest, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "rebalance",
    shows: "guests that avoid each other part and full hosts give to empty ones, one by one; higher priorities get room",
    needs: Needs::Blixard,
    run,
};

const SLEEPERS: [&str; 3] = ["sleeper-1", "sleeper-2", "sleeper-3"];
const GUESTS: [&str; 2] = ["hello", "world"];

/// Real guests that avoid each other, and runners that only sleep and want a quarter of a host each.
const FLAKE: &str = r#"{
  outputs = { self }: let
    mkGuest = import ./guest.nix;
    sizes = builtins.fromJSON (builtins.readFile ./sizes.json);
    guest = name: mkGuest {
      inherit name;
      spec = { labels.app = "web"; placement.antiAffinity.app = "web"; health.activeForMs = 3000; };
    };
    sleeper = name: memoryMib: placement: derivation {
      name = "microvm-${name}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-euc" ''
        export PATH=/usr/bin:/bin
        mkdir -p $out/bin
        printf '#!/bin/sh\nexec /usr/bin/sleep infinity\n' > $out/bin/microvm-run
        chmod 755 $out/bin/microvm-run
      '' ];
    } // {
      blixard = {
        schema = 1;
        kvm = "unused";
        health.activeForMs = 1000;
        resources = { vcpus = 1; inherit memoryMib; overheadMib = 0; };
        inherit placement;
      };
    };
  in {
    microvms.hello = guest "hello";
    microvms.world = guest "world";
    microvms.sleeper-1 = sleeper "sleeper-1" sizes.quarter { };
    microvms.sleeper-2 = sleeper "sleeper-2" sizes.quarter { };
    microvms.sleeper-3 = sleeper "sleeper-3" sizes.quarter { };
    microvms.vip = sleeper "vip" sizes.most { priority = 10; preempts = true; };
  };
}
"#;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = cluster_of_three(context, |_, config| config + "[fencing]\nprofile = \"fast\"\n")?;
    let trio = Trio::watching(hosts, &[])?;
    let [first, others @ ..] = trio.hosts.as_slice() else { anyhow::bail!("no hosts") };
    let flake = prepare(first)?;
    for other in others {
        first.run_ok(&["blixard", "node", "cordon", other.name()])?;
    }
    for vm in GUESTS.iter().chain(&SLEEPERS) {
        first.run_ok(&["blixard", "deploy", &format!("{flake}#{vm}")])?;
    }
    GUESTS.iter().try_for_each(|name| Guest { host: first, name }.await_boot_after(0))?;
    nothing_is_better_while_there_is_no_other_host(first)?;
    for other in others {
        first.run_ok(&["blixard", "node", "uncordon", other.name()])?;
    }
    let planned = what_would_move_is_told_and_not_done(&trio, first)?;
    everything_moves_as_was_told(&trio, first, &planned)?;
    lower_priorities_make_room(&trio, first, &flake)?;
    trio.check_never_twice()
}

fn prepare(host: &Host) -> anyhow::Result<String> {
    let flake = fixture::prepare(host, Fixture::Guests)?;
    let nodes = json(host, &["node", "list"])?;
    let total = nodes.pointer("/nodes/0/facts/memoryMib").and_then(Value::as_u64).context("no memory")?;
    let sizes = format!("{{ \"quarter\": {}, \"most\": {} }}", total / 4, total * 4 / 5);
    host.write(&format!("{flake}/sizes.json"), sizes, 0o644)?;
    host.write(&format!("{flake}/flake.nix"), FLAKE, 0o644)?;
    Ok(flake)
}

fn json(host: &Host, argv: &[&str]) -> anyhow::Result<Value> {
    let text = host.run_ok(&[&["blixard", "-o", "json"], argv].concat())?;
    serde_json::from_str(&text).with_context(|| format!("{argv:?} gives no JSON: {text}"))
}

/// Where each vm is.
fn places(host: &Host) -> anyhow::Result<Vec<(String, String, u64)>> {
    let list = json(host, &["vm", "list"])?;
    let vms = field(&list, "vms").as_array().cloned().unwrap_or_default();
    let text = |vm: &Value, name: &str| field(vm, name).as_str().unwrap_or_default().to_owned();
    Ok(vms
        .iter()
        .map(|vm| (text(vm, "vm"), text(vm, "node"), field(vm, "epoch").as_u64().unwrap_or_default()))
        .collect())
}

fn nothing_is_better_while_there_is_no_other_host(host: &Host) -> anyhow::Result<()> {
    let said = host.run_ok(&["blixard", "rebalance"])?;
    ensure!(said.contains("every microVM is where it is placed best"), "{said}");
    Ok(())
}

/// The vms that would move, and where to.
fn what_would_move_is_told_and_not_done(trio: &Trio, host: &Host) -> anyhow::Result<Vec<(String, String)>> {
    let before = places(host)?;
    ensure!(before.iter().all(|(_, node, _)| node == host.name()), "{before:?}");
    let plan = json(host, &["rebalance", "--dry-run"])?;
    let moves = field(&plan, "moves").as_array().cloned().unwrap_or_default();
    let because = |words: &str| {
        let told = moves.iter().filter(|one| field(one, "because").to_string().contains(words));
        told.count()
    };
    ensure!(moves.len() == 3 && because("points by affinities") == 1 && because("% full") == 2, "{plan}");
    let table = host.run_ok(&["blixard", "rebalance", "--dry-run"])?;
    ensure!(table.contains("WOULD GO TO") && table.contains("default/sleeper-"), "{table}");
    ensure!(places(host)? == before, "a dry run has moved something");
    let text = |one: &Value, name: &str| field(one, name).as_str().unwrap_or_default().to_owned();
    ensure!(trio.watch.spans().iter().all(|span| span.to.is_none()), "a dry run has stopped something");
    Ok(moves.iter().map(|one| (text(one, "vm"), text(one, "to"))).collect())
}

fn everything_moves_as_was_told(
    trio: &Trio,
    host: &Host,
    planned: &[(String, String)],
) -> anyhow::Result<()> {
    let before = places(host)?;
    let began = trio.watch.now();
    host.run_ok(&["blixard", "rebalance"])?;
    figure(SCENARIO.name, "three moves, one after another", began, trio.watch.now());
    for (vm, node, epoch) in places(host)? {
        let moved = planned.iter().find(|(moved, _)| *moved == vm).map(|(_, to)| to.as_str());
        let old = before.iter().find(|(old, ..)| *old == vm).context("a vm has come")?;
        ensure!(node == moved.unwrap_or(host.name()), "{vm} is on {node}, not on {moved:?}");
        ensure!(epoch == old.2 + u64::from(moved.is_some()), "{vm} was placed {} times", epoch - old.2);
    }
    let guest = planned.iter().find_map(|(vm, _)| GUESTS.into_iter().find(|name| vm.ends_with(name)));
    let guest = Guest { host, name: guest.context("no guest has moved")? };
    let moved = guest.host.journal(&guest.unit())?;
    ensure!(moved.contains(&format!("blixard-guest {} down", guest.name)), "it was not asked: {moved}");
    one_after_another(host)?;
    let again = json(host, &["rebalance"])?;
    ensure!(field(&again, "moves").as_array().is_some_and(Vec::is_empty), "{again}");
    Ok(())
}

/// Each vm was told to move when the one before was healthy.
fn one_after_another(host: &Host) -> anyhow::Result<()> {
    let lines = host.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    let mut on_the_way = None;
    let mut moves = 0;
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line).context("an event is no JSON")?;
        let vm = field(&event, "vm").as_str().unwrap_or_default().to_owned();
        match field(&event, "event").as_str().unwrap_or_default() {
            "move-requested" => {
                ensure!(on_the_way.is_none(), "{vm} moves beside {on_the_way:?}: {lines}");
                (on_the_way, moves) = (Some(vm), moves + 1);
            }
            "phase-reached" if on_the_way.as_ref() == Some(&vm) && field(&event, "detail") == "healthy" => {
                on_the_way = None;
            }
            _ => {}
        }
    }
    ensure!(moves == 3 && on_the_way.is_none(), "{moves} moves, {on_the_way:?} is on its way: {lines}");
    Ok(())
}

/// No host has room for it before somebody lets lower ones make it.
fn lower_priorities_make_room(trio: &Trio, host: &Host, flake: &str) -> anyhow::Result<()> {
    let refused = host.run(&["blixard", "deploy", &format!("{flake}#vip")])?.refused()?;
    ensure!(refused.contains("MiB of memory"), "{refused}");
    let before = places(host)?;
    let began = trio.watch.now();
    host.run_ok(&["blixard", "cluster", "preemption", "on"])?;
    await_healthy(host, "vip")?;
    figure(SCENARIO.name, "healthy after lower ones were told to make room", began, trio.watch.now());
    let lines = host.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    let gone =
        lines.lines().filter(|line| line.contains("\"preempted\"") && line.contains("for default/vip"));
    let gone: Vec<Value> = gone.map(serde_json::from_str).collect::<Result<_, _>>()?;
    ensure!(gone.len() == 1, "one quarter is in its way: {gone:?}");
    let victim = gone.first().map(|event| field(event, "vm").to_string()).unwrap_or_default();
    ensure!(victim.contains("default/sleeper-"), "{victim} has made room");
    wait::until("the others to run as before", LIMIT, || {
        let now = places(host)?;
        let others = before.iter().filter(|(vm, ..)| !victim.contains(vm.as_str()) && !vm.ends_with("vip"));
        let same = others.into_iter().all(|old| now.contains(old));
        let list = host.run_ok(&["blixard", "vm", "list"])?;
        let healthy = list.matches(" healthy ").count() == 6;
        Ok(if same && healthy { Seen::Done(()) } else { Seen::Instead(format!("{now:?}: {list}")) })
    })?;
    let explained = host.run_ok(&["blixard", "vm", "explain", "vip"])?;
    ensure!(explained.contains("default/vip is healthy on"), "{explained}");
    Ok(())
}
