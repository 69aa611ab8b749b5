//! A peer that lies is named and dropped, another is used, and nothing of the lie is ever registered.

use anyhow::{Context as _, ensure};

use super::{Lab, Made};
use crate::scenario::{Context, Needs, Scenario};

pub(in crate::scenario) const SCENARIO: Scenario = Scenario {
    name: "corrupt_peer",
    shows: "whatever a lying peer sends is refused, with its name; nothing is registered, another is used",
    needs: Needs::Blixard,
    run,
};

/// Every lie of the workbench, and a word of how it is found out.
const LIES: [(&str, &str); 14] = [
    ("flip", ""),
    ("truncate", ""),
    ("longer", ""),
    ("extra-path", "manifest"),
    ("wrong-hash", "manifest"),
    ("path-outside", "manifest"),
    ("through-link", "sorted"),
    ("huge-length", ""),
    ("huge-name", ""),
    ("dot-dot", "name"),
    ("slash", "name"),
    ("nul", "name"),
    ("other-path", ""),
    ("unasked", "not to come"),
];

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lab = Lab::start(context, 2, &Made { paths: 12, bytes: 4 << 20 })?;
    let (source, target) = (lab.source(0)?, lab.target()?);
    let honest = Lab::serve(source, 7000, "")?;
    let etc = target.shell("find /etc /root | sort | sha256sum")?;
    for (number, (lie, word)) in (7001..).zip(LIES) {
        let liar = Lab::serve(source, number, &format!("--lie {lie}"))?;
        let alone = lab.fetch(&[&liar], "")?;
        let said = alone.unexpected("was believed");
        ensure!(!alone.status.success(), "{lie}: {said}");
        ensure!(alone.stdout.contains("node 1: sent something else"), "{lie}: the peer is not named: {said}");
        ensure!(alone.stdout.contains(word), "{lie}: not for this reason: {said}");
        lab.is_absent().with_context(|| format!("after {lie}"))?;

        let both = lab.fetch(&[&liar, &honest], "")?;
        let said = both.unexpected("was not fetched from the honest peer");
        ensure!(both.status.success(), "{lie}: {said}");
        ensure!(
            both.stderr.contains("sent something else"),
            "{lie}: the journal does not name the peer: {said}"
        );
        lab.is_whole().with_context(|| format!("after {lie} beside an honest peer"))?;
        lab.forget()?;
        source.run_ok(&["systemctl", "stop", &format!("lab-{number}")])?;
    }
    ensure!(
        target.shell("find /etc /root | sort | sha256sum")? == etc,
        "something was written outside of the store"
    );
    Ok(())
}
