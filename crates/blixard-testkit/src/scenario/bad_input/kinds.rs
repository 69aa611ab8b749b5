//! The exit codes that no wrong word leads to: a refusal of the cluster, a vm that does not come up, an
//! interruption.

use std::time::Duration;

use super::{Expected, refused};
use crate::host::Host;
use crate::wait::{self, Seen};

const LIMIT: Duration = Duration::from_mins(2);

/// A good runner, but for what stands where `NAME`, `MEMORY`, `BUILD` and `MORE` are.
const FLAKE: &str = r#"{
  outputs = { self }: {
    microvms.NAME = derivation {
      name = "microvm-NAME";
      system = "x86_64-linux";
      builder = "/bin/sh";
      args = [ "-euc" ''
        export PATH=/usr/bin:/bin
        BUILD
        mkdir -p $out/bin
        printf '#!/bin/sh\nexec /usr/bin/sleep infinity\n' > $out/bin/microvm-run
        chmod 755 $out/bin/microvm-run
      '' ];
    } // { blixard = { schema = 1; resources = { vcpus = 1; memoryMib = MEMORY; }; MORE }; };
  };
}
"#;

/// Tries each.
pub(super) fn each(host: &Host, case: &mut dyn FnMut(&str, anyhow::Result<()>)) {
    case("a vm of another flake", a_vm_of_another_flake(host));
    case("a vm without room", a_vm_without_room(host));
    case("a tap of another vm", a_tap_of_another_vm(host));
    case("an interruption", an_interruption(host));
}

fn flake(host: &Host, name: &str, memory: &str, build: &str) -> anyhow::Result<String> {
    flake_with(host, name, memory, build, "")
}

fn flake_with(host: &Host, name: &str, memory: &str, build: &str, more: &str) -> anyhow::Result<String> {
    let folder = format!("/root/kinds/{name}");
    let text = FLAKE.replace("NAME", name).replace("MEMORY", memory).replace("BUILD", build);
    let text = text.replace("MORE", more);
    host.write(&format!("{folder}/flake.nix"), text, 0o644)?;
    Ok(folder)
}

fn a_vm_of_another_flake(host: &Host) -> anyhow::Result<()> {
    let flake = flake(host, "sleeper-1", "16", "")?;
    let expected = Expected {
        code: 6,
        says: &["default/sleeper-1", "path:/root/fixtures/sleepers"],
        hint: "--take-over",
    };
    refused(host, &["deploy", &flake], &expected)
}

fn a_vm_without_room(host: &Host) -> anyhow::Result<()> {
    let flake = flake(host, "huge", "16000000", "")?;
    let expected = Expected {
        code: 8,
        says: &["1 of 1 vms has not come up", "\n  default/huge: failed: "],
        hint: "`blixard vm show`",
    };
    let told = refused(host, &["deploy", &flake], &expected);
    // It is accepted, and waits.
    host.run_ok(&["blixard", "vm", "delete", "huge"])?;
    told
}

/// Of another flake, so that only the cluster can know.
fn a_tap_of_another_vm(host: &Host) -> anyhow::Result<()> {
    let tap = |last: u8| {
        format!("interfaces = [ {{ kind = \"tap\"; id = \"vm-a\"; mac = \"02:00:00:00:00:0{last}\"; }} ];")
    };
    let first = flake_with(host, "tapped", "16", "", &tap(1))?;
    host.run_ok(&["blixard", "deploy", &first])?;
    let marked = host.run_ok(&["cat", "/sys/class/net/vm-a/ifalias"])?;
    anyhow::ensure!(marked.trim() == "blixard:default/tapped", "the tap is marked {marked:?}");
    let second = flake_with(host, "envious", "16", "", &tap(2))?;
    let expected = Expected {
        code: 6,
        says: &["the interface vm-a, which vm default/envious claims, belongs to vm default/tapped"],
        hint: "`blixard vm delete`",
    };
    let told = refused(host, &["deploy", &second], &expected);
    host.run_ok(&["blixard", "vm", "delete", "tapped"])?;
    let gone = !host.run(&["test", "-e", "/sys/class/net/vm-a"])?.status.success();
    anyhow::ensure!(gone, "a deleted vm has left its tap");
    told
}

/// Before the cluster has accepted it, a deployment ends with its caller.
fn an_interruption(host: &Host) -> anyhow::Result<()> {
    let flake = flake(host, "slow", "16", "sleep 54321")?;
    host.shell(&format!(
        "rm -f /root/said /root/ended; \
         setsid sh -c 'blixard deploy {flake} 2> /root/said & echo $! > /root/deploys; wait $!; \
           echo exit $? > /root/ended' </dev/null >/dev/null 2>&1 &"
    ))?;
    let builds = || host.shell("pgrep -f '^sleep 54321' || true");
    wait::until("the build to run", LIMIT, || {
        let said = host.shell("cat /root/said 2>/dev/null || true")?;
        Ok(if builds()?.is_empty() { Seen::Instead(said) } else { Seen::Done(()) })
    })?;
    host.shell("kill -INT $(cat /root/deploys)")?;
    let ended = wait::until("the deploy to end", LIMIT, || {
        let ended = host.shell("cat /root/ended 2>/dev/null || true")?;
        Ok(if ended.is_empty() { Seen::Instead(String::new()) } else { Seen::Done(ended) })
    })?;
    let said = host.run_ok(&["cat", "/root/said"])?;
    let is_told =
        said.contains("error: interrupted\nhint: the cluster had not said that it accepted the deployment; `blixard vm list` shows whether it has\n");
    anyhow::ensure!(is_told && ended.trim() == "exit 130", "{said}{ended}");
    Ok(())
}
