//! A guest that dies again and again: started again where it is, then elsewhere, ever more rarely, then not at all.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{await_healthy, cluster_of_three, figure};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::guest::{Guest, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "crash_loop",
    shows: "a guest that dies is started again, placed elsewhere after growing pauses, then failed, with its last words",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(5);
const VM: &str = "default/crasher";
/// Starts on one host: what the flake says of bursts.
const BURST: usize = 2;
/// The pauses before it is placed again.
const PAUSES_S: [u64; 4] = [10, 20, 40, 80];

/// A runner that says where and how often it was placed, tries to steer the reader's terminal, and dies; and one that lives.
const FLAKE: &str = r#"{
  outputs = { self }: let
    vm = name: words: derivation {
      name = "microvm-${name}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      inherit words;
      args = [ "-euc" ''
        export PATH=/usr/bin:/bin
        mkdir -p $out/bin
        printf '#!/bin/sh\n%s\n' "$words" > $out/bin/microvm-run
        chmod 755 $out/bin/microvm-run
      '' ];
    } // {
      blixard = {
        schema = 1;
        kvm = "unused";
        health.activeForMs = 3000;
        resources = { vcpus = 1; memoryMib = 16; overheadMib = 16; };
        restart = { delayMs = 1000; burst = 2; withinMs = 120000; };
      };
    };
  in {
    microvms.crasher = vm "crasher" ''
      echo "boots at epoch $BLIXARD_EPOCH"
      printf '\033[31mpanic: no disk at epoch %s\033[0m\n' "$BLIXARD_EPOCH"
      exit 3
    '';
    microvms.steady = vm "steady" "exec /usr/bin/sleep infinity";
  };
}
"#;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = cluster_of_three(context, |_, config| config + "[fencing]\nprofile = \"fast\"\n")?;
    let asked = hosts.first().context("no hosts")?;
    // The programs that derivations need are there.
    fixture::prepare(asked, Fixture::Empty)?;
    asked.write("/root/crash/flake.nix", FLAKE, 0o644)?;
    asked.run_ok(&["blixard", "deploy", "/root/crash#steady"])?;
    let before = placed(asked, "default/steady")?;

    let said = asked.run(&["blixard", "deploy", "/root/crash#crasher"])?.refused()?;
    ensure!(said.contains("its unit has ended") && said.contains("panic: no disk at epoch 1"), "{said}");
    let crasher = Guest { host: asked, name: "crasher" };
    waits_with_its_last_words(crasher)?;
    let given_up = gives_up(crasher)?;
    every_pause_was_twice_the_last(asked)?;
    each_host_had_a_burst_of_starts(&hosts, given_up)?;
    is_tried_again_when_asked(crasher, given_up)?;
    nothing_is_left_of_it(&hosts)?;
    await_healthy(asked, "steady")?;
    ensure!(placed(asked, "default/steady")? == before, "another vm was placed anew");
    Ok(())
}

fn reason(shown: &Value) -> &str {
    field(shown, "reason").as_str().unwrap_or_default()
}

/// Between two tries people see that it is tried again, why it failed, and what it said.
fn waits_with_its_last_words(guest: Guest<'_>) -> anyhow::Result<()> {
    let shown = guest.shown()?;
    ensure!(field(&shown, "status") == "failed", "{shown}");
    let told = reason(&shown);
    ensure!(told.contains("failed 1 times, tried again later: its unit has ended"), "{shown}");
    ensure!(told.contains("boots at epoch 1\n") && told.contains("panic: no disk at epoch 1"), "{shown}");
    let table = guest.host.run_ok(&["blixard", "vm", "show", guest.name])?;
    ensure!(table.contains("\n               panic: no disk at epoch 1\n"), "{table}");
    ensure!(!table.contains('\u{1b}'), "a guest steers the terminal: {table}");
    let list = guest.host.run_ok(&["blixard", "vm", "list"])?;
    ensure!(list.lines().count() == 3 && !list.contains('\u{1b}'), "a reason breaks the table: {list}");
    Ok(())
}

/// Waits until nobody tries any more; gives its last epoch.
fn gives_up(guest: Guest<'_>) -> anyhow::Result<u64> {
    wait::until("the vm to be given up", LIMIT, || {
        let shown = guest.shown()?;
        let over = "failed 5 times in a row; `blixard vm start` or a new generation tries again: its unit";
        let epoch = field(&shown, "epoch").as_u64().unwrap_or_default();
        let words = format!("panic: no disk at epoch {epoch}");
        let done = reason(&shown).contains(over) && reason(&shown).contains(&words);
        Ok(if done { Seen::Done(epoch) } else { Seen::Instead(shown.to_string()) })
    })
}

fn events(asked: &Host, vm: &str) -> anyhow::Result<Vec<Value>> {
    let lines = asked.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    let events = lines.lines().map(|line| serde_json::from_str::<Value>(line).context("an event is no JSON"));
    let events = events.collect::<anyhow::Result<Vec<_>>>()?;
    Ok(events.into_iter().filter(|event| field(event, "vm") == vm).collect())
}

/// The epochs of a vm, with the node and the time of each.
fn placed(asked: &Host, vm: &str) -> anyhow::Result<Vec<(u64, u64, u64)>> {
    let number = |event: &Value, name: &str| field(event, name).as_u64().unwrap_or_default();
    let events = events(asked, vm)?;
    let placed = events.iter().filter(|event| field(event, "event") == "placed");
    Ok(placed.map(|event| (number(event, "epoch"), number(event, "node"), number(event, "atMs"))).collect())
}

fn every_pause_was_twice_the_last(asked: &Host) -> anyhow::Result<()> {
    let placed = placed(asked, VM)?;
    ensure!(placed.len() == PAUSES_S.len() + 1, "{placed:?}");
    let elsewhere =
        placed.windows(2).all(|pair| matches!(pair, [(_, one, _), (_, other, _)] if one != other));
    ensure!(elsewhere, "it was placed again where it had failed: {placed:?}");
    let events = events(asked, VM)?;
    let failed = events.iter().filter(|event| field(event, "event") == "failed");
    let failed: Vec<u64> = failed.filter_map(|event| field(event, "atMs").as_u64()).collect();
    ensure!(failed.len() == placed.len(), "{events:?}");
    for ((ended, (epoch, node, at)), pause) in failed.iter().zip(placed.iter().skip(1)).zip(PAUSES_S) {
        let (ended, at) = (Duration::from_millis(*ended), Duration::from_millis(*at));
        figure(SCENARIO.name, &format!("epoch {epoch}, on node {node}, was placed after"), ended, at);
        ensure!(
            at >= ended + Duration::from_secs(pause),
            "it was placed {:?} after it had failed",
            at.saturating_sub(ended)
        );
    }
    Ok(())
}

fn each_host_had_a_burst_of_starts(hosts: &[Host], last: u64) -> anyhow::Result<()> {
    let unit = Guest { host: hosts.first().context("no hosts")?, name: "crasher" }.unit();
    for epoch in 1..=last {
        let said = |host: &Host| {
            let console = host.run_ok(&["journalctl", "--no-pager", "--output=cat", "--unit", &unit])?;
            Ok(console.matches(&format!("boots at epoch {epoch}\n")).count())
        };
        let starts = hosts.iter().map(said).collect::<anyhow::Result<Vec<_>>>()?;
        ensure!(starts.iter().sum::<usize>() == BURST, "epoch {epoch} was started {starts:?} times");
        ensure!(starts.contains(&BURST), "epoch {epoch} ran on two hosts: {starts:?}");
    }
    Ok(())
}

fn is_tried_again_when_asked(guest: Guest<'_>, last: u64) -> anyhow::Result<()> {
    let said = guest.host.run(&["blixard", "vm", "start", guest.name])?.refused()?;
    ensure!(said.contains(&format!("panic: no disk at epoch {}", last + 1)), "{said}");
    let shown = guest.shown()?;
    ensure!(field(&shown, "failures") == 1 && field(&shown, "epoch") == last + 1, "{shown}");
    guest.host.run_ok(&["blixard", "vm", "delete", guest.name]).map(drop)
}

fn nothing_is_left_of_it(hosts: &[Host]) -> anyhow::Result<()> {
    hosts.iter().try_for_each(|host| Guest { host, name: "crasher" }.await_no_unit())
}
