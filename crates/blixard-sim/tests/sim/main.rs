//! The promises of consensus, one file each, with fixed seeds; `cargo xtask sim` runs many more.

mod acknowledged_writes;
mod any_server;
mod broken_rules;
mod determinism;
mod election_safety;
mod hosts;
mod linearizability;
mod log_matching;
mod membership;
mod watches;

use std::ops::RangeInclusive;

use blixard_sim::{Report, Shape, run};

/// Runs a shape with these seeds; every promise is looked at in every run.
fn kept(shape: &Shape, seeds: RangeInclusive<u64>) -> Vec<Report> {
    let seen = |seed| {
        let report = run(shape, seed);
        let broken: Vec<_> = report.violations.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "{report}\n{}\nrepro: {}", broken.join("\n"), report.repro());
        report
    };
    seeds.map(seen).collect()
}
