//! The test hosts themselves: what every other scenario takes for granted.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use blixard_types::Spec;

use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "testhost_boots",
    shows: "hosts boot, talk to each other, build in Nix's sandbox, run units, crash, return, and go",
    needs: Needs::TestHosts,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let world = context.world(2)?;
    let (first, second) = (world.host(0)?, world.host(1)?);
    systemd_is_whole(first)?;
    nix_builds_in_the_sandbox(first)?;
    a_guest_boots(first)?;

    let ping = ["ping", "-c1", "-W2", second.name()];
    first.run_ok(&ping)?;
    world.cut(second)?;
    first.run(&ping)?.refused()?;
    world.mend(second)?;
    first.run_ok(&ping)?;

    a_crash_takes_everything_but_the_disk(first, second)?;
    second.shutdown()?;
    ensure!(second.run(&["true"]).is_err(), "a host that is shut down still runs commands");

    let first = first.clone();
    context.end_worlds()?;
    ensure!(first.run(&["true"]).is_err(), "a host outlived its world");
    Ok(())
}

fn systemd_is_whole(host: &Host) -> anyhow::Result<()> {
    let failed = host.run_ok(&["systemctl", "--failed", "--plain", "--no-legend"])?;
    ensure!(failed.trim().is_empty(), "units failed: {failed}");
    let bus = [
        "busctl",
        "get-property",
        "org.freedesktop.systemd1",
        "/org/freedesktop/systemd1",
        "org.freedesktop.systemd1.Manager",
        "Version",
    ];
    ensure!(host.run_ok(&bus)?.starts_with("s \"257"), "systemd does not answer on D-Bus");
    let transient =
        ["systemd-run", "--wait", "--pipe", "--quiet", "--unit=transient-probe", "cat", "/proc/self/cgroup"];
    let cgroup = host.run_ok(&transient)?;
    // On a machine with hybrid cgroups there are lines of version 1, too.
    ensure!(
        cgroup.lines().any(|line| line == "0::/system.slice/transient-probe.service"),
        "a transient unit runs in {cgroup}"
    );
    Ok(())
}

fn nix_builds_in_the_sandbox(host: &Host) -> anyhow::Result<()> {
    let sleepers = fixture::prepare(host, Fixture::Sleepers(2))?;
    let installable = format!("path:{sleepers}#microvms.sleeper-2");
    let build = ["nix", "build", "--no-link", "--print-out-paths", "--no-write-lock-file", &installable];
    // Through the daemon, as an unprivileged client would.
    let out = host.run_ok(&[&["env", "NIX_REMOTE=daemon"], &build[..]].concat())?;
    host.run_ok(&["test", "-x", &format!("{}/bin/microvm-run", out.trim())])?;

    let broken = fixture::prepare(host, Fixture::FailingBuild)?;
    let said = host
        .run(&["nix", "build", "--no-link", "-L", &format!("path:{broken}#microvms.broken")])?
        .refused()?;
    ensure!(said.contains("the fixture fails on purpose"), "the build failed otherwise: {said}");
    let throws = fixture::prepare(host, Fixture::EvaluationError)?;
    let said = host.run(&["nix", "eval", &format!("path:{throws}#microvms.broken.drvPath")])?.refused()?;
    ensure!(said.contains("the fixture throws on purpose"), "the evaluation failed otherwise: {said}");

    let outside = "derivation { name = \"o\"; system = \"x86_64-linux\"; builder = \"/bin/sh\"; \
                   args = [ \"-c\" \"ls /root /etc/shadow || echo shut > $out\" ]; }";
    host.write("/root/outside.nix", outside, 0o644)?;
    host.run_ok(&["nix", "build", "--no-link", "--impure", "--file", "/root/outside.nix"])?;
    Ok(())
}

fn a_guest_boots(host: &Host) -> anyhow::Result<()> {
    let guests = fixture::prepare(host, Fixture::Guests)?;
    let installable = format!("path:{guests}#microvms.hello.blixard");
    let json = host.run_ok(&["nix", "eval", "--json", "--no-write-lock-file", &installable])?;
    Spec::from_json(&serde_json::from_str(&json)?).context("the fixture has a spec that is none")?;
    let build =
        format!("nix build --out-link /root/hello --no-write-lock-file 'path:{guests}#microvms.hello'");
    host.shell(&build)?;
    host.run_ok(&[
        "systemd-run",
        "--quiet",
        "--unit=hello",
        "--setenv=BLIXARD_GENERATION=7",
        "/root/hello/bin/microvm-run",
    ])?;
    wait::until("the guest's line", Duration::from_mins(1), || {
        let journal = host.journal("hello")?;
        let said = journal.contains("blixard-guest hello generation 7 boot ");
        Ok(if said { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    host.run_ok(&["systemctl", "stop", "hello"]).map(drop)
}

fn a_crash_takes_everything_but_the_disk(first: &Host, second: &Host) -> anyhow::Result<()> {
    let boot = |host: &Host| {
        host.run_ok(&["systemctl", "show", "--value", "--property=UserspaceTimestampMonotonic"])
    };
    let (first_boot, second_boot) = (boot(first)?, boot(second)?);
    second.write("/var/lib/kept", "kept", 0o600)?;
    second.kill()?;
    ensure!(second.run(&["true"]).is_err(), "a crashed host still runs commands");
    second.boot()?;
    ensure!(second.run_ok(&["cat", "/var/lib/kept"])? == "kept", "the disk did not survive");
    ensure!(boot(second)? != second_boot, "the crashed host did not boot again");
    ensure!(boot(first)? == first_boot, "the crash hit the other host");
    Ok(())
}
