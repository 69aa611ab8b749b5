//! What Blixard stands on is gone for a while: room on the disk, D-Bus, the Nix daemon.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::bad_input::{Expected, Standing, check};
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "services_gone",
    shows: "a full disk, no D-Bus, no Nix daemon: one clear error, nothing lost, and all is well afterwards",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(3);
const EVALUATIONS: &str = "blixard-confined-evaluate-*.service";
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
        ("a D-Bus that hangs", with_a_bus_that_hangs),
        ("a D-Bus that comes back", with_a_bus_that_comes_back),
        ("no D-Bus", without_bus),
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

/// A deploy waits for a bus that hangs, and ends well when it goes on. Evaluation needs it first.
fn with_a_bus_that_hangs(host: &Host) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, Fixture::Sleepers(3))?;
    host.run_ok(&["systemctl", "kill", "--signal=SIGSTOP", "dbus.service"])?;
    let mend = ["systemctl", "kill", "--signal=SIGCONT", "dbus.service"];
    let ended = deploy_meanwhile(host, &flake, "evaluating", &mend)?;
    ensure!(ended.contains("exit 0") && !ended.contains("error"), "the deploy ended with:\n{ended}");
    forget(host)
}

/// A deploy that finds no bus waits for it, too, and one that is evaluating when the bus goes begins again.
fn with_a_bus_that_comes_back(host: &Host) -> anyhow::Result<()> {
    let stop = ["systemctl", "stop", "dbus.service", "dbus.socket"];
    let start = ["systemctl", "start", "dbus.socket", "dbus.service"];
    let flake = fixture::prepare(host, Fixture::Sleepers(4))?;
    host.run_ok(&stop)?;
    let ended = deploy_meanwhile(host, &flake, "evaluating", &start)?;
    ensure!(
        ended.contains("exit 0") && !ended.contains("error"),
        "without a bus the deploy ended with:\n{ended}"
    );

    // It evaluates for longer than a bus takes to restart.
    let slow = "let spin = depth: if depth == 0 then 0 else builtins.foldl' (_: _: spin (depth - 1)) 0 \
        (builtins.genList (i: i) 250); in builtins.seq (spin 3) 4";
    host.write(&format!("{flake}/count.nix"), slow, 0o644)?;
    begin_deploy(host, &flake)?;
    wait::until("the evaluation to run", LIMIT, || {
        let units = host.run_ok(&["systemctl", "list-units", "--plain", "--no-legend", EVALUATIONS])?;
        Ok(if units.is_empty() { Seen::Instead(said(host)?) } else { Seen::Done(()) })
    })?;
    host.run_ok(&["systemctl", "restart", "dbus.service"])?;
    let ended = await_end(host)?;
    ensure!(
        ended.contains("exit 0") && !ended.contains("error"),
        "on a new bus the deploy ended with:\n{ended}"
    );
    let left = host.run_ok(&["systemctl", "list-units", "--all", "--plain", "--no-legend", EVALUATIONS])?;
    ensure!(left.is_empty(), "an evaluation is left: {left}");
    host.run_ok(&["blixard", "vm", "delete", "sleeper-4"])?;
    forget(host)
}

/// Without a bus nothing can be started; the deploy says so at the latest when its patience is over. The flake
/// has been evaluated and built before, so this is the bus that a start needs.
fn without_bus(host: &Host) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, Fixture::Sleepers(3))?;
    host.run_ok(&["blixard", "deploy", &flake])?;
    forget(host)?;
    host.run_ok(&["systemctl", "stop", "dbus.service", "dbus.socket"])?;
    let ended = deploy_meanwhile(
        host,
        &flake,
        "starting on",
        &["systemctl", "start", "dbus.socket", "dbus.service"],
    )?;
    let errors = ended.lines().filter(|line| line.starts_with("error")).count();
    ensure!(
        ended.contains("exit 0") && errors == 0 || ended.contains("exit 8") && errors == 1,
        "the deploy ended with:\n{ended}"
    );
    for vm in ["sleeper-2", "sleeper-3"] {
        await_healthy(host, vm)?;
    }
    forget(host)
}

fn forget(host: &Host) -> anyhow::Result<()> {
    host.run_ok(&["blixard", "vm", "delete", "sleeper-2"])?;
    host.run_ok(&["blixard", "vm", "delete", "sleeper-3"]).map(drop)
}

/// Deploys, mends the host once the deploy has said that it has come this far, and gives all that it said.
fn deploy_meanwhile(host: &Host, flake: &str, far: &str, mend: &[&str]) -> anyhow::Result<String> {
    begin_deploy(host, flake)?;
    let under_way = wait::until(&format!("the deploy to say {far:?}"), LIMIT, || {
        let said = said(host)?;
        Ok(if said.contains(far) { Seen::Done(()) } else { Seen::Instead(said) })
    });
    host.run_ok(mend)?;
    under_way?;
    await_end(host)
}

fn begin_deploy(host: &Host, flake: &str) -> anyhow::Result<()> {
    let script = format!(
        "rm -f /root/said /root/ended; \
         setsid sh -c 'blixard deploy {flake} > /root/said 2>&1; echo exit $? > /root/ended' \
         </dev/null >/dev/null 2>&1 &"
    );
    host.shell(&script).map(drop)
}

fn said(host: &Host) -> anyhow::Result<String> {
    host.shell("cat /root/said 2>/dev/null || true")
}

fn await_end(host: &Host) -> anyhow::Result<String> {
    wait::until("the deploy to end", LIMIT, || {
        let ended = host.shell("cat /root/ended 2>/dev/null || true")?;
        let said = said(host)?;
        Ok(if ended.is_empty() { Seen::Instead(said) } else { Seen::Done(said + &ended) })
    })
}

fn await_healthy(host: &Host, vm: &str) -> anyhow::Result<()> {
    wait::until(&format!("{vm} to be healthy"), LIMIT, || {
        let show = host.run_ok(&["blixard", "vm", "list"])?;
        let line = show.lines().find(|line| line.contains(vm)).unwrap_or_default();
        Ok(if line.contains(" healthy ") { Seen::Done(()) } else { Seen::Instead(show) })
    })
}

/// The log cannot be written: the daemon refuses from the first change that it cannot make durable, and
/// what it has acknowledged is there when there is room again. The room that the log has made sure of is used
/// before: a segment, at most.
fn with_a_full_data_folder(host: &Host) -> anyhow::Result<()> {
    deploys(host, 2)?;
    host.shell(&format!("head -c 100M /dev/zero > {DATA}/filler || true"))?;
    let said = host.shell(
        "echo running > /root/acknowledged; \
         for round in $(seq 5000); do for verb in stop start; do \
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
