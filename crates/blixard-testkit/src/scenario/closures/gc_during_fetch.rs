//! Collections that run all the time take nothing that is being fetched.

use anyhow::ensure;

use super::{Lab, Made, ROOT};
use crate::scenario::{Context, Needs, Scenario};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "gc_during_fetch",
    shows: "garbage collections during a fetch remove nothing of it; afterwards its root keeps it",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lab = Lab::start(context, 2, &Made { paths: 60, bytes: 16 << 20 })?;
    let target = lab.target()?;
    let peer = Lab::serve(lab.source(0)?, 7000, "--rate 4000000")?;
    lab.fetch_beside(&[&peer], &format!("--root {ROOT}"))?;
    lab.wait_for_paths(2)?;
    let mut collections = 0;
    while !target.run_ok(&["journalctl", "--unit=fetch", "--output=cat", "--no-pager"])?.contains("etched") {
        target.run_ok(&["nix-store", "--gc"])?;
        collections += 1;
    }
    let said = lab.fetched()?;
    ensure!(said.contains("\nfetched"), "{said}");
    ensure!(collections > 1, "the fetch was over before a collection was");
    target.run_ok(&["nix-store", "--gc"])?;
    lab.is_whole()?;
    lab.forget()?;
    lab.is_absent()
}
