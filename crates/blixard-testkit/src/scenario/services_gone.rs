//! What Blixard stands on is gone for a while: room on the disk, the Nix daemon.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::bad_input::{Expected, Standing, check};
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "services_gone",
    shows: "a full disk, no Nix daemon: one clear error, nothing lost, and all is well afterwards",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(3);
const DATA: &str = "/var/lib/blixard";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.shell(&format!("mkdir -p {DATA}; mount -t tmpfs -o size=12M,mode=755 tmpfs {DATA}"))?;
    host.install_blixard(&context.binaries()?)?;
    deploys(host, 1)?;
    let guests = Standing::without_daemon(host)?;

    let mut wrong = Vec::new();
    for (name, scene) in [
        ("no Nix daemon", without_nix_daemon as fn(&Host) -> anyhow::Result<()>),
        ("a store that is full", with_a_full_store),
        ("a data folder that is full", with_a_full_data_folder),
    ] {
        let outcome = scene(host).and_then(|()| guests_go_on(&guests, host));
        if let Err(error) = outcome {
            wrong.push(format!("{name}: {error:#}"));
        }
    }
    ensure!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    Ok(())
}

/// The first sleeper is never touched.
fn guests_go_on(before: &Standing, host: &Host) -> anyhow::Result<()> {
    before.runs_on(host)?;
    deploys(host, 2).context("a deploy afterwards")?;
    host.run_ok(&["blixard", "vm", "delete", "sleeper-2"]).map(drop)
}

fn deploys(host: &Host, sleepers: u32) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, Fixture::Sleepers(sleepers))?;
    host.run_ok(&["blixard", "deploy", &flake]).map(drop)
}

fn without_nix_daemon(host: &Host) -> anyhow::Result<()> {
    host.shell("id alice 2>/dev/null || useradd --create-home --groups blixard,nix-users alice")?;
    let flake = fixture::prepare(host, Fixture::Sleepers(1))?;
    host.shell(&format!(
        "rm -rf /home/alice/flake; cp -r {flake} /home/alice/flake; chown -R alice /home/alice/flake"
    ))?;
    let deploy =
        ["runuser", "--user", "alice", "--", "blixard", "deploy", "/home/alice/flake", "--take-over"];
    host.run_ok(&deploy).context("a member of the group deploys")?;
    let before = Standing::of(host)?;

    host.run_ok(&["systemctl", "stop", "nix-daemon.socket", "nix-daemon.service"])?;
    let output = host.run(&deploy)?;
    let refused = check(
        &output,
        &Expected {
            code: 7,
            says: &["cannot connect to socket"],
            hint: "systemctl status nix-daemon.socket",
        },
    );
    let kept = before.is_kept(host);
    host.run_ok(&["systemctl", "start", "nix-daemon.socket"])?;
    refused.and(kept)?;
    host.run_ok(&deploy).context("with the Nix daemon back")?;
    host.run_ok(&["blixard", "deploy", &flake, "--take-over"]).context("taken back").map(drop)
}

/// Builds and sources go to a store with a megabyte of room.
fn with_a_full_store(host: &Host) -> anyhow::Result<()> {
    let before = Standing::of(host)?;
    let big = "{ outputs = { self }: { microvms.big = derivation { name = \"microvm-big\"; system = \"x86_64-linux\"; \
        builder = \"/bin/sh\"; args = [ \"-euc\" \"/usr/bin/mkdir -p $out/bin; /usr/bin/head -c 33554432 /dev/zero > $out/zeroes\" ]; } \
        // { blixard = { schema = 1; resources = { vcpus = 1; memoryMib = 16; }; }; }; }; }";
    host.write("/root/big/flake.nix", big, 0o644)?;
    host.shell(
        "mkdir -p /full; mount -t tmpfs -o size=4M tmpfs /full; mkdir /full/upper /full/work; \
         mount -t overlay overlay -o lowerdir=/nix/store,upperdir=/full/upper,workdir=/full/work /nix/store; \
         systemctl restart nix-daemon.service",
    )?;
    let output = host.run(&["blixard", "deploy", "/root/big"]);
    host.shell(
        "systemctl stop nix-daemon.service; umount -l /nix/store /full; systemctl start nix-daemon.socket",
    )?;
    // The database speaks of a source that was on the overlay.
    host.shell("nix-store --verify --check-contents --repair >/dev/null 2>&1 || nix-store --verify 2>/dev/null || true")?;
    let expected =
        Expected { code: 7, says: &["building /nix/store/", "No space left on device"], hint: "nix log" };
    check(&output?, &expected)?;
    before.is_kept(host)
}

/// The log cannot be written: the daemon refuses from the first change that it cannot make durable, and
/// what it has acknowledged is there when there is room again.
fn with_a_full_data_folder(host: &Host) -> anyhow::Result<()> {
    deploys(host, 2)?;
    host.shell(&format!("head -c 100M /dev/zero > {DATA}/filler || true"))?;
    let said = host.shell(
        "echo running > /root/acknowledged; \
         for round in $(seq 300); do for verb in stop start; do \
           if blixard vm $verb --no-wait sleeper-2 > /dev/null 2> /root/refusal; then \
             case $verb in stop) echo stopped ;; start) echo running ;; esac > /root/acknowledged; \
           else echo \"$verb $?\" | cat - /root/refusal; exit; fi; \
         done; done; echo nothing was refused",
    )?;
    let refusal = said.split_once('\n').map_or(("", ""), |(first, rest)| (first, rest));
    let (verb, code) = refusal.0.split_once(' ').unwrap_or_default();
    ensure!(matches!(code, "3" | "6"), "a change that cannot be made durable: {said}");
    let errors = refusal.1.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1 && refusal.1.contains("hint: "), "it is refused unclearly: {said}");
    let journal = wait::until("the daemon to say why", LIMIT, || {
        let journal =
            host.run_ok(&["journalctl", "--no-pager", "--output=cat", "--lines=60", "--unit=blixardd"])?;
        let told = journal.contains("No space left on device");
        Ok(if told { Seen::Done(journal) } else { Seen::Instead(journal) })
    })?;

    let acknowledged = host.run_ok(&["cat", "/root/acknowledged"])?.trim().to_owned();
    let asked = if verb == "stop" { "stopped" } else { "running" };
    host.shell(&format!(
        "rm {DATA}/filler; systemctl reset-failed blixardd.service; systemctl restart blixardd.service"
    ))
    .with_context(|| format!("the daemon does not start again; it said:\n{journal}"))?;
    let json = host.run_ok(&["blixard", "vm", "show", "sleeper-2", "-o", "json"])?;
    let vm: serde_json::Value = serde_json::from_str(&json)?;
    let desired = vm.get("desired").and_then(serde_json::Value::as_str).unwrap_or_default();
    // What was refused may have been written or not; what was acknowledged was.
    ensure!(
        desired == acknowledged || desired == asked,
        "{acknowledged} was acknowledged, {asked} was refused, and it is {desired}"
    );
    host.run_ok(&["blixard", "vm", "start", "sleeper-2"])?;
    host.run_ok(&["blixard", "vm", "delete", "sleeper-2"]).map(drop)
}
