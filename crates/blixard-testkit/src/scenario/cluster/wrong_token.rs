//! Machines that should not get in do not, and are told why.

use anyhow::ensure;

use super::{Kind, config, founder_config, token};
use crate::host::{Binaries, Host};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "wrong_token",
    shows: "a token that is wrong, used, over, too narrow or of another cluster lets nobody in, and says so",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let hosts = context.world(3)?.hosts().to_vec();
    let [first, second, third] = hosts.as_slice() else { anyhow::bail!("not three hosts") };
    for founder in [first, third] {
        founder.install_blixard_with(&binaries, &founder_config(founder, Kind::Whole))?;
        founder.run_ok(&["blixard", "cluster", "init"])?;
    }
    let good = token(first, &["--role", "server"])?;
    let Some((secret, rest)) = good.split_once('.').and_then(|(_, rest)| rest.split_once('.')) else {
        anyhow::bail!("{good} is no token");
    };
    // Two letters change places, none of them the last: not every letter can end a secret.
    let mut letters: Vec<char> = secret.chars().collect();
    let other = letters.iter().position(|letter| Some(letter) != letters.first()).unwrap_or_default();
    letters.swap(0, other);
    let turned: String = letters.into_iter().collect();
    let unknown = format!("blixard1.{turned}.{rest}");
    refused(second, &binaries, Kind::Witness, &unknown, "the join token is unknown to this cluster")?;
    refused(second, &binaries, Kind::Witness, "swordfish", "this is no join token")?;
    refused(second, &binaries, Kind::Whole, &good, "the join token allows server")?;
    // The right secret, at the address of another cluster: the machine finds out, not the stranger.
    let elsewhere = good.replace(first.address(), third.address());
    refused(second, &binaries, Kind::Witness, &elsewhere, "it is not of the cluster that made the token")?;
    let short = token(first, &["--ttl", "1s"])?;
    wait::until("the short token to run out", super::LIMIT, || {
        let events = first.run_ok(&["date", "+%s"])?;
        let made = first.run_ok(&["blixard", "events", "-o", "json"])?;
        let last = made.lines().rfind(|line| line.contains("token-created")).unwrap_or_default();
        let event: serde_json::Value = serde_json::from_str(last)?;
        let at = event.get("atMs").and_then(serde_json::Value::as_u64).unwrap_or(u64::MAX);
        let now: u64 = events.trim().parse()?;
        Ok(if now > at / 1000 + 2 { Seen::Done(()) } else { Seen::Instead(events) })
    })?;
    refused(second, &binaries, Kind::Witness, &short, "the join token has run out")?;

    start(second, &binaries, Kind::Witness, &good)?;
    second.run_ok(&["systemctl", "start", "blixardd"])?;
    let nodes = first.run_ok(&["blixard", "node", "list"])?;
    ensure!(nodes.lines().count() == 3, "one machine has joined, and the list is {nodes}");
    // It is in: nobody gets in with the same token, and it needs none any more.
    second.run_ok(&["rm", "/etc/blixard/join"])?;
    second.run_ok(&["systemctl", "restart", "blixardd"])?;
    second.run_ok(&["systemctl", "stop", "blixardd"])?;
    second.run_ok(&["mv", "/var/lib/blixard", "/var/lib/was"])?;
    refused(second, &binaries, Kind::Witness, &good, "the join token was used already")
}

fn start(host: &Host, binaries: &Binaries, kind: Kind, token: &str) -> anyhow::Result<()> {
    host.write("/etc/blixard/join", token, 0o600)?;
    // Refusals are final, and a unit that has failed may be started again.
    let _ = host.run(&["systemctl", "reset-failed", "blixardd"])?;
    let _ = host.install_blixard_with(binaries, &config(host, kind));
    Ok(())
}

/// The daemon says why and stays down; nothing of a membership is kept.
fn refused(host: &Host, binaries: &Binaries, kind: Kind, token: &str, why: &str) -> anyhow::Result<()> {
    start(host, binaries, kind, token)?;
    wait::until(&format!("the refusal {why:?}"), super::LIMIT, || {
        let journal = host.journal("blixardd")?;
        Ok(if journal.contains(why) { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    host.run_ok(&["systemctl", "stop", "blixardd"])?;
    ensure!(host.run(&["test", "-e", "/var/lib/blixard/node.json"])?.refused().is_ok(), "it thinks it is in");
    let journal = host.journal("blixardd")?;
    ensure!(!journal.contains(token), "the token is in the journal: {journal}");
    Ok(())
}
