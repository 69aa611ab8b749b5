//! Every profile of `vm-profiles/`, deployed and booted. What it says of its guest is real: memory, disks, interfaces,
//! health, how a task ends. NixOS and the services in the guest are stand-ins.

use anyhow::{Context as _, ensure};

use super::guest::{Guest, field};
use super::{Context, Needs, Scenario};
use crate::beside;
use crate::fixture::{self, Fixture};
use crate::host::Host;

pub(super) const SCENARIO: Scenario = Scenario {
    name: "profiles_boot",
    shows: "each profile boots, with its volume, its address and its health check; the worker does its work and has succeeded",
    needs: Needs::Blixard,
    run,
};

const FLAKE: &str = "/root/fixtures/profiles";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lib = context.beside("BLIXARD_NIXPKGS_LIB", "nix-community/nixpkgs.lib")?;
    let microvm = context.beside("BLIXARD_MICROVM_NIX", "microvm-nix/microvm.nix")?;
    let host = &context.host()?;
    beside::make_account(host)?;
    host.shell("ip link add br0 type bridge; ip address add 10.78.0.1/24 dev br0; ip link set br0 up")?;
    host.install_blixard_with(&context.binaries()?, "[node]\nname = \"n1\"\n[host]\nbridge = \"br0\"\n")?;
    beside::prepare(host, &lib, &microvm)?;
    beside::prepare_ours(host)?;
    fixture::prepare(host, Fixture::Profiles)?;
    host.run_ok(&["nix", "flake", "lock", FLAKE])?;
    all_are_here(host)?;

    minimal(Guest { host, name: "minimal" })?;
    web(Guest { host, name: "web" })?;
    // What a database has written is there after its restart; a builder's store is made anew.
    with_a_volume(Guest { host, name: "database" }, "/var/lib/postgresql", 2)?;
    with_a_volume(Guest { host, name: "builder" }, "/nix/.rw-store", 1)?;
    worker(Guest { host, name: "worker" })
}

/// A profile that nobody boots would be one that nobody knows to boot.
fn all_are_here(host: &Host) -> anyhow::Result<()> {
    let names = |output: &str| {
        let output = format!("{FLAKE}#{output}");
        host.run_ok(&["nix", "eval", "--json", &output, "--apply", "builtins.attrNames"])
    };
    let (here, there) = (names("microvms")?, names("vmProfiles")?);
    ensure!(here == there, "the fixture has {here} of {there}");
    Ok(())
}

fn deploy(guest: Guest<'_>) -> anyhow::Result<()> {
    guest.host.run_ok(&["blixard", "deploy", &format!("{FLAKE}#{}", guest.name)])?;
    guest.await_boot_after(0)
}

/// It is asked to shut down, and leaves nothing in the way of the next.
fn remove(guest: Guest<'_>) -> anyhow::Result<()> {
    guest.host.run_ok(&["blixard", "vm", "stop", guest.name])?;
    ensure!(guest.shutdowns()? >= 1, "it was not asked to shut down: {}", guest.console()?);
    guest.host.run_ok(&["blixard", "vm", "delete", "--volumes", guest.name]).map(drop)
}

fn minimal(guest: Guest<'_>) -> anyhow::Result<()> {
    deploy(guest)?;
    guest.healthy()?;
    remove(guest)
}

fn web(guest: Guest<'_>) -> anyhow::Result<()> {
    deploy(guest)?;
    guest.healthy()?;
    let said = guest.host.run_ok(&["curl", "--silent", "--max-time", "5", "http://10.78.0.2/healthz"])?;
    ensure!(said.trim() == "healthy", "it answers {said}");
    remove(guest)
}

/// Its volume is made, mounted in the guest, and after a restart has been seen by so many runs.
fn with_a_volume(guest: Guest<'_>, mount_point: &str, runs: usize) -> anyhow::Result<()> {
    deploy(guest)?;
    guest.healthy()?;
    let seen = |by: usize| format!("blixard-volume {mount_point} was seen by {by} runs");
    ensure!(guest.said(&seen(1))? == 1, "its volume is not a new one: {}", guest.console()?);
    guest.host.run_ok(&["blixard", "vm", "restart", guest.name])?;
    guest.await_boot_after(1)?;
    guest.healthy()?;
    let times = if runs == 1 { 2 } else { 1 };
    ensure!(guest.said(&seen(runs))? == times, "not {runs} runs: {}", guest.console()?);
    remove(guest)
}

fn worker(guest: Guest<'_>) -> anyhow::Result<()> {
    guest.host.run_ok(&["blixard", "deploy", &format!("{FLAKE}#{}", guest.name)])?;
    let shown = guest.await_status("succeeded")?;
    ensure!(guest.said("the work is done")? == 1, "it has run more than once: {}", guest.console()?);
    let kind = field(&shown, "spec").get("kind").and_then(|kind| kind.as_str());
    ensure!(kind.context("the spec has no kind")? == "task", "{shown}");
    guest.host.run_ok(&["blixard", "vm", "delete", guest.name]).map(drop)
}
