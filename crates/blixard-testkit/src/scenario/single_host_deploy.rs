//! The first thing a user does: one machine, one flake, `blixard deploy`.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "single_host_deploy",
    shows: "one host deploys a flake of two microVMs; stop, start and delete do what they say",
    needs: Needs::Blixard,
    run,
};

const GUEST_LIMIT: Duration = Duration::from_secs(90);
const SETTLE_LIMIT: Duration = Duration::from_secs(30);
const HELLO_UNIT: &str = "blixard-vm-default-hello-run.service";
/// Of ten, as systemd rates units; in tenths.
const EXPOSURE: &str = "--threshold=40";
const ROOTS: &str = "/nix/var/nix/gcroots/blixard";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    host.run_ok(&["blixard", "status"])?;
    // What is left open by the module has its reason there; nothing more is.
    host.run_ok(&["systemd-analyze", "security", "--no-pager", EXPOSURE, "blixardd.service"])?;

    let guests = fixture::prepare(host, Fixture::Guests)?;
    host.run_ok(&["blixard", "deploy", &guests])?;
    both_run_and_are_listed(host)?;
    the_unit_and_the_root_are_there(host)?;
    let first_boot = boot_of(host, "hello", &[])?;
    boot_of(host, "world", &[])?;

    stop_keeps_it_in_the_list(host)?;
    host.run_ok(&["blixard", "vm", "start", "hello"])?;
    await_state(host, "hello", "healthy")?;
    boot_of(host, "hello", &[&first_boot]).context("a started vm boots anew")?;

    delete_leaves_nothing(host)?;
    a_bad_flake_is_refused(host, Fixture::FailingBuild, "broken")?;
    a_bad_flake_is_refused(host, Fixture::EvaluationError, "the fixture throws on purpose")?;
    a_bad_flake_is_refused(host, Fixture::Empty, "microvms")?;
    await_state(host, "world", "healthy").context("refused flakes leave what runs alone")
}

fn both_run_and_are_listed(host: &Host) -> anyhow::Result<()> {
    await_state(host, "hello", "healthy")?;
    await_state(host, "world", "healthy")?;
    let json = host.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
    let list: serde_json::Value =
        serde_json::from_str(&json).with_context(|| format!("`vm list -o json` is no JSON: {json}"))?;
    let text = list.to_string();
    ensure!(text.contains("hello") && text.contains("world"), "a vm is missing in the JSON: {text}");
    Ok(())
}

fn the_unit_and_the_root_are_there(host: &Host) -> anyhow::Result<()> {
    let show = |property: &str| {
        let property = format!("--property={property}");
        let value = host.run_ok(&["systemctl", "show", "--value", &property, HELLO_UNIT])?;
        anyhow::Ok(value.trim().to_owned())
    };
    ensure!(show("ActiveState")? == "active", "{HELLO_UNIT} is {}", show("ActiveState")?);
    ensure!(show("Slice")? == "blixard-default.slice", "{HELLO_UNIT} is in {}", show("Slice")?);
    ensure!(!roots_of_hello(host)?.is_empty(), "no garbage collector root of hello below {ROOTS}");
    Ok(())
}

fn stop_keeps_it_in_the_list(host: &Host) -> anyhow::Result<()> {
    host.run_ok(&["blixard", "vm", "stop", "hello"])?;
    await_state(host, "hello", "stopped")?;
    await_no_unit(host)?;
    await_state(host, "world", "healthy").context("stopping one vm leaves the other alone")
}

fn delete_leaves_nothing(host: &Host) -> anyhow::Result<()> {
    host.run_ok(&["blixard", "vm", "delete", "hello"])?;
    await_no_unit(host)?;
    wait::until("the roots of hello to go", SETTLE_LIMIT, || {
        let roots = roots_of_hello(host)?;
        Ok(if roots.is_empty() { Seen::Done(()) } else { Seen::Instead(roots) })
    })?;
    wait::until("hello to leave the list", SETTLE_LIMIT, || {
        Ok(match listed(host, "hello")? {
            Some(line) => Seen::Instead(line),
            None => Seen::Done(()),
        })
    })
}

/// A deploy that cannot work exits with a code of its own and one error, which names the cause.
fn a_bad_flake_is_refused(host: &Host, fixture: Fixture, cause: &str) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, fixture)?;
    let output = host.run(&["blixard", "deploy", &flake])?;
    let all = output.unexpected("was refused unclearly");
    let stderr = output.refused()?;
    let errors = stderr.to_lowercase().lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, "{errors} lines of stderr begin with \"error\", not one: {all}");
    ensure!(stderr.contains(cause), "the cause, {cause:?}, is not named: {all}");
    Ok(())
}

/// Waits for the guest's own line in its log and returns the boot id in it; one of those known does not
/// count.
fn boot_of(host: &Host, vm: &str, known: &[&str]) -> anyhow::Result<String> {
    let said = format!("blixard-guest {vm} generation 1 boot ");
    wait::until(&format!("{vm} to say that it booted"), GUEST_LIMIT, || {
        let log = host.run_ok(&["blixard", "vm", "logs", vm])?;
        let boots = log.lines().filter_map(|line| line.split_once(&said));
        let fresh = boots.map(|(_, boot)| boot.trim()).find(|boot| !known.contains(boot));
        Ok(match fresh {
            Some(boot) => Seen::Done(boot.to_owned()),
            None => Seen::Instead(log),
        })
    })
}

fn listed(host: &Host, vm: &str) -> anyhow::Result<Option<String>> {
    let list = host.run_ok(&["blixard", "vm", "list"])?;
    let names =
        |line: &str| line.split_whitespace().any(|word| word == vm || word == format!("default/{vm}"));
    Ok(list.lines().find(|line| names(line)).map(str::to_owned))
}

fn await_state(host: &Host, vm: &str, state: &str) -> anyhow::Result<()> {
    wait::until(&format!("`vm list` to show {vm} {state}"), SETTLE_LIMIT, || {
        Ok(match listed(host, vm)? {
            Some(line) if line.to_lowercase().split_whitespace().any(|word| word == state) => Seen::Done(()),
            Some(line) => Seen::Instead(line),
            None => Seen::Instead(format!("no {vm}")),
        })
    })
}

fn await_no_unit(host: &Host) -> anyhow::Result<()> {
    wait::until(&format!("{HELLO_UNIT} to go"), SETTLE_LIMIT, || {
        let units =
            host.run_ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", HELLO_UNIT])?;
        Ok(if units.trim().is_empty() { Seen::Done(()) } else { Seen::Instead(units) })
    })
}

fn roots_of_hello(host: &Host) -> anyhow::Result<String> {
    host.shell(&format!("if [ -d {ROOTS} ]; then find {ROOTS} -lname '*-microvm-hello*'; fi"))
}
