//! `deploy-overhead`: what Blixard adds to building and starting.
//!
//! One host, 20 runners that only sleep, their closures built. Ours is `blixard deploy`, until it exits;
//! the peer is a shell script that does `nix build` of the same attributes and `systemd-run` of each,
//! with the limits and the sandbox that Blixard gives, until all are active. By turns, each on a tree
//! that was never evaluated; then each again on the same tree: ours with everything running, the
//! script after its units were stopped, because it would refuse to start what runs.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use blixard_testkit::Workspace;
use blixard_testkit::fixture::{self, Fixture};
use blixard_testkit::host::{Binaries, Host};
use blixard_testkit::image::Image;
use blixard_testkit::wait::{self, Seen};
use blixard_testkit::world::{Lifetime, World};

use super::outcome::{Better, Limit, Rounds};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "deploy-overhead",
    measures: "20 vms: first and unchanged deploy beside `nix build` and `systemd-run`; the daemon's memory",
    run,
};

const VMS: u32 = 20;
const ROUNDS: u32 = 5;
const SETTLE_LIMIT: Duration = Duration::from_mins(3);

/// Times a command line on the host, in seconds.
const TIMED: &str = r#"begun=$EPOCHREALTIME
"$@" >/tmp/timed.log 2>&1 || { cat /tmp/timed.log >&2; exit 1; }
echo $(( ${EPOCHREALTIME/./} - ${begun/./} ))"#;

const SCRIPT: &str = r#"#!/bin/bash
# What a person would write: build all, start each, be sure that it is up.
set -euo pipefail
refs=()
for n in $(seq "$2"); do refs+=("$1#microvms.sleeper-$n"); done
mkdir -p /var/lib/peer
mapfile -t outs < <(nix build --out-link /var/lib/peer/result --print-out-paths "${refs[@]}")
n=0
for out in "${outs[@]}"; do
  n=$((n + 1))
  mkdir -p "/var/lib/peer/$n"
  systemd-run --quiet --unit="peer-$n" --slice=blixard-default.slice --collect \
    --working-directory="/var/lib/peer/$n" \
    -p Type=exec -p Restart=always -p RestartSec=1 -p KillSignal=SIGKILL \
    -p MemoryMax=32M -p TasksMax=1024 -p OOMPolicy=kill -p LimitMEMLOCK=infinity \
    -p RuntimeDirectory="peer/$n" -p ReadWritePaths="/var/lib/peer/$n" -p DevicePolicy=closed \
    -p NoNewPrivileges=yes -p PrivateTmp=yes -p ProtectHome=yes -p ProtectSystem=strict \
    -p ProtectKernelTunables=yes -p ProtectKernelModules=yes -p ProtectControlGroups=yes \
    -p RestrictSUIDSGID=yes "$out/bin/microvm-run"
done
systemctl --quiet is-active $(seq --format='peer-%g.service' "$2")
"#;

/// Seconds of one round.
struct Round {
    first: (f64, f64),
    again: (f64, f64),
}

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::build_release(workspace)?;
    step::say("profile: release (what ships); vms: health.activeForMs = 0");
    let image = Image::ready(workspace, &mut step::say)?;
    let world = World::start(workspace, &image, 1, Lifetime::Attached)?;
    let outcome = measure(world.host(0)?, &Binaries::released(workspace)?);
    outcome.and_then(|outcome| world.end().map(|()| outcome))
}

fn measure(host: &Host, binaries: &Binaries) -> anyhow::Result<Outcome> {
    host.install_blixard(binaries)?;
    host.write("/usr/local/bin/peer", SCRIPT, 0o755)?;
    let flake = fixture::prepare(host, Fixture::Sleepers(VMS))?;
    step::step("building the closures", || peer(host, &flake))?;
    stop_peer(host)?;
    let mut rounds = Vec::new();
    for number in 0..ROUNDS {
        let round = round(host, &flake, number)?;
        let ((ours, peer), (again, peer_again)) = (round.first, round.again);
        step::say(&format!(
            "round {number}: deploy {ours:.2} s, script {peer:.2} s; again {again:.2} s, {peer_again:.2} s"
        ));
        rounds.push(round);
    }
    ours(host, &flake)?;
    let memory = resident_megabytes(host)?;
    let mut outcome = Outcome::new(BENCH.name, ROUNDS);
    let seconds = |metric, pairs, must, goal| Rounds { metric, unit: "s", pairs, must, goal };
    outcome.add_rounds(&seconds("deploy of 20 new vms", firsts(&rounds), 1.5, 1.0));
    outcome.add_rounds(&seconds("deploy of 20 unchanged vms", agains(&rounds), 0.5, 0.2));
    let memory = Limit { metric: "RSS of the daemon, 20 vms, idle", unit: "MB", ours: memory, must: 60.0 };
    outcome.add_limit(&memory, Better::Lower);
    Ok(outcome)
}

fn firsts(rounds: &[Round]) -> Vec<(f64, f64)> {
    rounds.iter().map(|round| round.first).collect()
}

fn agains(rounds: &[Round]) -> Vec<(f64, f64)> {
    rounds.iter().map(|round| round.again).collect()
}

/// Both sides, the one that goes first changing with each round; everything is gone afterwards.
fn round(host: &Host, flake: &str, number: u32) -> anyhow::Result<Round> {
    let ours_first = number.is_multiple_of(2);
    let (mut of_ours, mut of_peer) = ((0.0, 0.0), (0.0, 0.0));
    for ours_now in [ours_first, !ours_first] {
        let tree = format!("round {number}, {ours_now}\n");
        host.write(&format!("{flake}/round"), tree, 0o644)?;
        if ours_now {
            of_ours = (ours(host, flake)?, ours(host, flake)?);
            delete_ours(host)?;
        } else {
            of_peer.0 = peer(host, flake)?;
            stop_peer(host)?;
            of_peer.1 = peer(host, flake)?;
            stop_peer(host)?;
        }
    }
    Ok(Round { first: (of_ours.0, of_peer.0), again: (of_ours.1, of_peer.1) })
}

fn timed(host: &Host, argv: &[&str]) -> anyhow::Result<f64> {
    let whole = [&["bash", "-euo", "pipefail", "-c", TIMED, "timed"], argv].concat();
    let micros: u32 = host.run_ok(&whole)?.trim().parse().context("no number of microseconds")?;
    Ok(f64::from(micros) / 1e6)
}

fn ours(host: &Host, flake: &str) -> anyhow::Result<f64> {
    timed(host, &["blixard", "deploy", flake])
}

fn peer(host: &Host, flake: &str) -> anyhow::Result<f64> {
    timed(host, &["peer", flake, &VMS.to_string()])
}

fn stop_peer(host: &Host) -> anyhow::Result<()> {
    host.run_ok(&["systemctl", "stop", "peer-*.service"]).map(drop)
}

fn delete_ours(host: &Host) -> anyhow::Result<()> {
    let delete = format!("for n in $(seq {VMS}); do blixard vm delete --no-wait sleeper-$n; done");
    host.shell(&delete)?;
    let left = "blixard vm list 2>/dev/null; systemctl list-units --plain --no-legend 'blixard-vm-*'; \
                find /nix/var/nix/gcroots/blixard -type l";
    wait::until("all vms, units and roots to go", SETTLE_LIMIT, || {
        let left = host.shell(left)?;
        Ok(if left.contains("sleeper") { Seen::Instead(left) } else { Seen::Done(()) })
    })
}

/// The daemon's resident memory in MB (10^6 bytes).
fn resident_megabytes(host: &Host) -> anyhow::Result<f64> {
    let pid = host.run_ok(&["systemctl", "show", "--value", "--property=MainPID", "blixardd"])?;
    let status = host.run_ok(&["cat", &format!("/proc/{}/status", pid.trim())])?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let (kib, unit) = line.trim().split_once(' ').context("VmRSS without a unit")?;
    ensure!(unit == "kB", "VmRSS is in {unit}");
    Ok(f64::from(kib.parse::<u32>()?) * 1024.0 / 1e6)
}
