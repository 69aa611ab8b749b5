//! `schedule`: how fast placements are decided, on one core.
//!
//! A thousand hosts and ten thousand vms; see `crates/blixard-core/examples/schedule.rs`. *Cold* is all of them at
//! once, from a state that was never read; *steady* is one at a time, each after a change of the state. The peer, in
//! the same process, looks at every host for every vm, with all that it has to know read before. What `apply` does is
//! told and not judged.

use std::process::Command;

use anyhow::Context as _;
use blixard_testkit::Workspace;
use serde::Deserialize;

use super::outcome::{Better, Limit, Rounds};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "schedule",
    measures: "1,000 hosts, 10,000 vms: placements decided a second, cold and steady, beside a plain scan; p99",
    run,
};

const ROUNDS: u32 = 5;
/// What a core should decide in a second.
const DECISIONS: f64 = 20_000.0;

/// What one run says.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    plain: f64,
    cold: f64,
    steady: f64,
    p99_us: f64,
    applied: f64,
}

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    let build = ["build", "--release", "-p", "blixard-core", "--example", "schedule"];
    step::cargo(workspace, &build, &[])?;
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let figures = one_round(workspace)?;
        step::say(&format!(
            "round {round}: cold {:.0}/s, steady {:.0}/s with p99 {:.0} us, plain {:.0}/s, applied {:.0}/s",
            figures.cold, figures.steady, figures.p99_us, figures.plain, figures.applied,
        ));
        rounds.push(figures);
    }
    let mut outcome = Outcome::new(BENCH.name, ROUNDS);
    let pairs = rounds.iter().map(|figures| (figures.cold, figures.plain)).collect();
    let beside = Rounds { metric: "cold decisions, beside a scan", unit: "1/s", pairs, must: 1.0, goal: 5.0 };
    outcome.add_figures(&beside, Better::Higher);
    // The worst round counts.
    let least = |of: fn(&Figures) -> f64| rounds.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = |of: fn(&Figures) -> f64| rounds.iter().map(of).fold(0.0, f64::max);
    let at_least = |metric, ours| Limit { metric, unit: "1/s", ours, must: DECISIONS };
    outcome.add_limit(&at_least("cold decisions", least(|figures| figures.cold)), Better::Higher);
    outcome.add_limit(&at_least("steady decisions", least(|figures| figures.steady)), Better::Higher);
    let p99 = Limit { metric: "p99 of one decision", unit: "us", ours: most(|one| one.p99_us), must: 1000.0 };
    outcome.add_limit(&p99, Better::Lower);
    Ok(outcome)
}

fn one_round(workspace: &Workspace) -> anyhow::Result<Figures> {
    let target =
        std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace.root().join("target"), Into::into);
    let program = target.join("release/examples/schedule");
    let output =
        Command::new(&program).output().with_context(|| format!("cannot start {}", program.display()))?;
    anyhow::ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).context("the program gives no figures")
}
