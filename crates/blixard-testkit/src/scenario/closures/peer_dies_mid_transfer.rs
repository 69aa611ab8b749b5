//! A peer that dies is replaced by another; one that comes back is used again.

use anyhow::ensure;

use super::{Lab, Made};
use crate::scenario::{Context, Needs, Scenario};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "peer_dies_mid_transfer",
    shows: "a host fetches on from the other peers when one dies, and from a peer that comes back",
    needs: Needs::Blixard,
    run,
};

const SLOWLY: &str = "--rate 4000000";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lab = Lab::start(context, 3, &Made { paths: 60, bytes: 24 << 20 })?;
    let first = Lab::serve(lab.source(0)?, 7000, SLOWLY)?;
    let second = Lab::serve(lab.source(1)?, 7000, SLOWLY)?;
    lab.fetch_beside(&[&first, &second], "")?;
    lab.wait_for_paths(5)?;
    lab.source(0)?.kill()?;
    let said = lab.fetched()?;
    ensure!(said.contains("\nfetched"), "the closure was not fetched from the other peer: {said}");
    lab.is_whole()?;

    lab.forget()?;
    lab.target()?.run_ok(&["systemctl", "stop", "fetch"])?;
    lab.target()?.run_ok(&["journalctl", "--rotate", "--vacuum-time=1s"])?;
    lab.fetch_beside(&[&second], "")?;
    lab.wait_for_paths(5)?;
    lab.source(1)?.run_ok(&["systemctl", "kill", "--signal=KILL", "lab-7000"])?;
    Lab::serve(lab.source(1)?, 7000, "")?;
    let said = lab.fetched()?;
    ensure!(said.contains("\nfetched"), "the closure was not fetched from the peer that came back: {said}");
    lab.is_whole()
}
