//! Runs scenarios one after another and says how each went; on a failure, also what its hosts saw.

#![allow(clippy::print_stdout, reason = "the runner's output is for the developer at the terminal")]

use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Context, Scenario};
use crate::host::Host;
use crate::image::Image;
use crate::{Workspace, wait};

/// How many scenarios went how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tally {
    /// Those that passed.
    pub passed: usize,
    /// Those that did not.
    pub failed: usize,
    /// Those that could not run here, each with its reason.
    pub skipped: usize,
}

/// Why a scenario cannot run here: an error that is no failure.
#[derive(Debug)]
pub struct Skipped(pub String);

impl std::fmt::Display for Skipped {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(&self.0)
    }
}

impl std::error::Error for Skipped {}

impl std::fmt::Display for Tally {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{} passed, {} failed", self.passed, self.failed)?;
        match self.skipped {
            0 => Ok(()),
            skipped => write!(out, ", {skipped} skipped"),
        }
    }
}

/// Runs these scenarios; the last line it prints is the tally.
pub fn run(workspace: &Workspace, image: &Image, scenarios: &[Scenario]) -> Tally {
    let mut tally = Tally::default();
    for scenario in scenarios {
        println!("---- {}: {}", scenario.name, scenario.shows);
        let (result, elapsed) = wait::timed(|| run_one(workspace, image, scenario));
        let seconds = elapsed.as_secs_f64();
        match result {
            Ok(()) => {
                tally.passed += 1;
                println!("PASS {} ({seconds:.1} s)", scenario.name);
            }
            Err(error) if error.is::<Skipped>() => {
                tally.skipped += 1;
                println!("SKIP {}: {error:#}", scenario.name);
            }
            Err(error) => {
                tally.failed += 1;
                println!("FAIL {} ({seconds:.1} s)\n{error:#}", scenario.name);
            }
        }
    }
    println!("{tally}");
    tally
}

fn run_one(workspace: &Workspace, image: &Image, scenario: &Scenario) -> anyhow::Result<()> {
    let mut context = Context::new(workspace, image);
    let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(&mut context)))
        .unwrap_or_else(|panic| Err(anyhow::anyhow!("it panicked: {}", message(&*panic))));
    if result.as_ref().is_err_and(|error| !error.is::<Skipped>()) {
        context.worlds.iter().flat_map(super::World::hosts).for_each(dump);
    }
    result.and(context.end_worlds())
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("without a message")
}

/// What a host saw, for the one who looks for the cause.
fn dump(host: &Host) {
    for argv in [
        &["journalctl", "--no-pager", "--lines=60", "--unit=blixardd"][..],
        &["systemctl", "list-units", "--no-pager", "--all", "--plain", "--no-legend", "blixard*"],
        &["systemctl", "--no-pager", "--plain", "--no-legend", "--failed"],
    ] {
        let said = match host.run(argv) {
            Ok(output) => output.stdout + &output.stderr,
            Err(error) => format!("{error:#}\n"),
        };
        println!(">>>> {}: {}\n{}", host.name(), argv.join(" "), said.trim_end());
    }
}
