//! A daemon that is killed in the middle leaves nothing registered, and the next one goes on.

use anyhow::{Context as _, ensure};

use super::{Lab, Made};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "daemon_killed_mid_import",
    shows: "after SIGKILL in the middle of an import nothing is half registered, and the next one goes on",
    needs: Needs::Blixard,
    run,
};

const PATHS: u32 = 60;

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lab = Lab::start(context, 2, &Made { paths: PATHS, bytes: 24 << 20 })?;
    let target = lab.target()?;
    let peer = Lab::serve(lab.source(0)?, 7000, "--rate 4000000")?;
    lab.fetch_beside(&[&peer], "")?;
    lab.wait_for_paths(10)?;
    target.run_ok(&["systemctl", "kill", "--signal=KILL", "fetch"])?;
    wait::until("every process of the import to go", super::SERVES_LIMIT, || {
        let left = target.shell("pgrep blixard-closure || true")?;
        Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Instead(left) })
    })?;
    let valid = target.shell("nix-store --dump-db | grep -c -- '-lab' || true")?;
    ensure!(valid.trim() == "0", "half a closure is registered");
    target.run_ok(&["nix-store", "--verify", "--check-contents"])?;

    let again = lab.fetch(&[&peer], "--progress")?;
    ensure!(again.status.success(), "{}", again.unexpected("does not go on"));
    let first = again.stdout.lines().next().unwrap_or_default();
    let missing: u32 = first
        .split_whitespace()
        .nth(2)
        .and_then(|number| number.parse().ok())
        .with_context(|| format!("no progress: {first}"))?;
    ensure!(missing <= PATHS - 10, "{missing} paths were fetched again though 10 had landed");
    lab.is_whole()
}
