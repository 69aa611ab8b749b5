//! One step of a command: say what is done, run it, say how long it took.

use std::process::Command;
use std::time::Instant;

use anyhow::Context as _;
use blixard_testkit::Workspace;

/// Prints what the tool does, apart from what the programs it runs print.
pub(crate) fn say(message: &str) {
    println!("==> {message}");
}

/// Runs `work` as a step.
pub(crate) fn step<T>(name: &str, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
    say(name);
    let begun = Instant::now();
    let result = work();
    let outcome = if result.is_ok() { "ok" } else { "FAILED" };
    say(&format!("{name}: {outcome} ({:.1} s)", begun.elapsed().as_secs_f64()));
    result
}

/// Runs cargo in the workspace, on this terminal, as a step.
pub(crate) fn cargo(
    workspace: &Workspace,
    arguments: &[&str],
    environment: &[(&str, &str)],
) -> anyhow::Result<()> {
    let shown = format!("cargo {}", arguments.join(" "));
    step(&shown, || {
        // The cargo that runs this tool; plain `cargo` when it is started by hand.
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let status = Command::new(cargo)
            .args(arguments)
            .envs(environment.iter().copied())
            .current_dir(workspace.root())
            .status()
            .with_context(|| format!("cannot start `{shown}`"))?;
        anyhow::ensure!(status.success(), "`{shown}` failed ({status})");
        Ok(())
    })
}

/// Builds the programs as they ship, which takes minutes.
pub(crate) fn build_release(workspace: &Workspace) -> anyhow::Result<()> {
    cargo(workspace, &[INSTALLED.as_slice(), &["--release"]].concat(), &[])
}

/// What a machine has installed.
const INSTALLED: [&str; 7] = ["build", "-p", "blixardd", "-p", "blixard-cli", "-p", "blixard-lease"];

/// Builds the programs that are installed on a machine.
pub(crate) fn build_blixard(workspace: &Workspace) -> anyhow::Result<()> {
    cargo(workspace, &INSTALLED, &[])
}

/// Builds the tests that need a real systemd, as part of the whole workspace.
pub(crate) fn build_adapter_tests(workspace: &Workspace) -> anyhow::Result<()> {
    cargo(workspace, &["test", "--workspace", "--test", "real_systemd", "--no-run"], &[])
}

/// Builds those, and the workbenches of scenarios.
pub(crate) fn build_for_scenarios(workspace: &Workspace) -> anyhow::Result<()> {
    let benches = ["-p", "blixard-bench", "-p", "blixard-closure-lab"];
    cargo(workspace, &[INSTALLED.as_slice(), &benches].concat(), &[])
}
