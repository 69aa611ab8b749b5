//! A node that was removed keeps its keys, and they open nothing.

use anyhow::{Context as _, ensure};

use super::{await_voters, leader, three};
use crate::host::Host;
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "removed_node_certificate",
    shows: "a leader that is removed hands over first, of two servers too; what was removed is refused with its old certificate",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = three(context)?;
    let [first, ..] = hosts.as_slice() else { anyhow::bail!("no hosts") };
    // Node 1 runs the guests' role; a witness goes, after it was made to lead.
    let goes = hosts.last().context("no hosts")?;
    make_leader(&hosts, goes)?;
    first.run_ok(&["blixard", "node", "remove", goes.name()])?;
    let nodes = first.run_ok(&["blixard", "node", "list"])?;
    ensure!(!nodes.contains(goes.name()), "it is still listed: {nodes}");
    ensure!(leader(&hosts, first)?.name() != goes.name(), "it still leads");
    await_voters(first, 1)?;

    goes.run_ok(&["systemctl", "restart", "blixardd"])?;
    wait::until("its certificate to be refused", super::LIMIT, || {
        let journal = first.journal("blixardd")?;
        let refused = journal.contains("CertificateRevoked") || journal.contains("Revoked");
        Ok(if refused { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    super::refused_as_cut_off(goes, &["blixard", "vm", "list"])?;
    first.run_ok(&["blixard", "vm", "list"])?;
    leader_of_two(&hosts, goes)
}

/// Of the two servers that are left only one votes, and leads; it goes all the same, and the other goes on alone.
fn leader_of_two(hosts: &[Host], gone: &Host) -> anyhow::Result<()> {
    let left: Vec<&Host> = hosts.iter().filter(|host| host.name() != gone.name()).collect();
    let asked = left.first().context("no hosts")?;
    let leads = leader(hosts, asked)?;
    let stays = left.into_iter().find(|host| host.name() != leads.name()).context("no other server")?;
    stays.run_ok(&["blixard", "node", "remove", leads.name()])?;
    await_voters(stays, 1)?;
    ensure!(leader(hosts, stays)?.name() == stays.name(), "another one leads");
    let nodes = stays.run_ok(&["blixard", "node", "list"])?;
    ensure!(!nodes.contains(leads.name()), "it is still listed: {nodes}");
    stays.run_ok(&["blixard", "vm", "list"]).map(drop)
}

/// Kills leaders until this one leads.
fn make_leader(hosts: &[Host], wanted: &Host) -> anyhow::Result<()> {
    for _ in 0..10 {
        let leads = leader(hosts, wanted)?;
        if leads.name() == wanted.name() {
            return Ok(());
        }
        leads.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"])?;
        let name = leads.name();
        wait::until(&format!("{name} to be followed"), super::LIMIT, || {
            let now = leader(hosts, wanted)?.name();
            Ok(if now == name { Seen::Instead(now.to_owned()) } else { Seen::Done(()) })
        })?;
        await_voters(wanted, hosts.len())?;
    }
    anyhow::bail!("{} never leads", wanted.name())
}
