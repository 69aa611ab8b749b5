//! A flake that was written for microvm.nix and knows nothing of Blixard.

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::bad_input::{Expected, Standing, refused};
use super::guest::{Guest, field};
use super::{Context, Needs, Scenario};
use crate::beside;
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "plain_microvm_nix",
    shows: "unmodified guests of microvm.nix are deployed: spec, taps, bridge, account, shutdown; claims are kept",
    needs: Needs::Blixard,
    run,
};

const ANSWER_LIMIT: std::time::Duration = std::time::Duration::from_mins(2);
const FLAKE: &str = "/root/fixtures/plain-microvm-nix";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lib = context.beside("BLIXARD_NIXPKGS_LIB", "nix-community/nixpkgs.lib")?;
    let microvm = context.beside("BLIXARD_MICROVM_NIX", "microvm-nix/microvm.nix")?;
    let host = &context.host()?;
    make_ready(host)?;
    host.install_blixard_with(&context.binaries()?, "[node]\nname = \"n1\"\n[host]\nbridge = \"br0\"\n")?;
    beside::prepare(host, &lib, &microvm)?;
    fixture::prepare(host, Fixture::PlainMicrovmNix)?;
    host.run_ok(&["nix", "flake", "lock", FLAKE])?;

    let web = Guest { host, name: "web" };
    host.run_ok(&["blixard", "deploy", &format!("{FLAKE}#nixosConfigurations.web")])?;
    web.await_boot_after(0)?;
    web.healthy()?;
    the_spec_is_the_configurations(web)?;
    the_runner_gets_what_it_expects(web)?;
    await_answer(host)?;

    what_cannot_be_is_refused(host)?;
    ensure!(web.shutdowns()? == 0, "a refusal has touched the guest");

    // What the flake lists is deployed like any other vm, and nothing else of it is evaluated.
    host.run_ok(&["blixard", "deploy", FLAKE])?;
    Guest { host, name: "listed" }.await_status("healthy")?;
    host.run_ok(&["blixard", "deploy", &format!("{FLAKE}#listed")])?;

    host.run_ok(&["blixard", "vm", "stop", "web"])?;
    ensure!(web.shutdowns()? == 1, "the guest was not asked to shut down: {}", web.console()?);
    ensure!(!has_tap(host)?, "the tap is there without its guest");
    host.run_ok(&["blixard", "vm", "start", "web"])?;
    web.await_boot_after(1)?;
    await_answer(host)?;
    for vm in ["web", "listed"] {
        host.run_ok(&["blixard", "vm", "delete", vm])?;
    }
    web.await_no_unit()?;
    ensure!(!has_tap(host)?, "a deleted vm has left its tap");
    let left = host.run_ok(&["find", "/var/lib/blixard/vms", "-mindepth", "2"])?;
    ensure!(left.is_empty(), "deleted vms have left {left}");
    Ok(())
}

/// What microvm.nix's host module does, and a network that is not the one of the test hosts.
fn make_ready(host: &Host) -> anyhow::Result<()> {
    beside::make_account(host)?;
    host.shell("ip link add br0 type bridge; ip address add 10.78.0.1/24 dev br0; ip link set br0 up")
        .map(drop)
}

fn the_spec_is_the_configurations(web: Guest<'_>) -> anyhow::Result<()> {
    let shown = web.shown()?;
    let spec = field(&shown, "spec");
    let expected = [
        ("resources", json!({ "vcpus": 2, "memoryMib": 160, "overheadMib": 256 })),
        ("hypervisor", json!("qemu")),
        ("kvm", json!("unused")),
        ("notify", json!(false)),
        ("canShutdown", json!(true)),
        ("account", json!({ "user": "microvm", "group": "kvm" })),
        (
            "interfaces",
            json!([{ "kind": "tap", "id": "vm-web", "mac": "02:00:00:00:77:02", "bridge": null, "multiQueue": true }]),
        ),
        ("shares", json!([{ "tag": "ro-store", "source": "/nix/store", "protocol": "9p" }])),
    ];
    for (key, value) in expected {
        let found: &Value = field(spec, key);
        ensure!(*found == value, "{key} is {found}, not {value}");
    }
    Ok(())
}

fn the_runner_gets_what_it_expects(web: Guest<'_>) -> anyhow::Result<()> {
    let host = web.host;
    ensure!(web.property("User")? == "microvm" && web.property("Group")? == "kvm", "not under its account");
    let pid = web.main_pid()?.context("it has no process")?.to_string();
    let user = host.run_ok(&["ps", "-o", "user=", "-p", &pid])?;
    ensure!(user.trim() == "microvm", "the hypervisor runs as {user}");
    let link = host.run_ok(&["ip", "-details", "link", "show", "dev", "vm-web"])?;
    for words in ["master br0", "multi_queue", "user microvm", "alias blixard:default/web"] {
        ensure!(link.contains(words), "the tap is without `{words}`: {link}");
    }
    let home = "/var/lib/blixard/vms/default/web";
    let owner = host.run_ok(&["stat", "-c", "%U:%G %a", home])?;
    ensure!(owner.trim() == "microvm:kvm 700", "{home} is {owner}");
    ensure!(host.run(&["test", "-S", &format!("{home}/web.sock")])?.status.success(), "no socket in {home}");
    Ok(())
}

fn has_tap(host: &Host) -> anyhow::Result<bool> {
    Ok(host.run(&["test", "-e", "/sys/class/net/vm-web"])?.status.success())
}

/// Waits for the guest's own words, over its tap and the bridge.
fn await_answer(host: &Host) -> anyhow::Result<()> {
    wait::until("the guest to answer on the bridge", ANSWER_LIMIT, || {
        let said = host.run(&["curl", "--silent", "--show-error", "--max-time", "5", "http://10.78.0.2/"])?;
        let there = said.stdout.trim() == "hello from web";
        Ok(if there { Seen::Done(()) } else { Seen::Instead(said.stdout + &said.stderr) })
    })
}

fn what_cannot_be_is_refused(host: &Host) -> anyhow::Result<()> {
    let before = Standing::of(host)?;
    let cases = [
        (
            "twin",
            6,
            "the interface vm-web, which vm default/twin claims, belongs to vm default/web",
            "blixard vm delete",
        ),
        ("alpha", 7, "nixosConfigurations.alpha: it is no guest of microvm.nix", ""),
        ("bridged", 7, "vm-bridged has the type \"bridge\"", ""),
        ("nobody", 7, "no output `nixosConfigurations.nobody`", "nix flake show"),
    ];
    for (name, code, words, hint) in cases {
        let flake = format!("{FLAKE}#nixosConfigurations.{name}");
        refused(host, &["deploy", &flake], &Expected { code, says: &[words], hint })
            .with_context(|| format!("deploying nixosConfigurations.{name}"))?;
        before.is_kept(host).with_context(|| format!("{name} changes something"))?;
    }
    Ok(())
}
