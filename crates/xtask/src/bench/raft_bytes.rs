//! `raft-bytes`: what a deployed vm costs in the log, beyond its spec.
//!
//! The workbench makes the very command that a builder proposes, for closures of 10, 1,000 and 10,000
//! paths, encodes it as for the log, and takes its spec away.

use std::process::Command;

use anyhow::ensure;
use blixard_testkit::Workspace;

use super::outcome::{Better, Limit};
use super::{Bench, Outcome};
use crate::step;

pub(super) const BENCH: Bench = Bench {
    name: "raft-bytes",
    measures: "log bytes of a deployed vm beyond its spec, for closures of 10, 1,000 and 10,000 paths",
    run,
};

const LESS_THAN: f64 = 1024.0;

fn run(workspace: &Workspace) -> anyhow::Result<Outcome> {
    step::cargo(workspace, &["build", "-p", "blixard-closure-lab"], &[])?;
    let lab = workspace.target().join("debug/blixard-closure-lab");
    let mut outcome = Outcome::new(BENCH.name, 1);
    let mut first = None;
    for (paths, metric) in [("10", "10 paths"), ("1000", "1,000 paths"), ("10000", "10,000 paths")] {
        let output = Command::new(&lab).args(["log-bytes", "--paths", paths]).output()?;
        ensure!(output.status.success(), "{} failed", lab.display());
        let bytes: f64 = String::from_utf8(output.stdout)?.trim().parse()?;
        let least = *first.get_or_insert(bytes);
        outcome.add_limit(&Limit { metric, unit: "bytes", ours: bytes, must: LESS_THAN }, Better::Lower);
        // A number of more paths may take a byte or two more.
        let metric = "more than for 10 paths";
        outcome.add_limit(&Limit { metric, unit: "bytes", ours: bytes - least, must: 4.0 }, Better::Lower);
    }
    Ok(outcome)
}
