//! What scenarios of several nodes share: making a cluster, and asking every server how it is.

mod all_killed_under_load;
mod leader_kill;
mod minority_partition;
mod removed_node_certificate;
mod server_disk_full;
mod three_node_cluster;
mod writers;
mod wrong_token;

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use super::{Context, Scenario};
use crate::host::{Binaries, Host};
use crate::wait::{self, Seen};

pub(super) const SCENARIOS: [Scenario; 7] = [
    three_node_cluster::SCENARIO,
    wrong_token::SCENARIO,
    removed_node_certificate::SCENARIO,
    leader_kill::SCENARIO,
    all_killed_under_load::SCENARIO,
    minority_partition::SCENARIO,
    server_disk_full::SCENARIO,
];

/// How long anything may take on a machine that does much else.
pub(super) const LIMIT: Duration = Duration::from_mins(2);

/// Which roles a node has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// All of them.
    Whole,
    /// Only the log and the API.
    Witness,
    /// It builds, and runs nothing.
    Builds,
    /// It runs vms, and builds nothing.
    Runs,
    /// It runs vms, and holds no log.
    Host,
}

/// The configuration of a node of a cluster.
pub(super) fn config(host: &Host, kind: Kind) -> String {
    let roles = match kind {
        Kind::Whole => r#"["server", "host", "builder"]"#,
        Kind::Witness => r#"["server"]"#,
        Kind::Builds => r#"["server", "builder"]"#,
        Kind::Runs => r#"["server", "host"]"#,
        Kind::Host => r#"["host"]"#,
    };
    format!(
        "[node]\nname = \"{name}\"\nroles = {roles}\n[cluster]\nlisten = \"{address}:7440\"\n\
         advertise = \"{address}:7440\"\njoin_file = \"/etc/blixard/join\"\n",
        name = host.name(),
        address = host.address(),
    )
}

/// The founder needs no token.
pub(super) fn founder_config(host: &Host, kind: Kind) -> String {
    config(host, kind).replace("join_file = \"/etc/blixard/join\"\n", "")
}

/// A token for one machine.
pub(super) fn token(server: &Host, arguments: &[&str]) -> anyhow::Result<String> {
    let argv = [&["blixard", "cluster", "token", "create"], arguments].concat();
    Ok(server.run_ok(&argv)?.trim().to_owned())
}

/// Lets a machine join that has no Blixard yet.
pub(super) fn join(host: &Host, binaries: &Binaries, server: &Host, kind: Kind) -> anyhow::Result<()> {
    let allowed: &[&str] = if kind == Kind::Host { &["--role", "host"] } else { &[] };
    host.write("/etc/blixard/join", token(server, allowed)?, 0o600)?;
    host.install_blixard_with(binaries, &config(host, kind))
}

/// A cluster of three: the first has every role, the others are witnesses; all vote.
pub(super) fn three(context: &mut Context) -> anyhow::Result<Vec<Host>> {
    let binaries = context.binaries()?;
    let hosts = context.world(3)?.hosts().to_vec();
    let [first, others @ ..] = hosts.as_slice() else { anyhow::bail!("a world without hosts") };
    first.install_blixard_with(&binaries, &founder_config(first, Kind::Whole))?;
    first.run_ok(&["blixard", "cluster", "init"])?;
    for other in others {
        join(other, &binaries, first, Kind::Witness)?;
    }
    await_voters(first, 3)?;
    Ok(hosts)
}

/// A field of `cluster status -o json`.
pub(super) fn cluster_status(host: &Host, arguments: &[&str]) -> anyhow::Result<Value> {
    let argv = [&["blixard", "cluster", "status", "-o", "json"], arguments].concat();
    let json = host.run_ok(&argv)?;
    serde_json::from_str(&json).with_context(|| format!("`cluster status -o json` is no JSON: {json}"))
}

/// The members that a server knows.
pub(super) fn members(status: &Value) -> Vec<Value> {
    status.get("members").and_then(Value::as_array).cloned().unwrap_or_default()
}

pub(super) fn text<'a>(object: &'a Value, name: &str) -> &'a str {
    object.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Waits until a server knows so many voters, all of which answer.
pub(super) fn await_voters(host: &Host, count: usize) -> anyhow::Result<()> {
    wait::until(&format!("{count} voters that answer"), LIMIT, || {
        // A daemon that was just started may not listen yet.
        let status = match cluster_status(host, &[]) {
            Ok(status) => status,
            Err(error) => return Ok(Seen::Instead(format!("{error:#}"))),
        };
        let votes = |member: &&Value| {
            ["leader", "voter"].contains(&text(member, "role")) && text(member, "unreachable").is_empty()
        };
        let voters = members(&status).iter().filter(votes).count();
        let led = status.get("leader").is_some_and(Value::is_u64);
        Ok(if voters == count && led { Seen::Done(()) } else { Seen::Instead(status.to_string()) })
    })
}

/// The host that leads, as one of these says.
pub(super) fn leader<'a>(hosts: &'a [Host], asked: &Host) -> anyhow::Result<&'a Host> {
    let name = wait::until("a leader", LIMIT, || {
        let status = cluster_status(asked, &[])?;
        let leads = members(&status).into_iter().find(|member| text(member, "role") == "leader");
        Ok(match leads {
            Some(member) => Seen::Done(text(&member, "name").to_owned()),
            None => Seen::Instead(status.to_string()),
        })
    })?;
    hosts.iter().find(|host| host.name() == name).with_context(|| format!("{name} leads and is no host"))
}

/// Waits until every server has applied the same entries and has the same state, and gives its digest.
pub(super) fn await_equal_states(hosts: &[Host]) -> anyhow::Result<String> {
    let first = hosts.first().context("no hosts")?;
    wait::until("all servers to have one state", LIMIT, || {
        let status = cluster_status(first, &["--digest"])?;
        let states: Vec<(String, String)> = members(&status)
            .iter()
            .map(|member| {
                let applied = member.get("appliedIndex").unwrap_or(&Value::Null).to_string();
                (applied, text(member, "digest").to_owned())
            })
            .collect();
        let same = states.windows(2).all(|pair| matches!(pair, [one, other] if one == other));
        let whole = states.len() == hosts.len() && states.iter().all(|(_, digest)| !digest.is_empty());
        Ok(match states.first() {
            Some((_, digest)) if same && whole => Seen::Done(digest.clone()),
            _ => Seen::Instead(format!("{states:?}")),
        })
    })
}

/// One refusal: an error that says this, once, with a code that says the daemon could not answer.
pub(super) fn refused_as_cut_off(host: &Host, argv: &[&str]) -> anyhow::Result<()> {
    let output = host.run(argv)?;
    let (code, all) = (output.status.code(), output.unexpected("should have been refused"));
    let stderr = output.refused()?;
    ensure!(stderr.contains("the majority of the servers does not answer"), "{all}");
    ensure!(code == Some(3), "{code:?}: {all}");
    let errors = stderr.lines().filter(|line| line.starts_with("error")).count();
    ensure!(errors == 1, "{errors} errors: {all}");
    Ok(())
}
