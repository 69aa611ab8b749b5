//! What does not fit is refused before it starts; what fills up on the way leaves nothing behind.

use anyhow::ensure;

use super::{Lab, Made};
use crate::scenario::{Context, Needs, Scenario};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "store_full",
    shows: "a closure that does not fit is refused with the numbers; a disk that fills up registers nothing",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lab = Lab::start(context, 2, &Made { paths: 12, bytes: 40 << 20 })?;
    let target = lab.target()?;
    target.shell("mkdir -p /nix/store; mount -t tmpfs -o size=80m,mode=1775,gid=nixbld tmpfs /nix/store")?;
    let peer = Lab::serve(lab.source(0)?, 7000, "--rate 16000000")?;
    let refused = lab.fetch(&[&peer], "--progress")?;
    let said = refused.unexpected("was begun");
    ensure!(!refused.status.success() && refused.stdout.contains("it does not fit: 12 paths"), "{said}");
    ensure!(!refused.stdout.contains("0 of"), "something was fetched before: {said}");
    lab.is_absent()?;

    target.run_ok(&["mount", "-o", "remount,size=120m", "/nix/store"])?;
    lab.fetch_beside(&[&peer], "")?;
    lab.wait_for_paths(1)?;
    target.run(&["dd", "if=/dev/zero", "of=/nix/store/.filler", "bs=1M"])?;
    let said = lab.fetched()?;
    ensure!(said.contains("not fetched: it cannot be put into the store"), "{said}");
    ensure!(said.contains("No space left"), "the cause is not named: {said}");
    lab.is_absent()?;

    target.shell("rm /nix/store/.filler; systemctl stop fetch")?;
    let fetched = lab.fetch(&[&peer], "")?;
    ensure!(fetched.status.success(), "{}", fetched.unexpected("does not go on with room"));
    lab.is_whole()
}
