//! A vm that finds no room waits, with the reasons, and is placed when there is room.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "no_capacity",
    shows: "a vm that finds no host waits with reasons, and runs as soon as there is room or the host takes it",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(1);

/// Runners that sleep and want what is asked for: `NAME` with a spec from `NAME.json`.
const FLAKE: &str = r#"{
  outputs = { self }: let
    vm = name: let blixard = builtins.fromJSON (builtins.readFile (./. + "/${name}.json")); in derivation {
      name = "microvm-${name}";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-euc" ''
        export PATH=/usr/bin:/bin
        mkdir -p $out/bin
        printf '#!/bin/sh\nexec /usr/bin/sleep infinity\n' > $out/bin/microvm-run
        chmod 755 $out/bin/microvm-run
      '' ];
    } // { inherit blixard; };
  in { microvms.first = vm "first"; microvms.second = vm "second"; microvms.picky = vm "picky"; };
}
"#;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    // The programs that derivations need are there.
    fixture::prepare(host, Fixture::Empty)?;
    let total = memory_mib(host)?;
    let spec = |memory_mib: u64, more: &str| {
        let resources = format!(r#"{{"vcpus":1,"memoryMib":{memory_mib},"overheadMib":0}}"#);
        format!(r#"{{"schema":1,"kvm":"unused","health":{{"activeForMs":0}},"resources":{resources}{more}}}"#)
    };
    let picky = r#","placement":{"constraints":[{"label":"zone","operator":"in","values":["a"]}]}"#;
    host.write("/root/flake/flake.nix", FLAKE, 0o644)?;
    host.write("/root/flake/first.json", spec(total / 2 + 1, ""), 0o644)?;
    host.write("/root/flake/second.json", spec(total / 2 + 1, ""), 0o644)?;
    host.write("/root/flake/picky.json", spec(16, picky), 0o644)?;
    host.run_ok(&["blixard", "deploy", "/root/flake#first"])?;

    for (name, reason) in [("second", "MiB of memory"), ("picky", "label zone in [a]")] {
        let refused = host.run(&["blixard", "deploy", &format!("/root/flake#{name}")])?.refused()?;
        ensure!(refused.contains(reason), "the deployment does not say why: {refused}");
        waits(host, name, reason)?;
    }

    host.run_ok(&["blixard", "vm", "stop", "first"])?;
    let (placed, took) = wait::timed(|| runs(host, "second"));
    placed?;
    report(took);
    // Now the first one is the one that waits, and the other's end makes room for it.
    host.run_ok(&["blixard", "vm", "start", "--no-wait", "first"])?;
    waits(host, "first", "MiB of memory")?;
    host.run_ok(&["blixard", "vm", "delete", "second"])?;
    runs(host, "first")?;

    // What a host's configuration says counts from its daemon's next start.
    host.write("/etc/blixard/blixardd.toml", "[node]\nlabels = { zone = \"a\" }\n", 0o644)?;
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    runs(host, "picky")?;
    runs(host, "first")
}

#[allow(clippy::print_stdout, reason = "a figure for the developer at the terminal")]
fn report(took: Duration) {
    println!("placed and healthy {} ms after there was room", took.as_millis());
}

fn json(host: &Host, argv: &[&str]) -> anyhow::Result<Value> {
    let text = host.run_ok(&[&["blixard", "-o", "json"], argv].concat())?;
    serde_json::from_str(&text).with_context(|| format!("{argv:?} gives no JSON: {text}"))
}

/// What the scheduler takes to be there.
fn memory_mib(host: &Host) -> anyhow::Result<u64> {
    let nodes = json(host, &["node", "list"])?;
    nodes.pointer("/nodes/0/facts/memoryMib").and_then(Value::as_u64).context("no memory of the host")
}

/// It is pending with this reason, and the explanation has it, too.
fn waits(host: &Host, name: &str, reason: &str) -> anyhow::Result<()> {
    let vm = json(host, &["vm", "show", name])?;
    let pending = vm.get("status").and_then(Value::as_str) == Some("pending");
    ensure!(pending && vm.get("reason").is_some_and(|text| text.to_string().contains(reason)), "{vm}");
    let told = json(host, &["vm", "explain", name])?;
    let refusal = told.pointer("/nodes/0/refusal").and_then(Value::as_str).unwrap_or_default();
    ensure!(refusal.contains(reason) && told.get("best") == Some(&Value::Null), "{told}");
    let table = host.run_ok(&["blixard", "vm", "explain", name])?;
    ensure!(table.contains("would find no host") && table.contains(reason), "{table}");
    Ok(())
}

fn runs(host: &Host, name: &str) -> anyhow::Result<()> {
    wait::until(&format!("{name} to be healthy"), LIMIT, || {
        let vm = json(host, &["vm", "show", name])?;
        let healthy = vm.get("status").and_then(Value::as_str) == Some("healthy");
        Ok(if healthy { Seen::Done(()) } else { Seen::Instead(vm.to_string()) })
    })
}
