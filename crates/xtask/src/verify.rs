//! `verify`, `fix` and `tidy`: what can be known of the source without running it.

use std::process::ExitCode;

use blixard_testkit::Workspace;

use crate::{step, tidy};

/// Checks everything and names every check that failed.
pub(crate) fn verify() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    let cargo =
        |arguments: &[&str], environment: &[(&str, &str)]| step::cargo(&workspace, arguments, environment);
    let failures: Vec<String> = [
        step::step("tidy", || tidy::check_workspace(workspace.root())),
        cargo(&["fmt", "--all", "--check"], &[]),
        cargo(&["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"], &[]),
        cargo(&["doc", "--workspace", "--no-deps"], &[("RUSTDOCFLAGS", "-D warnings")]),
    ]
    .into_iter()
    .filter_map(Result::err)
    .map(|error| format!("{error:#}"))
    .collect();
    if failures.is_empty() {
        step::say("verified");
        return Ok(ExitCode::SUCCESS);
    }
    anyhow::bail!(
        "not verified:\n{}\nhint: `cargo xtask fix` mends format and simple lints",
        failures.join("\n")
    )
}

/// Mends what a machine can mend.
pub(crate) fn fix() -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    let clippy = ["clippy", "--workspace", "--all-targets", "--fix", "--allow-dirty", "--allow-staged"];
    step::cargo(&workspace, &clippy, &[])?;
    step::cargo(&workspace, &["fmt", "--all"], &[])?;
    Ok(ExitCode::SUCCESS)
}

/// Checks the project's own rules alone.
pub(crate) fn tidy() -> anyhow::Result<ExitCode> {
    step::step("tidy", || tidy::check_workspace(Workspace::here()?.root()))?;
    Ok(ExitCode::SUCCESS)
}
