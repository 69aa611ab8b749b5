//! A vm with secrets, which only one host of three has, one of them sealed to that machine.

use anyhow::{Context as _, ensure};

use super::{LIMIT, cluster_of_three};
use crate::fixture::{self, Fixture};
use crate::host::Host;
use crate::scenario::guest::{Guest, field};
use crate::scenario::{Context, Needs, Scenario};
use crate::wait::{self, Seen};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "credentials",
    shows: "a guest reads secrets that only its host has, plain and sealed; hosts without them say so, and nothing else has them",
    needs: Needs::Blixard,
    run,
};

const VM: &str = "holder";
const FOLDER: &str = "/etc/blixard/credentials/default/holder";
/// Each is found by itself, wherever it is written.
const KEY: &str = "9c1f-secret-plain-54b7";
const NEXT_KEY: &str = "1d0e-secret-rotated-77aa";
const SEALED: &str = "e83a-secret-sealed-0f26";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let hosts = cluster_of_three(context, |_, config| config + "[fencing]\nprofile = \"fast\"\n")?;
    let asked = hosts.first().context("no hosts")?;
    let flake = fixture::prepare(asked, Fixture::Credentials)?;
    let guest = Guest { host: asked, name: VM };

    let refused = asked.run(&["blixard", "deploy", &flake])?.refused()?;
    tells_the_cure(&refused)?;
    // Not the host that it was tried on first, nor the one after that: it comes to whoever has them all the same.
    let first = host_of(guest, &hosts)?;
    let keeper = hosts.iter().rfind(|host| host.name() != first.name()).context("one host")?;
    provide(keeper, KEY)?;
    guest.await_boot_after(0)?;
    let epoch = healthy_at(guest)?;
    ensure!(
        host_of(guest, &hosts)?.name() == keeper.name(),
        "it runs on another host than {}",
        keeper.name()
    );
    guest_has(guest, KEY, epoch)?;
    what_is_written_is_found(keeper)?;
    nothing_else_has_them(&hosts, &[KEY, SEALED])?;

    // A new start reads what is there then.
    provide(keeper, NEXT_KEY)?;
    asked.run_ok(&["blixard", "vm", "restart", VM])?;
    guest.await_boot_after(1)?;
    guest_has(guest, NEXT_KEY, healthy_at(guest)?)?;

    keeper.run_ok(&["rm", "-r", FOLDER])?;
    let refused = asked.run(&["blixard", "vm", "restart", VM])?.refused()?;
    tells_the_cure(&refused)?;
    let explained = asked.run_ok(&["blixard", "vm", "show", VM])?;
    tells_the_cure(&explained)?;
    nothing_else_has_them(&hosts, &[KEY, NEXT_KEY, SEALED])
}

fn tells_the_cure(said: &str) -> anyhow::Result<()> {
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let cure = format!(
        "this host has no credential key: put it into {FOLDER}/key, or sealed into {FOLDER}/key.cred by \
         `systemd-creds encrypt --name=key`"
    );
    ensure!(said.contains(&cure), "no cure in {said}");
    Ok(())
}

/// Waits until it is healthy; gives its epoch.
fn healthy_at(guest: Guest<'_>) -> anyhow::Result<u64> {
    let shown = guest.await_status("healthy")?;
    field(&shown, "epoch").as_u64().with_context(|| format!("no epoch in {shown}"))
}

/// The host of its last placement.
fn host_of<'a>(guest: Guest<'_>, hosts: &'a [Host]) -> anyhow::Result<&'a Host> {
    let shown = guest.shown()?;
    let events = guest.host.run_ok(&["blixard", "events", "-o", "json", "--since", "0"])?;
    let placed = events.lines().rfind(|line| line.contains("\"placed\"")).context("it was never placed")?;
    let event: serde_json::Value = serde_json::from_str(placed)?;
    let number = field(&event, "node").as_u64().with_context(|| format!("no node in {event}"))?;
    let nodes = guest.host.run_ok(&["blixard", "node", "list", "-o", "json"])?;
    let nodes: serde_json::Value = serde_json::from_str(&nodes)?;
    let nodes = field(&nodes, "nodes").as_array().context("no nodes")?;
    let node = nodes.iter().find(|node| field(node, "id").as_u64() == Some(number));
    let name = node.and_then(|node| field(node, "name").as_str()).context("an unknown node")?;
    hosts.iter().find(|host| host.name() == name).with_context(|| format!("no host {name} for {shown}"))
}

/// Gives a host the secrets, readable for root alone.
fn provide(host: &Host, key: &str) -> anyhow::Result<()> {
    host.run_ok(&["install", "-d", "-m", "700", "/etc/blixard/credentials"])?;
    host.run_ok(&["install", "-d", "-m", "700", FOLDER])?;
    host.write(&format!("{FOLDER}/key"), key, 0o600)?;
    let seal = ["systemd-creds", "encrypt", "--with-key=host", "--name=sealed", "-"];
    let sealed = format!("{FOLDER}/sealed.cred");
    let argv = [&seal[..], &[&sealed]].concat();
    host.run_within(LIMIT, &argv, SEALED.as_bytes())?.ok().map(drop)
}

/// The guest of this run has said the hashes of the secrets.
fn guest_has(guest: Guest<'_>, key: &str, epoch: u64) -> anyhow::Result<()> {
    for (name, secret) in [("key", key), ("sealed", SEALED)] {
        let hash = guest.host.run_within(LIMIT, &["sha256sum"], secret.as_bytes())?.ok()?;
        let hash = hash.split_whitespace().next().unwrap_or_default().to_owned();
        let line = format!("blixard-secret {name} {hash} run 1.{epoch}");
        wait::until(&format!("the guest to say {line}"), LIMIT, || {
            let console = guest.console()?;
            Ok(if console.contains(&line) { Seen::Done(()) } else { Seen::Instead(console) })
        })?;
    }
    Ok(())
}

/// State, log, journals, store, units and command lines of all hosts have none of them; nor has anyone who asks.
fn nothing_else_has_them(hosts: &[Host], secrets: &[&str]) -> anyhow::Result<()> {
    for host in hosts {
        for secret in secrets {
            let found = traces(host, secret)?;
            ensure!(found.is_empty(), "{} has {secret}: {found}", host.name());
        }
        // What runs sees its own; who enters the host sees none.
        let shown = host.shell("ls -A /run/blixard-credentials 2>/dev/null || true")?;
        ensure!(shown.is_empty(), "{} shows secrets to all: {shown}", host.name());
    }
    Ok(())
}

/// Where a text is found on a host, in files and in what is said to those who ask.
fn traces(host: &Host, text: &str) -> anyhow::Result<String> {
    // The pattern goes in by a pipe, or the search would find itself.
    let search = "pattern=$(cat); \
         grep -rlaF -- \"$pattern\" /var/lib/blixard /var/log /run/log /run/blixard /run/systemd/transient /nix/store /nix/var/nix/db; \
         grep -laF -- \"$pattern\" /proc/[0-9]*/cmdline /proc/[0-9]*/environ 2>/dev/null; \
         { journalctl --no-pager; systemctl show 'blixard*'; blixard vm show -o json holder; blixard events -o json --since 0; \
         blixard vm list -o json; } | grep -nF -- \"$pattern\"; :";
    Ok(host.run_within(LIMIT, &["bash", "-c", search], text.as_bytes())?.stdout)
}

/// The search finds what is there to be found.
fn what_is_written_is_found(host: &Host) -> anyhow::Result<()> {
    let canary = "77b2-canary-03ce";
    host.write("/var/lib/blixard/canary", format!("before{canary}after"), 0o600)?;
    host.run_within(LIMIT, &["systemd-cat"], format!("a line with {canary}\n").as_bytes())?.ok()?;
    wait::until("the canary to be found", LIMIT, || {
        let found = traces(host, canary)?;
        let both = found.contains("/var/lib/blixard/canary") && found.contains("a line with");
        Ok(if both { Seen::Done(()) } else { Seen::Instead(found) })
    })
}
