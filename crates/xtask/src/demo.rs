//! `demo`: what Blixard does, on this machine, in a minute.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::ensure;
use blixard_testkit::Workspace;
use blixard_testkit::fixture::{self, Fixture};
use blixard_testkit::host::{Binaries, Host};
use blixard_testkit::image::Image;
use blixard_testkit::wait::{self, Seen};
use blixard_testkit::world::{Lifetime, World};

use crate::{step, testhost};

const GUEST_LIMIT: Duration = Duration::from_secs(90);

/// Deploys the two guests of the fixture on a test host, and shows that they run.
pub(crate) fn demo(keep: bool) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    step::build_blixard(&workspace)?;
    let image = Image::ready(&workspace, &mut step::say)?;
    let lifetime = if keep { Lifetime::Detached } else { Lifetime::Attached };
    let world = step::step("booting a test host", || World::start(&workspace, &image, 1, lifetime))?;
    let host = world.host(0)?;
    let shown = show(host, &Binaries::built(&workspace)?);
    if keep {
        println!("the host is still up");
        testhost::explain();
        shown?;
    } else {
        shown.and(world.end())?;
    }
    println!("demo passed");
    Ok(ExitCode::SUCCESS)
}

fn show(host: &Host, binaries: &Binaries) -> anyhow::Result<()> {
    step::step("installing Blixard on it", || host.install_blixard(binaries))?;
    let flake = fixture::prepare(host, Fixture::Guests)?;
    type_in(host, &["blixard", "deploy", &flake])?;
    type_in(host, &["blixard", "vm", "list"])?;
    for vm in ["hello", "world"] {
        println!("{}", line_of(host, vm)?);
    }
    Ok(())
}

/// Runs a command as a user would, on this terminal.
fn type_in(host: &Host, argv: &[&str]) -> anyhow::Result<()> {
    let shown = argv.join(" ");
    println!("{} # {shown}", host.name());
    let status = host.attach(argv)?;
    ensure!(status.success(), "`{shown}` failed on the test host ({status})");
    Ok(())
}

/// The guest's own line, once it has said it.
fn line_of(host: &Host, vm: &str) -> anyhow::Result<String> {
    wait::until(&format!("{vm} to say that it booted"), GUEST_LIMIT, || {
        let log = host.run_ok(&["blixard", "vm", "logs", vm])?;
        let line = log.lines().find(|line| line.contains(&format!("blixard-guest {vm} ")));
        Ok(match line {
            Some(line) => Seen::Done(line.to_owned()),
            None => Seen::Instead(log),
        })
    })
}
