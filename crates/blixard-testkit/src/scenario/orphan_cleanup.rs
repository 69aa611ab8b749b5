//! What is on a host and on no assignment goes; what is not Blixard's stays.

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::bad_input::Standing;
use super::{Context, Needs, Scenario};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "orphan_cleanup",
    shows: "units, taps and roots of vms that a host was not given are removed, also under way, and nobody else's are",
    needs: Needs::Blixard,
    run,
};

const LIMIT: Duration = Duration::from_mins(2);
const ROOTS: &str = "/nix/var/nix/gcroots";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let host = &context.host()?;
    host.install_blixard(&context.binaries()?)?;
    let flake = fixture::prepare(host, Fixture::Sleepers(1))?;
    host.run_ok(&["blixard", "deploy", &flake])?;
    somebody_elses(host)?;
    let before = Standing::of(host)?;

    // The daemon runs: systemd tells it of units, and it looks for the rest from time to time.
    orphan(host, "ghost", 7)?;
    gone(host, "ghost").context("beside a daemon that runs")?;
    before.is_kept(host).context("beside a daemon that runs")?;
    somebody_elses_are_kept(host)?;

    // It does not run: the next one finds all of it, and some that have no unit any more.
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    orphan(host, "ghost", 8)?;
    orphan(host, "shade", 1)?;
    host.run_ok(&["systemctl", "stop", &unit("shade")])?;
    wait::until("the orphan to run without a daemon", LIMIT, || {
        let state = host.run(&["systemctl", "is-active", &unit("ghost")])?.stdout;
        Ok(if state.trim() == "active" { Seen::Done(()) } else { Seen::Instead(state) })
    })?;
    host.run_ok(&["systemctl", "start", "blixardd"])?;
    for name in ["ghost", "shade"] {
        gone(host, name).context("after a start of the daemon")?;
    }
    before.runs_on(host)?;
    somebody_elses_are_kept(host)?;

    // A run of its own that the state does not know any more: another epoch of a vm that there is.
    host.run_ok(&["blixard", "vm", "stop", "sleeper-1"])?;
    orphan(host, "sleeper-1", 900)?;
    wait::until("a run of another epoch to end", LIMIT, || what_is_left(host, "sleeper-1", ""))?;
    somebody_elses_are_kept(host)
}

fn unit(name: &str) -> String {
    format!("blixard-vm-default-{}-run.service", name.replace('-', "\\x2d"))
}

/// A run of a vm as a daemon leaves it: its unit, its tap with its mark, and its root.
fn orphan(host: &Host, name: &str, epoch: u64) -> anyhow::Result<()> {
    let tap = name.replace('-', "");
    host.shell(&format!(
        "mkdir -p {ROOTS}/blixard/vms/default/{name}
         ln -sfn \"$(readlink {ROOTS}/blixard/vms/default/sleeper-1/1)\" {ROOTS}/blixard/vms/default/{name}/9
         ip tuntap add {tap} mode tap
         ip link set {tap} alias blixard:default/{name}"
    ))?;
    let environment = [
        format!("--setenv=BLIXARD_VM=default/{name}"),
        "--setenv=BLIXARD_GENERATION=9".to_owned(),
        format!("--setenv=BLIXARD_EPOCH={epoch}"),
    ];
    let unit = format!("--unit={}", unit(name));
    // Without waiting for the start, which a daemon that runs may undo first.
    let mut argv = vec!["systemd-run", "--quiet", "--no-block", "--collect", &unit];
    argv.extend(environment.iter().map(String::as_str));
    argv.extend(["--slice=blixard-default.slice", "--property=Restart=always", "/usr/bin/sleep", "infinity"]);
    host.run_ok(&argv).map(drop)
}

fn gone(host: &Host, name: &str) -> anyhow::Result<()> {
    let root = format!("{ROOTS}/blixard/vms/default/{name}");
    wait::until(&format!("everything of {name} to go"), LIMIT, || what_is_left(host, name, &root))
}

fn what_is_left(host: &Host, name: &str, root: &str) -> anyhow::Result<Seen<()>> {
    let (unit, tap) = (unit(name), name.replace('-', ""));
    // In a pattern a backslash would mean the character after it.
    let pattern = unit.replace('\\', "?");
    let root = if root.is_empty() { "/nowhere" } else { root };
    let left = host.shell(&format!(
        "systemctl list-units --all --plain --no-legend '{pattern}'
         find /sys/fs/cgroup -name '{pattern}' 2>/dev/null || true
         ip -oneline link show {tap} 2>/dev/null || true
         find {root} 2>/dev/null || true"
    ))?;
    Ok(if left.is_empty() { Seen::Done(()) } else { Seen::Instead(left) })
}

/// Units, taps and roots that look like ours and are not, or only stand near them.
fn somebody_elses(host: &Host) -> anyhow::Result<()> {
    host.shell(&format!(
        "systemd-run --quiet --unit=foreign.service sleep infinity
         systemd-run --quiet --unit=blixard-vm-Not_A-Vm-run.service sleep infinity
         systemd-run --quiet --unit=blixard-vm-default-foreign.service sleep infinity
         ip tuntap add foreign0 mode tap
         ip tuntap add foreign1 mode tap
         ip link set foreign1 alias 'somebody:default/ghost'
         path=$(readlink {ROOTS}/blixard/vms/default/sleeper-1/1)
         ln -s \"$path\" {ROOTS}/foreign
         mkdir -p {ROOTS}/blixard/vms-of-mine
         ln -s \"$path\" {ROOTS}/blixard/vms-of-mine/1"
    ))
    .map(drop)
}

fn somebody_elses_are_kept(host: &Host) -> anyhow::Result<()> {
    let kept = host.shell(&format!(
        "systemctl is-active foreign.service blixard-vm-Not_A-Vm-run.service blixard-vm-default-foreign.service
         ip -oneline link show foreign0 | wc -l
         ip -oneline link show foreign1 | wc -l
         find {ROOTS}/foreign {ROOTS}/blixard/vms-of-mine/1 -type l | wc -l"
    ))?;
    ensure!(kept == "active\nactive\nactive\n1\n1\n2\n", "what is somebody else's is gone: {kept}");
    Ok(())
}
