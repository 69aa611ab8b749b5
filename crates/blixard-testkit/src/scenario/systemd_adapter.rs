//! The adapter of systemd against a real one: the contracts of its ports, and what a contract cannot ask for.
//!
//! The tests are those of `crates/blixard-systemd/tests/real_systemd`, which disturb the machine that they run on.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, ensure};

use super::{Context, Needs, Scenario};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "systemd_adapter",
    shows: "units, evaluations, journal and the holder of leases keep their contracts with a real systemd",
    needs: Needs::AdapterTests,
    run,
};

const PROGRAM: &str = "/usr/local/bin/real-systemd";
const LIMIT: Duration = Duration::from_mins(10);

fn run(context: &mut Context) -> anyhow::Result<()> {
    let (binaries, tests) = (context.binaries()?, built(&context.workspace.target().join("debug/deps"))?);
    let host = &context.host()?;
    host.install_blixard(&binaries)?;
    // No lease is held, and nobody asks for one.
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    host.copy_in(&tests, PROGRAM, 0o755)?;
    let argv = ["env", "BLIXARD_REAL_SYSTEMD=1", PROGRAM, "--test-threads=1", "--nocapture"];
    let output = host.run_within(LIMIT, &argv, &[])?;
    ensure!(!output.stderr.contains("SKIPPED"), "{}", output.stderr);
    output.ok().map(drop)
}

/// The test program that was built last.
fn built(folder: &Path) -> anyhow::Result<PathBuf> {
    let mut newest: Option<(SystemTime, PathBuf)> = None;
    for entry in std::fs::read_dir(folder).with_context(|| format!("no folder {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with("real_systemd-") && path.extension().is_none() {
            let made = path.metadata()?.modified()?;
            newest = newest.into_iter().chain([(made, path)]).max();
        }
    }
    newest.map(|(_, path)| path).context("the tests of blixard-systemd are not built")
}
