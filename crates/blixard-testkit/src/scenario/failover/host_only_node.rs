//! A host that is no server, among three servers: it holds no log, and needs no server in particular.

use std::collections::BTreeSet;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{LIMIT, Trio, figure, lease_of};
use crate::fixture::{self, Fixture};
use crate::host::{Binaries, Host};
use crate::scenario::cluster::{Kind, await_voters, founder_config, join, leader};
use crate::scenario::guest::{Guest, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "host_only_node",
    shows: "hosts that hold no log run vms, renew leases at any leader, find new servers, swap closures, and are removed",
    needs: Needs::Blixard,
    run,
};

fn run(context: &mut Context) -> anyhow::Result<()> {
    let binaries = context.binaries()?;
    let hosts = context.world(5)?.hosts().to_vec();
    let [builder, second, third, one, other] = hosts.as_slice() else { anyhow::bail!("not five hosts") };
    let servers = [builder.clone(), second.clone(), third.clone()];
    builder.install_blixard_with(&binaries, &founder_config(builder, Kind::Builds))?;
    builder.run_ok(&["blixard", "cluster", "init"])?;
    for server in [second, third] {
        join(server, &binaries, builder, Kind::Witness)?;
    }
    await_voters(builder, 3)?;
    // Each asks at another server.
    join(one, &binaries, second, Kind::Host)?;
    join(other, &binaries, third, Kind::Host)?;
    they_hold_no_log(&[one, other])?;

    let trio = Trio::watching(vec![one.clone(), other.clone()], &[])?;
    other.run_ok(&["blixard", "node", "cordon", other.name()])?;
    let flake = fixture::prepare(one, Fixture::Guests)?;
    one.run_ok(&["blixard", "deploy", &flake]).context("a deployment from a host that is no server")?;
    for name in ["hello", "world"] {
        ensure!(trio.run_of(name)?.host == one.name(), "{name} runs on a cordoned host");
        Guest { host: one, name }.await_boot_after(0)?;
    }
    fetched(one, "hello")?;
    it_goes_on_when_the_leader_is_killed(&trio, &servers, one)?;
    it_is_restarted_while_a_server_is_down(&trio, &servers, one)?;
    who_asked_is_known(second, one)?;
    a_closure_comes_from_a_host(&trio, [builder, second, third], [one, other])?;
    a_new_server_is_found(&binaries, [builder, second, third], one)?;
    it_says_where_it_is_now(one, other)?;
    without_servers_there_is_one_error(&servers, one)?;
    it_is_removed(second, one)?;
    trio.check_never_twice()
}

/// They are nodes, and no members of the consensus group.
fn they_hold_no_log(hosts: &[&Host]) -> anyhow::Result<()> {
    for host in hosts {
        let log = host.run(&["test", "-e", "/var/lib/blixard/log"])?;
        ensure!(!log.status.success(), "{} holds a log", host.name());
        await_voters(host, 3).context("`cluster status` on a host that is no server")?;
        let token = host.run(&["blixard", "cluster", "token", "create"])?.refused()?;
        ensure!(token.contains("is made on a server") && token.contains("--role host"), "{token}");
        host.run_ok(&["blixard", "cluster", "token", "create", "--role", "host"])?;
        let nodes = host.run_ok(&["blixard", "node", "list"])?;
        let mut lines = nodes.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let line = lines.find(|line| line.contains(&host.name())).with_context(|| nodes.clone())?;
        ensure!(line.contains(&"host") && line.contains(&"ready"), "{nodes}");
    }
    Ok(())
}

/// Root on the host has deployed, though a server did it; a user there is told from root.
fn who_asked_is_known(server: &Host, host: &Host) -> anyhow::Result<()> {
    let by = format!("root on {}", host.name());
    let history = server.run_ok(&["blixard", "vm", "history", "hello"])?;
    ensure!(history.contains(&by), "who has deployed is not known: {history}");
    // The daemon learns of the group when it starts.
    host.shell(
        "groupadd --force blixard; useradd --groups blixard --uid 4711 alice; systemctl restart blixardd",
    )?;
    await_healthy_pair(host)?;
    for verb in ["stop", "start"] {
        host.run_ok(&["setpriv", "--reuid=4711", "--init-groups", "blixard", "vm", verb, "world"])?;
    }
    let events = server.run_ok(&["blixard", "events"])?;
    ensure!(events.contains(&format!("(by uid 4711 on {})", host.name())), "{events}");
    Ok(())
}

fn it_goes_on_when_the_leader_is_killed(trio: &Trio, servers: &[Host], host: &Host) -> anyhow::Result<()> {
    let hello = Guest { host, name: "hello" };
    let (before, lease) = (hello.healthy()?, lease_of(host)?);
    for round in 0..3 {
        let leads = leader(servers, host)?;
        let begun = trio.watch.now();
        leads.run_ok(&["systemctl", "kill", "--signal=KILL", "blixardd"])?;
        host.run_ok(&["blixard", "vm", "list"]).context("a call after the leader was killed")?;
        figure(SCENARIO.name, "a call is answered after the leader's kill", begun, trio.watch.now());
        await_voters(host, 3).with_context(|| format!("round {round}"))?;
    }
    ensure!(hello.healthy()? == before, "the guest was touched: {before:?}");
    ensure!(lease_of(host)? == lease, "its lease has lapsed");
    untouched(trio)
}

fn it_is_restarted_while_a_server_is_down(trio: &Trio, servers: &[Host], host: &Host) -> anyhow::Result<()> {
    let lease = lease_of(host)?;
    for down in servers {
        down.run_ok(&["systemctl", "stop", "blixardd"])?;
        host.run_ok(&["systemctl", "restart", "blixardd"])?;
        await_healthy_pair(host)?;
        down.run_ok(&["systemctl", "start", "blixardd"])?;
        await_voters(host, 3)?;
    }
    ensure!(lease_of(host)? == lease, "its lease has lapsed");
    untouched(trio)
}

fn await_healthy_pair(asked: &Host) -> anyhow::Result<()> {
    ["hello", "world"].into_iter().try_for_each(|vm| super::await_healthy(asked, vm))
}

/// Both vms run since they began.
fn untouched(trio: &Trio) -> anyhow::Result<()> {
    let spans = trio.watch.spans();
    ensure!(spans.len() == 2 && spans.iter().all(|span| span.to.is_none()), "{spans:?}");
    Ok(())
}

/// With the builder down, the one host is the only one that has it.
fn a_closure_comes_from_a_host(
    trio: &Trio,
    [builder, second, third]: [&Host; 3],
    [one, other]: [&Host; 2],
) -> anyhow::Result<()> {
    builder.run_ok(&["systemctl", "stop", "blixardd"])?;
    other.run_ok(&["blixard", "node", "uncordon", other.name()])?;
    other.run_ok(&["blixard", "node", "drain", one.name()])?;
    for vm in ["hello", "world"] {
        let moved = trio.await_elsewhere(vm, one.name())?;
        ensure!(moved.host == other.name(), "{moved:?}");
        super::await_healthy(second, vm)?;
        fetched(other, vm)?;
    }
    // It says so on its console, which comes from a host that is no server.
    Guest { host: third, name: "hello" }.await_boot_after(0)?;
    builder.run_ok(&["systemctl", "start", "blixardd"])?;
    await_voters(one, 3)
}

fn fetched(host: &Host, vm: &str) -> anyhow::Result<()> {
    let journal = host.journal("blixardd")?;
    let fetched = |line: &str| line.contains("fetched") && line.contains(&format!("vm=default/{vm} "));
    ensure!(journal.lines().any(fetched), "nothing was fetched for {vm}: {journal}");
    Ok(())
}

/// A server goes and comes back as another node; the host's list on disk has it.
fn a_new_server_is_found(
    binaries: &Binaries,
    [first, second, third]: [&Host; 3],
    host: &Host,
) -> anyhow::Result<()> {
    let before = listed(host)?;
    first.run_ok(&["blixard", "node", "remove", third.name()])?;
    third.shell("systemctl stop blixardd; mv /var/lib/blixard /var/lib/blixard.was")?;
    join(third, binaries, second, Kind::Witness)?;
    await_voters(first, 3)?;
    wait::until("the list to have the new server", LIMIT, || {
        let now = listed(host)?;
        let (gone, new) = (before.difference(&now).count(), now.difference(&before).count());
        Ok(if (gone, new) == (1, 1) { Seen::Done(()) } else { Seen::Instead(format!("{before:?} {now:?}")) })
    })?;
    // The new one, and one of the old ones, are all that is left.
    first.run_ok(&["systemctl", "stop", "blixardd"])?;
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    await_healthy_pair(host)?;
    first.run_ok(&["systemctl", "start", "blixardd"])?;
    await_voters(host, 3)
}

/// The numbers of the nodes on the list of a host.
fn listed(host: &Host) -> anyhow::Result<BTreeSet<String>> {
    let text = host.run_ok(&["cat", "/var/lib/blixard/directory.json"])?;
    let file: Value = serde_json::from_str(&text).context("directory.json")?;
    let nodes = field(field(&file, "directory"), "nodes").as_object().context("no nodes")?;
    Ok(nodes.keys().cloned().collect())
}

/// Its configuration names another address; nobody has to be told by hand.
fn it_says_where_it_is_now(peer: &Host, host: &Host) -> anyhow::Result<()> {
    let (old, new) = (format!("{}:7440", host.address()), format!("{}:7440", host.name()));
    host.shell(&format!(
        "sed -i 's/^advertise = \"{old}\"/advertise = \"{new}\"/' /etc/blixard/blixardd.toml; systemctl restart blixardd"
    ))?;
    wait::until("its new address to be known to its peers", LIMIT, || {
        let list = peer.run_ok(&["cat", "/var/lib/blixard/directory.json"])?;
        Ok(if list.contains(&format!("\"{new}\"")) { Seen::Done(()) } else { Seen::Instead(list) })
    })?;
    await_healthy_pair(host)
}

fn without_servers_there_is_one_error(servers: &[Host], host: &Host) -> anyhow::Result<()> {
    for server in servers {
        server.run_ok(&["systemctl", "stop", "blixardd"])?;
    }
    let output = host.run(&["blixard", "vm", "list"])?;
    let (code, all) = (output.status.code(), output.unexpected("should have been refused"));
    let stderr = output.refused()?;
    ensure!(stderr.contains("no server of the cluster answers"), "{all}");
    for server in servers {
        ensure!(
            stderr.contains(&format!("{}:7440: ", server.address())),
            "{} is missing: {all}",
            server.name()
        );
    }
    ensure!(stderr.lines().filter(|line| line.starts_with("error")).count() == 1, "{all}");
    ensure!(code == Some(3), "{code:?}: {all}");
    for server in servers {
        server.run_ok(&["systemctl", "start", "--no-block", "blixardd"])?;
    }
    await_voters(host, 3)
}

/// Its certificate opens nothing any more, here or at another server.
fn it_is_removed(server: &Host, host: &Host) -> anyhow::Result<()> {
    server.run_ok(&["blixard", "node", "remove", host.name()])?;
    let nodes = server.run_ok(&["blixard", "node", "list"])?;
    ensure!(!nodes.contains(host.name()), "it is still listed: {nodes}");
    host.run_ok(&["systemctl", "restart", "blixardd"])?;
    wait::until("its certificate to be refused", LIMIT, || {
        let journal = server.journal("blixardd")?;
        let refused = journal.contains("CertificateRevoked") || journal.contains("Revoked");
        Ok(if refused { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    wait::until("the host to say so", LIMIT, || {
        let journal = host.journal("blixardd")?;
        let says = journal.contains("it was removed from the cluster");
        Ok(if says { Seen::Done(()) } else { Seen::Instead(journal) })
    })?;
    let refused = host.run(&["blixard", "vm", "list"])?.refused()?;
    ensure!(refused.contains("no server of the cluster answers"), "{refused}");
    Ok(())
}
