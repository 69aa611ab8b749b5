//! A flake that only its owner has: a member of the group `blixard` whose Nix may not write to the machine's
//! store, which is as if the flake were on another machine. Everything is sent; what is deployed is what a
//! local evaluation gives.

#![allow(clippy::print_stdout, reason = "a scenario's figures are for the developer at the terminal")]

mod inputs;
mod trees;
mod trouble;

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};
use crate::host::Host;
use crate::process::Output;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "local_flake_upload",
    shows: "flakes that only the caller has are uploaded, checked and evaluated as they are; inputs are fetched",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(2);
/// The owner, her folder, and the store that her `blixard` falls back to.
const OWNER: &str = "carol";
const HOME: &str = "/home/carol";
const STORE: &str = "/home/carol/.cache/blixard/store";
/// Where nothing may be left.
const ROOTS: &str = "/nix/var/nix/gcroots/blixard/uploads";
const SPOOL: &str = "/var/lib/blixard/uploads";

/// A runner that sleeps; `@words@` is what it depends on.
const RUNNER: &str = r#"derivation {
        name = "microvm-@name@";
        system = "x86_64-linux";
        builder = "/bin/sh";
        args = [ "-euc" ''
          export PATH=/usr/bin:/bin
          mkdir -p $out/bin
          @check@
          printf '#!/bin/sh\nexec sleep infinity\n' > $out/bin/microvm-run
          chmod +x $out/bin/microvm-run
        '' ];
        words = @words@;
      } // { blixard = {
        schema = 1; kvm = "unused"; health.activeForMs = 0;
        resources = { vcpus = 1; memoryMib = 16; overheadMib = 16; };
      }; }"#;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    host.shell(&format!("useradd --create-home --groups blixard {OWNER}"))?;
    let mut wrong = Vec::new();
    let cases = trees::CASES.iter().chain(inputs::CASES).chain(trouble::CASES);
    for (name, case) in cases {
        let (outcome, took) = wait::timed(|| case(host).and_then(|()| nothing_is_kept(host)));
        println!("{name}: {:.1} s", took.as_secs_f64());
        if let Err(error) = outcome {
            wrong.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

type Case = (&'static str, fn(&Host) -> anyhow::Result<()>);

fn runner(name: &str, check: &str, words: &str) -> String {
    RUNNER.replace("@name@", name).replace("@check@", check).replace("@words@", words)
}

/// What the owner would see at her own prompt.
fn owner(host: &Host, script: &str) -> anyhow::Result<Output> {
    let script = format!(
        "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=protocol.file.allow GIT_CONFIG_VALUE_0=always; {script}"
    );
    host.run_within(LIMIT, &["runuser", "--login", OWNER, "--command", &script], &[])
}

fn owner_ok(host: &Host, script: &str) -> anyhow::Result<String> {
    owner(host, &format!("set -eu; {script}"))?.ok().with_context(|| script.to_owned())
}

/// Deploys; gives what was said.
fn deploy(host: &Host, flake: &str) -> anyhow::Result<String> {
    owner_ok(host, &format!("blixard deploy {flake} 2>&1"))
}

/// Begins something of hers in the background.
fn begin(host: &Host, command: &str) -> anyhow::Result<()> {
    let script = format!(
        "rm -f /tmp/said; (runuser --login {OWNER} --command '{command}' </dev/null >/tmp/said 2>&1; \
         echo exit $? >> /tmp/said) >/dev/null 2>&1 &"
    );
    host.shell(&script).map(drop)
}

fn said(host: &Host) -> anyhow::Result<String> {
    host.shell("cat /tmp/said 2>/dev/null || true")
}

/// What it said to its end.
fn ended(host: &Host) -> anyhow::Result<String> {
    wait::until("the deploy to end", LIMIT, || {
        let said = said(host)?;
        Ok(if said.contains("exit ") { Seen::Done(said) } else { Seen::Instead(said) })
    })
}

/// The derivation of a vm is what her own Nix makes of the flake, in the form she deploys.
fn is_as_evaluated_locally(host: &Host, flake: &str, vm: &str) -> anyhow::Result<()> {
    let evaluate =
        format!("nix eval --store {STORE} --no-write-lock-file --raw '{flake}#microvms.{vm}.drvPath'");
    let local = owner_ok(host, &format!("{evaluate} 2>/dev/null"))?;
    let shown = host.run_ok(&["blixard", "vm", "show", vm, "-o", "json"])?;
    ensure!(
        local.contains(".drv") && shown.contains(&local),
        "{local} is evaluated locally, deployed is\n{shown}"
    );
    Ok(())
}

/// After a deployment, good or bad, no root and no part of a source is left of it.
fn nothing_is_kept(host: &Host) -> anyhow::Result<()> {
    wait::until("what uploads keep to go", LIMIT, || {
        let left = host.shell(&format!("find {ROOTS} {SPOOL} -mindepth 1 2>/dev/null || true"))?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Instead(left) })
    })
}
