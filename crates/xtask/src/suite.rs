//! `test` and `e2e`: everything that runs.

use std::process::{Command, ExitCode};

use blixard_testkit::Workspace;
use blixard_testkit::image::Image;
use blixard_testkit::scenario::{self, Needs, Scenario};

use crate::step;

/// Runs the tests of every crate, then every scenario.
pub(crate) fn test() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    let tests = if has_nextest() {
        let run = step::cargo(&workspace, &["nextest", "run", "--workspace", "--no-fail-fast"], &[]);
        // nextest runs no examples of the documentation.
        run.and(step::cargo(&workspace, &["test", "--quiet", "--workspace", "--doc"], &[]))
    } else {
        step::say("cargo-nextest is not installed: `cargo test` does as well");
        step::cargo(&workspace, &["test", "--workspace", "--no-fail-fast"], &[])
    };
    let scenarios = run_scenarios(&workspace, scenario::ALL);
    match (tests, scenarios) {
        (Ok(()), scenarios) => scenarios,
        (Err(tests), Ok(_)) => Err(tests),
        (Err(tests), Err(scenarios)) => anyhow::bail!("{tests:#}\nand {scenarios:#}"),
    }
}

/// Runs simulations.
pub(crate) fn sim(arguments: &[String]) -> anyhow::Result<ExitCode> {
    let run = ["run", "--quiet", "-p", "blixard-sim", "--"];
    let arguments: Vec<&str> = run.into_iter().chain(arguments.iter().map(String::as_str)).collect();
    step::cargo(&Workspace::here()?, &arguments, &[])?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the scenarios of these names, or all.
pub(crate) fn e2e(names: &[String]) -> anyhow::Result<ExitCode> {
    run_scenarios(&Workspace::here()?, &scenario::select(names)?)
}

/// Lists the scenarios.
pub(crate) fn list() -> ExitCode {
    for scenario in scenario::ALL {
        println!("{:<24} {}", scenario.name, scenario.shows);
    }
    ExitCode::SUCCESS
}

fn run_scenarios(workspace: &Workspace, scenarios: &[Scenario]) -> anyhow::Result<ExitCode> {
    let image = Image::ready(workspace, &mut step::say)?;
    if scenarios.iter().any(|scenario| scenario.needs != Needs::TestHosts) {
        step::build_for_scenarios(workspace)?;
    }
    if scenarios.iter().any(|scenario| scenario.needs == Needs::AdapterTests) {
        step::build_adapter_tests(workspace)?;
    }
    let tally = scenario::run(workspace, &image, scenarios);
    anyhow::ensure!(tally.failed == 0, "{} of the end-to-end scenarios failed; see FAIL above", tally.failed);
    Ok(ExitCode::SUCCESS)
}

fn has_nextest() -> bool {
    let output = Command::new("cargo-nextest").args(["nextest", "--version"]).output();
    output.is_ok_and(|output| output.status.success())
}
