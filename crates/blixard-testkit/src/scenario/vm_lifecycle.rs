//! The life of a vm: stopped in good order or by force, restarted, replaced, crashed, deleted.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::guest::{Guest, GuestRun, await_new_run, field};
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "vm_lifecycle",
    shows: "guests are asked before they are killed, start again after any exit, and leave nothing when deleted",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(3);

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let flake = &fixture::prepare(host, Fixture::Lifecycle)?;
    let [steady, stubborn, crasher] = ["steady", "stubborn", "crasher"].map(|name| Guest { host, name });
    for guest in [steady, stubborn] {
        host.run_ok(&["blixard", "deploy", &format!("{flake}#{}", guest.name)])?;
        guest.await_boot_after(0)?;
    }
    let first = steady.healthy()?;

    let second = a_stop_asks_the_guest(steady, &first)?;
    a_guest_that_does_not_obey_is_killed(stubborn)?;
    let third = a_restart_is_a_new_placement(steady, &second)?;
    let fourth = a_reboot_of_the_guest_is_no_end(steady, &third)?;
    a_new_generation_replaces_the_old_one_gracefully(flake, steady, &fourth)?;
    one_that_is_not_healthy_gives_way_to_the_one_before(flake, steady)?;
    the_console_is_shown(steady)?;
    a_crash_loop_ends_and_can_be_tried_again(flake, crasher)?;

    host.write("/var/lib/blixard/vms/default/steady/disk.img", "precious", 0o600)?;
    host.write("/var/lib/blixard/vms/default/stubborn/deep/disk.img", "worthless", 0o600)?;
    let kept = host.run(&["blixard", "vm", "delete", steady.name])?;
    ensure!(kept.stderr.contains("stay on"), "{}", kept.unexpected("does not say that files are kept"));
    kept.ok()?;
    host.run_ok(&["blixard", "vm", "delete", "--volumes", stubborn.name])?;
    host.run_ok(&["blixard", "vm", "stop", crasher.name])?;
    host.run_ok(&["blixard", "vm", "delete", "--volumes", crasher.name])?;
    for guest in [steady, stubborn, crasher] {
        guest.await_no_unit()?;
    }
    nothing_is_left(host)
}

fn a_stop_asks_the_guest(guest: Guest<'_>, before: &GuestRun) -> anyhow::Result<GuestRun> {
    let start = guest.property("ExecStart")?;
    let argv = start.split_once("argv[]=").and_then(|(_, rest)| rest.split_once(" ;"));
    let argv: Vec<_> = argv.context("the unit has no ExecStart")?.0.split(' ').collect();
    guest.host.run_ok(&["blixard", "vm", "stop", guest.name])?;
    guest.await_status("stopped")?;
    guest.await_no_unit()?;
    ensure!(guest.shutdowns()? == 1, "it was not asked: {}", guest.console()?);
    // As if systemd carried out now what it was asked for before: by a daemon that is gone, say.
    let late = guest.host.run(&argv)?;
    ensure!(late.stderr.contains("is over"), "{}", late.unexpected("a start at an epoch that is over"));
    guest.host.run_ok(&["blixard", "vm", "start", guest.name])?;
    let after = await_new_run(guest, before, 1)?;
    ensure!(guest.boots()?.len() == 2, "systemd has started it again before it was stopped");
    Ok(after)
}

fn a_guest_that_does_not_obey_is_killed(guest: Guest<'_>) -> anyhow::Result<()> {
    guest.healthy()?;
    let (stopped, took) = wait::timed(|| guest.host.run_ok(&["blixard", "vm", "stop", guest.name]));
    stopped?;
    ensure!(took >= Duration::from_secs(3), "it was given {took:?} of the 3 s that its flake says");
    guest.await_status("stopped")?;
    guest.await_no_unit()?;
    ensure!(guest.said("blixard-guest stubborn goes on")? == 1, "it was not asked: {}", guest.console()?);
    ensure!(guest.shutdowns()? == 0, "it obeyed: {}", guest.console()?);
    let journal = guest.host.journal("blixardd")?;
    ensure!(journal.contains("the guest is killed"), "the daemon does not tell: {journal}");
    Ok(())
}

fn a_restart_is_a_new_placement(guest: Guest<'_>, before: &GuestRun) -> anyhow::Result<GuestRun> {
    guest.host.run_ok(&["blixard", "vm", "restart", guest.name])?;
    let after = await_new_run(guest, before, 2)?;
    ensure!(after.epoch == before.epoch + 1, "{after:?} after {before:?}");
    ensure!(guest.shutdowns()? == 2, "it was not asked: {}", guest.console()?);
    Ok(after)
}

fn a_reboot_of_the_guest_is_no_end(guest: Guest<'_>, before: &GuestRun) -> anyhow::Result<GuestRun> {
    let pipe = "/run/blixard-vms/default/steady/orders.in";
    guest.host.shell(&format!("echo reboot >{pipe}"))?;
    let after = await_new_run(guest, before, 3)?;
    ensure!(after.epoch == before.epoch, "{after:?} after {before:?}");
    ensure!(guest.property("NRestarts")? == "1", "systemd has not started it again");
    Ok(after)
}

fn a_new_generation_replaces_the_old_one_gracefully(
    flake: &str,
    guest: Guest<'_>,
    before: &GuestRun,
) -> anyhow::Result<()> {
    guest.host.write(&format!("{flake}/greeting.nix"), "\"two\"\n", 0o644)?;
    guest.host.run_ok(&["blixard", "deploy", &format!("{flake}#{}", guest.name)])?;
    let after = await_new_run(guest, before, 4)?;
    ensure!(after.generation == 2 && after.epoch == before.epoch, "{after:?} after {before:?}");
    ensure!(guest.shutdowns()? == 3, "the old generation was not asked: {}", guest.console()?);

    let json = guest.host.run_ok(&["blixard", "vm", "history", "-o", "json", guest.name])?;
    let history: serde_json::Value = serde_json::from_str(&json).context("`vm history` is no JSON")?;
    let generations = field(&history, "generations").as_array().context("no generations")?;
    let seen: Vec<_> =
        generations.iter().map(|one| (field(one, "number").as_u64(), field(one, "runs").as_bool())).collect();
    ensure!(seen == [(Some(2), Some(true)), (Some(1), Some(false))], "the history is {json}");
    let table = guest.host.run_ok(&["blixard", "vm", "history", guest.name])?;
    ensure!(table.lines().count() == 3 && table.contains("runs"), "the history is {table}");
    let roots = guest.host.run_ok(&["ls", "/nix/var/nix/gcroots/blixard/vms/default/steady"])?;
    ensure!(roots.split_whitespace().eq(["1", "2"]), "a kept generation has no root: {roots}");
    Ok(())
}

/// Nobody listens there.
const NOT_HEALTHY: &str =
    r#"{ deadlineMs = 40000; checks = [ { kind = "tcp"; address = "127.0.0.1:9"; } ]; }"#;

fn one_that_is_not_healthy_gives_way_to_the_one_before(flake: &str, guest: Guest<'_>) -> anyhow::Result<()> {
    let (file, before) = (format!("{flake}/health.nix"), guest.healthy()?);
    guest.host.write(&file, NOT_HEALTHY, 0o644)?;
    let said = guest.host.run(&["blixard", "deploy", &format!("{flake}#{}", guest.name)])?.refused()?;
    let told = "generation 3 did not become healthy, so generation 2 is to run again";
    ensure!(said.contains(told), "it says {said}");
    guest.await_boot_after(6)?;
    let after = guest.healthy()?;
    ensure!(after.generation == 2 && after.epoch == before.epoch, "{after:?} after {before:?}");
    ensure!(guest.shutdowns()? == 5, "each was asked to end: {}", guest.console()?);
    let shown = guest.shown()?;
    ensure!(field(&shown, "reason").as_str().is_some_and(|reason| reason.contains(told)), "{shown}");
    ensure!(field(&shown, "generation").as_u64() == Some(2), "{shown}");
    guest.host.write(&file, "{ }\n", 0o644)
}

fn the_console_is_shown(guest: Guest<'_>) -> anyhow::Result<()> {
    // It has no end of its own: the limit ends it.
    let console =
        guest.host.run_within(Duration::from_secs(10), &["blixard", "vm", "console", guest.name], &[])?;
    ensure!(console.status.code() == Some(124), "the console has ended: {console:?}");
    ensure!(console.stdout.contains("blixard-guest steady generation 2 boot "), "{console:?}");
    ensure!(console.stderr.contains("read-only"), "{console:?}");
    Ok(())
}

fn a_crash_loop_ends_and_can_be_tried_again(flake: &str, guest: Guest<'_>) -> anyhow::Result<()> {
    let said = guest.host.run(&["blixard", "deploy", &format!("{flake}#crasher")])?.refused()?;
    ensure!(said.contains("its unit has ended"), "the reason is not told: {said}");
    ensure!(guest.said("blixard-crasher")? >= 2, "it was not started again: {}", guest.console()?);
    let failed = guest.await_status("failed")?;
    ensure!(
        field(&failed, "reason").as_str().is_some_and(|reason| reason.contains("its unit has ended")),
        "{failed}"
    );
    let tries = guest.said("blixard-crasher")?;
    let said = guest.host.run(&["blixard", "vm", "start", "crasher"])?.refused()?;
    ensure!(said.contains("failed"), "it says {said}");
    ensure!(guest.said("blixard-crasher")? > tries, "`vm start` has not tried again");
    let again = guest.shown()?;
    ensure!(field(&again, "epoch").as_u64() > field(&failed, "epoch").as_u64(), "{again} after {failed}");
    Ok(())
}

fn nothing_is_left(host: &Host) -> anyhow::Result<()> {
    wait::until("everything of the vms to go", LIMIT, || {
        let left = host.shell(
            "find /sys/fs/cgroup -name 'blixard-vm-*'; \
             find /run/blixard-vms /var/lib/blixard/vms -mindepth 2; \
             find /nix/var/nix/gcroots/blixard -type l; \
             systemctl list-units --all --plain --no-legend 'blixard-vm-*'",
        )?;
        // What a guest has written is not taken away without a word.
        let kept = "/var/lib/blixard/vms/default/steady\n/var/lib/blixard/vms/default/steady/disk.img\n";
        Ok(if left == kept { Seen::Done(()) } else { Seen::Instead(left) })
    })
}
