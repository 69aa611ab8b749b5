//! Tasks: guests that end, well or not, on a machine of its own and on three.

use anyhow::{Context as _, ensure};

use super::{LIMIT, Trio, build_everywhere, cluster_of_three};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::guest::{Guest, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "task",
    shows: "a task runs to its end and no more; one that panics is run again, then failed; one whose host dies runs elsewhere",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    on_one_machine(context)?;
    context.end_worlds()?;
    on_three(context)
}

fn deploy(host: &Host, flake: &str, name: &str) -> anyhow::Result<String> {
    host.run_ok(&["blixard", "deploy", &format!("{flake}#{name}")])
}

fn succeeded(guest: Guest<'_>, epoch: u64) -> anyhow::Result<()> {
    let shown = guest.await_status("succeeded")?;
    ensure!(field(&shown, "epoch").as_u64() == Some(epoch), "{shown}");
    Ok(())
}

/// The runs that a guest's console tells of.
fn runs(guest: Guest<'_>) -> anyhow::Result<usize> {
    guest.said(&format!("blixard-task {} run ", guest.name))
}

fn on_one_machine(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let flake = &fixture::prepare(host, Fixture::Tasks)?;
    let [once, broken] = ["once", "broken"].map(|name| Guest { host, name });
    deploy(host, flake, once.name)?;

    // It ends while its daemon is away, which finds out all the same.
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    wait::until("the guest to power off", LIMIT, || {
        let state = once.property("SubState")?;
        Ok(if state == "exited" { Seen::Done(()) } else { Seen::Instead(state) })
    })?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    succeeded(once, 1)?;
    once.await_no_unit()?;
    stays_done(host, flake, once)?;
    runs_again_when_asked(host, flake, once)?;
    fails_as_often_as_it_may(host, flake, broken)
}

/// Nothing that is no wish for another run makes it run.
fn stays_done(host: &Host, flake: &str, once: Guest<'_>) -> anyhow::Result<()> {
    let plan = host.run_ok(&["blixard", "deploy", "--dry-run", &format!("{flake}#once")])?;
    ensure!(plan.contains("done"), "{plan}");
    deploy(host, flake, once.name)?;
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    succeeded(once, 1)?;
    let (list, told) =
        (host.run_ok(&["blixard", "vm", "list"])?, host.run_ok(&["blixard", "vm", "explain", "once"])?);
    ensure!(list.contains("succeeded") && told.contains("default/once is succeeded"), "{list}{told}");
    ensure!(told.contains("It has run to its end"), "{told}");
    ensure!(runs(once)? == 1, "it ran again: {}", once.console()?);
    Ok(())
}

fn runs_again_when_asked(host: &Host, flake: &str, once: Guest<'_>) -> anyhow::Result<()> {
    host.run_ok(&["blixard", "vm", "start", once.name])?;
    succeeded(once, 2)?;
    host.write(&format!("{flake}/greeting.nix"), "\"two\"\n", 0o644)?;
    deploy(host, flake, once.name)?;
    succeeded(once, 3)?;
    ensure!(runs(once)? == 3 && once.said("run 2.3")? == 1, "{}", once.console()?);
    host.run_ok(&["blixard", "vm", "start", once.name])?;
    host.run_ok(&["blixard", "vm", "stop", once.name])?;
    once.await_status("stopped")?;
    once.await_no_unit()
}

/// Its guest panics, which its runner tells.
fn fails_as_often_as_it_may(host: &Host, flake: &str, broken: Guest<'_>) -> anyhow::Result<()> {
    // Whether it still runs when the deployment looks is a race.
    host.run(&["blixard", "deploy", &format!("{flake}#broken")])?;
    wait::until("the task to have failed for good", LIMIT, || {
        let shown = broken.shown()?;
        let reason = field(&shown, "reason").as_str().unwrap_or_default();
        let over = field(&shown, "status") == "failed" && reason.contains("failed 2 times in a row");
        Ok(if over { Seen::Done(()) } else { Seen::Instead(shown.to_string()) })
    })?;
    ensure!(runs(broken)? == 2, "{}", broken.console()?);
    let events = host.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    let of = |kind: &str| {
        let kind = format!("\"event\":\"{kind}\"");
        let broken = events.lines().filter(|line| line.contains("default/broken"));
        broken.filter(|line| line.replace(": ", ":").contains(&kind)).count()
    };
    ensure!(of("failed") == 2 && of("succeeded") == 0, "{events}");
    broken.await_no_unit()
}

fn on_three(context: &mut Context) -> anyhow::Result<()> {
    let hosts = cluster_of_three(context, |_, config| config + "[fencing]\nprofile = \"fast\"\n")?;
    let trio = Trio::watching(hosts, &[])?;
    let first = trio.hosts.first().context("no hosts")?;
    let name = "long";
    for host in &trio.hosts {
        build_everywhere(host, Fixture::Tasks, &[name])?;
    }
    deploy(first, &fixture::prepare(first, Fixture::Tasks)?, name)?;
    let run = trio.run_of(name)?;

    // A drain leaves it to its end.
    let host = trio.host(&run.host)?.clone();
    let asked = trio.other_than(&host)?.clone();
    let drained = asked.run(&["blixard", "node", "drain", "--no-wait", host.name()])?;
    ensure!(drained.status.success(), "{drained:?}");
    let told = asked.run(&["blixard", "node", "drain", "--no-wait", host.name()])?;
    let told = told.stdout + &told.stderr;
    ensure!(told.contains("is a task, which would begin anew"), "{told}");
    asked.run_ok(&["blixard", "node", "uncordon", host.name()])?;
    ensure!(trio.run_of(name)? == run, "the drain has ended it");

    host.kill()?;
    let next = trio.await_elsewhere(name, host.name())?;
    let there = trio.host(&next.host)?;
    let guest = Guest { host: there, name };
    wait::until("the second run to say so", LIMIT, || {
        let console = guest.console()?;
        Ok(if console.contains("blixard-task long run 1.2") {
            Seen::Done(())
        } else {
            Seen::Instead(console)
        })
    })?;
    guest.await_boot_after(0)?;
    there.shell("echo poweroff >/run/blixard-vms/default/long/orders.in")?;
    succeeded(guest, 2)?;
    guest.await_no_unit()?;
    trio.check_never_twice()
}
