//! People take hosts out of service: cordoned, drained, declared lost.

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Trio, await_back, figure};
use crate::fixture::Fixture;
use crate::host::Host;
use crate::scenario::guest::{Guest, GuestRun, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "drain",
    shows: "a host is drained: its guests shut down and move, one when the other is healthy; cordoned and lost ones too",
    needs: Needs::Blixard,
    run,
};

const VMS: [&str; 2] = ["hello", "world"];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let trio = Trio::with(context, "default", Fixture::Guests, &VMS)?;
    let [first, second, third] = trio.hosts.as_slice() else { anyhow::bail!("not three hosts") };
    let before = gather(first, [second, third])?;
    nothing_new_comes_to_a_cordoned_host(&trio, first, &before)?;
    trio_is_open(&trio)?;
    a_drained_host_is_left_by_one_guest_after_another(&trio, first, second)?;
    what_has_no_place_stays_until_the_deadline(&trio, second)?;
    what_ran_on_a_host_that_is_declared_lost_runs_elsewhere(&trio)?;
    trio.check_never_twice()
}

/// Both guests come to one host, because the others are cordoned; one that runs on those is not touched.
fn gather(home: &Host, others: [&Host; 2]) -> anyhow::Result<Vec<GuestRun>> {
    let guests = VMS.map(|name| Guest { host: home, name });
    for other in others {
        let said = home.run_ok(&["blixard", "node", "cordon", other.name()])?;
        ensure!(said.contains("cordoned"), "{said}");
    }
    for guest in guests {
        let shown = guest.await_status("healthy")?;
        if field(&shown, "node") != home.name() {
            let host = others.into_iter().find(|other| field(&shown, "node") == other.name());
            let there = Guest { host: host.context("it is on no host")?, ..guest };
            // What it is told before it listens is lost on it.
            there.await_boot_after(0)?;
            home.run_ok(&["blixard", "vm", "restart", guest.name])?;
            await_on(guest, home)?;
        }
        guest.await_boot_after(0)?;
    }
    guests.into_iter().map(Guest::healthy).collect()
}

fn nothing_new_comes_to_a_cordoned_host(trio: &Trio, home: &Host, runs: &[GuestRun]) -> anyhow::Result<()> {
    home.run_ok(&["blixard", "node", "cordon", home.name()])?;
    let [hello, world] = VMS.map(|name| Guest { host: home, name });
    home.run_ok(&["blixard", "vm", "stop", hello.name])?;
    hello.await_status("stopped")?;
    home.run_ok(&["blixard", "vm", "start", "--no-wait", hello.name])?;
    let waits = hello.await_status("pending")?;
    let reason = field(&waits, "reason").as_str().unwrap_or_default();
    for host in &trio.hosts {
        ensure!(reason.contains(&format!("{}: takes no new vms", host.name())), "{waits}");
    }
    ensure!(Some(&world.healthy()?) == runs.last(), "a guest on a cordoned host was touched");
    home.run_ok(&["blixard", "node", "uncordon", home.name()])?;
    await_on(hello, home)?;
    hello.await_boot_after(1)
}

fn trio_is_open(trio: &Trio) -> anyhow::Result<()> {
    for host in &trio.hosts {
        host.run_ok(&["blixard", "node", "uncordon", host.name()])?;
        ensure!(state_of(host, host)? == "ready", "{} is not open", host.name());
    }
    Ok(())
}

fn a_drained_host_is_left_by_one_guest_after_another(
    trio: &Trio,
    host: &Host,
    asked: &Host,
) -> anyhow::Result<()> {
    let guests = VMS.map(|name| Guest { host, name });
    let before = guests.into_iter().map(Guest::healthy).collect::<anyhow::Result<Vec<_>>>()?;
    let downs = guests.into_iter().map(Guest::shutdowns).collect::<anyhow::Result<Vec<_>>>()?;
    let since = revision(asked)?;
    let begun = trio.watch.now();
    let said = asked.run_ok(&["blixard", "node", "drain", "--deadline", "10m", host.name()])?;
    figure(SCENARIO.name, "both guests have left", begun, trio.watch.now());
    ensure!(said.contains("draining, 0 vms"), "{said}");
    ensure!(state_of(asked, host)? == "draining");
    for ((guest, before), downs) in guests.into_iter().zip(&before).zip(downs) {
        let shown = guest.await_status("healthy")?;
        ensure!(field(&shown, "node") != host.name(), "{shown}");
        ensure!(field(&shown, "epoch").as_u64() == Some(before.epoch + 1), "{shown} after {before:?}");
        let journal = host.journal(&guest.unit())?;
        let down = format!("blixard-guest {} down", guest.name);
        ensure!(journal.matches(&down).count() == downs + 1, "it was not asked: {journal}");
        guest.await_no_unit()?;
    }
    // The second one was let go when the first one was healthy again.
    let events = events(asked, since)?;
    let at = |kind: &str, detail: &str, nth: usize| {
        let mut of = events.iter().enumerate().filter(|(_, event)| {
            field(event, "event") == kind
                && field(event, "detail").as_str().unwrap_or_default().contains(detail)
        });
        of.nth(nth).map(|(place, _)| place).with_context(|| format!("no {kind} {detail} {nth}: {events:?}"))
    };
    ensure!(at("phase-reached", "healthy", 0)? < at("move-requested", "", 1)?, "{events:?}");
    ensure!(at("move-requested", "", 0)? < at("stopped", "", 0)?, "{events:?}");
    Ok(())
}

fn what_has_no_place_stays_until_the_deadline(trio: &Trio, asked: &Host) -> anyhow::Result<()> {
    let guest = Guest { host: asked, name: VMS[0] };
    let from = trio.run_of(guest.name)?.host;
    Guest { host: trio.host(&from)?, ..guest }.await_boot_after(0)?;
    for other in trio.hosts.iter().filter(|other| other.name() != from) {
        asked.run_ok(&["blixard", "node", "cordon", other.name()])?;
    }
    let before = guest.await_status("healthy")?;
    let said = asked.run_ok(&["blixard", "node", "drain", "--no-wait", &from])?;
    let others: Vec<&Host> = trio.hosts.iter().filter(|other| other.name() != from).collect();
    for other in &others {
        ensure!(said.contains(&format!("{}: takes no new vms", other.name())), "{said}");
    }
    ensure!(said.contains(&format!("default/{} stays", guest.name)), "{said}");
    ensure!(trio.run_of(guest.name)?.host == from && guest.await_status("healthy")? == before);
    let began = trio.watch.now();
    let drain = ["blixard", "node", "drain", "--max-parallel", "2", "--deadline", "5s", &from];
    let said = asked.run_ok(&drain)?;
    figure(SCENARIO.name, "empty after a deadline of 5 s", began, trio.watch.now());
    ensure!(said.contains("draining, 0 vms"), "{said}");
    let waits = guest.await_status("pending")?;
    let reason = field(&waits, "reason").as_str().unwrap_or_default();
    ensure!(reason.contains("takes no new vms"), "{waits}");
    let other = others.last().context("one host")?;
    asked.run_ok(&["blixard", "node", "uncordon", other.name()])?;
    await_on(guest, other)?;
    trio_is_open(trio)
}

/// The host is there all the same: a person may err, and still nothing runs twice.
fn what_ran_on_a_host_that_is_declared_lost_runs_elsewhere(trio: &Trio) -> anyhow::Result<()> {
    let vm = VMS[1];
    let before = trio.run_of(vm)?;
    let host = trio.host(&before.host)?;
    let asked = trio.other_than(host)?;
    let refused = asked.run(&["blixard", "node", "lost", host.name()])?.refused()?;
    ensure!(refused.contains("--confirm"), "{refused}");
    let refused = asked.run(&["blixard", "node", "lost", host.name(), "--confirm"])?.refused()?;
    ensure!(refused.contains("its daemon answers, so it is not off"), "{refused}");
    ensure!(refused.contains("`blixard node drain`") && refused.contains("--force"), "{refused}");
    ensure!(trio.run_of(vm)? == before, "a refused command has touched the vm");
    let declared = trio.watch.now();
    let said = asked.run_ok(&["blixard", "node", "lost", host.name(), "--confirm", "--force"])?;
    ensure!(said.contains("declared lost") && said.contains("warning: its daemon answers"), "{said}");
    let after = trio.await_elsewhere(vm, host.name())?;
    let here = |span: &super::Span| span.vm == vm && span.host == before.host;
    let old = trio.watch.spans().into_iter().rev().find(here).and_then(|span| span.to);
    let old = old.context("it runs on although the host was declared lost")?;
    ensure!(old < after.from, "the old one ended at {old:?}, the new one began at {:?}", after.from);
    figure(SCENARIO.name, "a guest is dead after its host was declared lost", declared, old);
    figure(SCENARIO.name, "it runs elsewhere after that", declared, after.from);
    await_back(asked)?;
    await_on(Guest { host: asked, name: vm }, trio.host(&after.host)?)
}

fn await_on(guest: Guest<'_>, host: &Host) -> anyhow::Result<()> {
    wait::until(&format!("{} to be healthy on {}", guest.name, host.name()), super::LIMIT, || {
        let shown = guest.shown()?;
        let there = field(&shown, "status") == "healthy" && field(&shown, "node") == host.name();
        Ok(if there { Seen::Done(()) } else { Seen::Instead(shown.to_string()) })
    })
}

/// What the cluster calls a host.
fn state_of(asked: &Host, host: &Host) -> anyhow::Result<String> {
    let json = asked.run_ok(&["blixard", "node", "list", "-o", "json"])?;
    let nodes: Value = serde_json::from_str(&json).context("`node list` is no JSON")?;
    let nodes = field(&nodes, "nodes").as_array().cloned().unwrap_or_default();
    let node = nodes.iter().find(|node| field(node, "name") == host.name());
    let state = node.and_then(|node| field(node, "state").as_str()).map(str::to_owned);
    state.with_context(|| format!("{} is not in {json}", host.name()))
}

fn events(asked: &Host, since: u64) -> anyhow::Result<Vec<Value>> {
    let lines = asked.run_ok(&["blixard", "events", "-o", "json", "--since", &since.to_string()])?;
    lines.lines().map(|line| serde_json::from_str(line).context("an event is no JSON")).collect()
}

/// Where the state is now.
fn revision(asked: &Host) -> anyhow::Result<u64> {
    let json = asked.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
    let vms: Value = serde_json::from_str(&json).context("`vm list` is no JSON")?;
    field(&vms, "revision").as_u64().context("no revision")
}
