//! `start-storm`: a host that is to start 200 vms at once, as after its boot.
//!
//! One host, 200 runners that only sleep. Ours is the daemon, started while no unit runs: it is granted all of them.
//! The peer makes bare `StartTransientUnit` calls for units with the same settings, on one connection, with as many
//! under way as the adapter has, while there is no daemon (`crates/blixard-systemd/examples/bare_starts.rs`). By turns;
//! the rate of either is what systemd says of its units: from the first that was begun to the last that was active.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use blixard_testkit::Workspace;
use blixard_testkit::fixture::{self, Fixture};
use blixard_testkit::host::{Binaries, Host};
use blixard_testkit::image::Image;
use blixard_testkit::wait::{self, Seen};
use blixard_testkit::world::{Lifetime, World};

use super::outcome::{Better, Rounds};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "start-storm",
    measures: "200 vms on one host: units active a second beside bare StartTransientUnit calls",
    run,
};

const VMS: usize = 200;
const ROUNDS: u32 = 5;
const LIMIT: Duration = Duration::from_mins(3);
const BARE: &str = "/usr/local/bin/bare-starts";

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::build_release(workspace)?;
    let bare = ["build", "--release", "-p", "blixard-systemd", "--example", "bare_starts"];
    step::cargo(workspace, &bare, &[])?;
    step::say("profile: release (what ships); vms: health.activeForMs = 0");
    let image = Image::ready(workspace, &mut step::say)?;
    let world = World::start(workspace, &image, 1, Lifetime::Attached)?;
    let outcome = measure(workspace, world.host(0)?, &Binaries::released(workspace)?);
    outcome.and_then(|outcome| world.end().map(|()| outcome))
}

fn measure(workspace: &Workspace, host: &Host, binaries: &Binaries) -> anyhow::Result<Outcome> {
    // Each asks for a core, as guests do that are mostly idle.
    let config = format!("[node]\nname = \"{}\"\n[host]\ncpu_overcommit = 200\n", host.name());
    host.install_blixard_with(binaries, &config)?;
    host.copy_in(&workspace.target().join("release/examples/bare_starts"), BARE, 0o755)?;
    step::step("deploying 200 vms", || deploy(host))?;
    let runner = host.run_ok(&["sh", "-c", "ls -d /nix/store/*-microvm-sleeper-1"])?;
    let program = format!("{}/bin/microvm-run", runner.trim());
    let mut pairs = Vec::new();
    for number in 0..ROUNDS {
        let ours_first = number.is_multiple_of(2);
        let (mut of_ours, mut of_peer) = (0.0, 0.0);
        for ours_now in [ours_first, !ours_first] {
            if ours_now {
                of_ours = ours(host)?;
            } else {
                of_peer = peer(host, &program)?;
            }
        }
        step::say(&format!("round {number}: ours {of_ours:.0}/s, bare calls {of_peer:.0}/s"));
        pairs.push((of_ours, of_peer));
    }
    let mut outcome = Outcome::new(BENCH.name, ROUNDS);
    let rounds = Rounds { metric: "units active a second, of 200", unit: "1/s", pairs, must: 0.8, goal: 1.0 };
    outcome.add_figures(&rounds, Better::Higher);
    Ok(outcome)
}

fn deploy(host: &Host) -> anyhow::Result<()> {
    let flake = fixture::prepare(host, Fixture::Sleepers(u32::try_from(VMS)?))?;
    host.run_ok(&["blixard", "deploy", &flake]).map(drop)
}

/// The daemon starts what it is granted.
fn ours(host: &Host) -> anyhow::Result<f64> {
    quiet(host)?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    rate(host, "blixard-vm-default-*-run.service")
}

/// Calls, and nobody who looks.
fn peer(host: &Host, program: &str) -> anyhow::Result<f64> {
    quiet(host)?;
    host.run_ok(&[BARE, &VMS.to_string(), program])?;
    rate(host, "blixard-vm-bare-*-run.service")
}

/// No daemon, and no unit of either.
fn quiet(host: &Host) -> anyhow::Result<()> {
    host.shell("systemctl stop blixardd; systemctl stop 'blixard-vm-*'; systemctl stop blixard-lease")?;
    wait::until("all units to be gone", LIMIT, || {
        let left = units(host, "blixard-vm-*-run.service")?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Instead(format!("{} units", left.len())) })
    })
}

/// Waits until all units are active, and gives how many became so in a second.
fn rate(host: &Host, pattern: &str) -> anyhow::Result<f64> {
    let spans = wait::until("all units to be active", LIMIT, || {
        let units = units(host, pattern)?;
        let active = units.iter().filter(|(_, active)| *active > 0).count();
        Ok(if active == VMS {
            Seen::Done(units)
        } else {
            Seen::Instead(format!("{active} of {}", units.len()))
        })
    })?;
    let begun = spans.iter().map(|(begun, _)| *begun).min().context("no units")?;
    let active = spans.iter().map(|(_, active)| *active).max().context("no units")?;
    ensure!(active > begun, "systemd's times are {begun} and {active}");
    let micros = u32::try_from(active - begun).context("an hour is too long")?;
    Ok(f64::from(u32::try_from(VMS)?) * 1e6 / f64::from(micros))
}

/// When the start of each unit was begun, and when it was active (0: not yet), in microseconds since boot.
fn units(host: &Host, pattern: &str) -> anyhow::Result<Vec<(u64, u64)>> {
    let begun = "InactiveExitTimestampMonotonic";
    let asked = format!("{begun},ActiveEnterTimestampMonotonic");
    let shown = host.run_ok(&["systemctl", "show", "--property", &asked, pattern])?;
    let of = |unit: &str, name: &str| -> Option<u64> {
        unit.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
    };
    let times = |unit: &str| Some((of(unit, begun)?, of(unit, "ActiveEnterTimestampMonotonic")?));
    Ok(shown.split("\n\n").filter_map(times).collect())
}
