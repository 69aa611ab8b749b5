//! The cluster, its servers, tokens and events: as JSON and as people read them.
#![expect(clippy::struct_field_names, reason = "a field is called as its key")]

use std::io::{self, Write};

use blixard_proto::v1;
use data_encoding::HEXLOWER;
use serde::Serialize;

use super::table::Table;
use super::time::utc;
use super::{one_line, role};

const NOTHING: &str = "-";

/// `cluster init`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Founded {
    /// SHA-256 of the authority's certificate, 64 hex digits.
    pub(crate) authority: String,
    /// Where others reach this node.
    pub(crate) address: String,
}

/// `cluster token create`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Token {
    pub(crate) token: String,
    pub(crate) roles: Vec<&'static str>,
    pub(crate) expires_at_ms: u64,
}

/// `node remove`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Removal {
    pub(crate) node: String,
    pub(crate) gone: bool,
    /// What keeps it from going.
    pub(crate) waiting_on: Option<String>,
}

/// `cluster status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Cluster {
    pub(crate) cluster_id: String,
    /// Null before `cluster init`.
    pub(crate) authority: Option<String>,
    pub(crate) answered_by: String,
    pub(crate) term: u64,
    /// The node that leads; null while there is none.
    pub(crate) leader: Option<u64>,
    pub(crate) members: Vec<Member>,
}

/// A server.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Member {
    pub(crate) node: u64,
    pub(crate) name: String,
    pub(crate) address: String,
    /// `leader`, `voter` or `learner`.
    pub(crate) role: &'static str,
    /// Why it does not answer; null if it does.
    pub(crate) unreachable: Option<String>,
    pub(crate) version: Option<String>,
    pub(crate) term: Option<u64>,
    pub(crate) last_log_index: Option<u64>,
    pub(crate) applied_index: Option<u64>,
    /// Entries that it has applied less than the server that has most.
    pub(crate) lag: Option<u64>,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) log_bytes: Option<u64>,
    pub(crate) checkpoint_bytes: Option<u64>,
    pub(crate) free_bytes: Option<u64>,
    /// SHA-256 of its state at `appliedIndex`, 64 hex digits, with `--digest`.
    pub(crate) digest: Option<String>,
}

/// `events`, `watch`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Event {
    pub(crate) revision: u64,
    pub(crate) at_ms: u64,
    pub(crate) event: String,
    pub(crate) vm: Option<String>,
    pub(crate) node: Option<u64>,
    pub(crate) epoch: Option<u64>,
    pub(crate) generation: Option<u64>,
    pub(crate) detail: Option<String>,
    /// Who asked for it.
    pub(crate) by: Option<String>,
}

fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn hex(bytes: &[u8]) -> Option<String> {
    (!bytes.is_empty()).then(|| HEXLOWER.encode(bytes))
}

impl From<v1::InitResponse> for Founded {
    fn from(answer: v1::InitResponse) -> Self {
        Self { authority: HEXLOWER.encode(&answer.authority), address: answer.address }
    }
}

impl From<v1::CreateTokenResponse> for Token {
    fn from(answer: v1::CreateTokenResponse) -> Self {
        let roles = answer.roles.into_iter().map(role).collect();
        Self { token: answer.token, roles, expires_at_ms: answer.expires_at_ms }
    }
}

impl Removal {
    pub(crate) fn of(node: &str, answer: v1::RemoveNodeResponse) -> Self {
        Self { node: node.to_owned(), gone: answer.gone, waiting_on: some(answer.waiting_on) }
    }
}

impl From<v1::StatusResponse> for Cluster {
    fn from(status: v1::StatusResponse) -> Self {
        let applied = |member: &v1::MemberStatus| member.report.as_ref().map(|report| report.applied_index);
        let most = status.members.iter().filter_map(applied).max().unwrap_or_default();
        let leader = status.leader;
        let members = status.members.into_iter().map(|one| member(one, leader, most)).collect();
        Self {
            cluster_id: status.cluster_id,
            authority: hex(&status.authority),
            answered_by: status.node_name,
            term: status.term,
            leader,
            members,
        }
    }
}

fn member(status: v1::MemberStatus, leader: Option<u64>, most: u64) -> Member {
    let role = match status.role() {
        v1::MemberRole::Voter if leader == Some(status.node) => "leader",
        v1::MemberRole::Voter => "voter",
        v1::MemberRole::Learner => "learner",
        v1::MemberRole::Unspecified => "unknown",
    };
    let report = status.report.unwrap_or_default();
    let answers = status.unreachable.is_empty();
    let number = |number: u64| answers.then_some(number);
    let storage = report.storage.unwrap_or_default();
    Member {
        node: status.node,
        name: status.name,
        address: status.address,
        role,
        unreachable: some(status.unreachable),
        version: some(report.version),
        term: number(report.term),
        last_log_index: number(report.last_log_index),
        applied_index: number(report.applied_index),
        lag: number(most.saturating_sub(report.applied_index)),
        snapshot_index: report.snapshot_index,
        log_bytes: number(storage.log_bytes),
        checkpoint_bytes: number(storage.checkpoint_bytes),
        free_bytes: number(storage.free_bytes),
        digest: hex(&report.digest),
    }
}

impl From<v1::Event> for Event {
    fn from(event: v1::Event) -> Self {
        Self {
            revision: event.revision,
            at_ms: event.at_ms,
            event: event.kind,
            vm: some(event.vm),
            node: event.node,
            epoch: event.epoch,
            generation: event.generation,
            detail: some(event.detail),
            by: some(event.by),
        }
    }
}

pub(crate) fn founded(out: &mut dyn Write, founded: &Founded) -> io::Result<()> {
    writeln!(out, "Others can join at {}.", founded.address)?;
    writeln!(out, "Fingerprint of the authority: {}", founded.authority)?;
    writeln!(out, "`blixard cluster token create` makes a token for a machine.")
}

pub(crate) fn removal(out: &mut dyn Write, removal: &Removal) -> io::Result<()> {
    let state = if removal.gone { "removed" } else { "leaving" };
    writeln!(out, "{}: {state}", removal.node)
}

pub(crate) fn status(out: &mut dyn Write, cluster: &Cluster) -> io::Result<()> {
    let leader = cluster.leader.map_or_else(|| "none".to_owned(), |id| format!("node {id}"));
    writeln!(out, "Cluster {}, term {}, leader: {leader}", cluster.cluster_id, cluster.term)?;
    if let Some(authority) = &cluster.authority {
        writeln!(out, "Authority {authority}")?;
    }
    writeln!(out)?;
    let digests = cluster.members.iter().any(|member| member.digest.is_some());
    let mut table =
        Table::new(["ID", "NAME", "ROLE", "ADDRESS", "APPLIED", "LAG", "SNAPSHOT", "LOG", "FREE", "STATE"]);
    let mib = |bytes: Option<u64>| {
        bytes.map_or_else(|| NOTHING.to_owned(), |bytes| format!("{} MiB", bytes.div_ceil(1 << 20)))
    };
    let number = |number: Option<u64>| number.map_or_else(|| NOTHING.to_owned(), |number| number.to_string());
    for member in &cluster.members {
        let digest = member.digest.as_deref().and_then(|digest| digest.get(..12));
        let state = match (&member.unreachable, digest) {
            (Some(reason), _) => format!("unreachable: {}", one_line(reason)),
            (None, Some(digest)) if digests => format!("ok {digest}"),
            (None, _) => "ok".to_owned(),
        };
        table.row([
            member.node.to_string(),
            member.name.clone(),
            member.role.to_owned(),
            member.address.clone(),
            number(member.applied_index),
            number(member.lag),
            number(member.snapshot_index),
            mib(member.log_bytes),
            mib(member.free_bytes),
            state,
        ]);
    }
    table.write(out)
}

pub(crate) fn event(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    write!(out, "{} {} {}", event.revision, utc(event.at_ms), event.event)?;
    if let Some(vm) = &event.vm {
        write!(out, " {vm}")?;
    }
    details(out, event)?;
    if let Some(by) = &event.by {
        write!(out, " (by {})", one_line(by))?;
    }
    writeln!(out)
}

/// An event that is told in a sentence on its vm.
pub(crate) fn event_of_vm(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    write!(out, "{}", event.event)?;
    details(out, event)?;
    if let Some(by) = &event.by {
        write!(out, ", by {}", one_line(by))?;
    }
    writeln!(out, ", at {} (revision {})", utc(event.at_ms), event.revision)
}

fn details(out: &mut dyn Write, event: &Event) -> io::Result<()> {
    let numbers = [("node", event.node), ("epoch", event.epoch), ("generation", event.generation)];
    for (name, number) in numbers.into_iter().filter_map(|(name, number)| Some((name, number?))) {
        write!(out, " {name} {number}")?;
    }
    if let Some(detail) = &event.detail {
        write!(out, ": {}", one_line(detail))?;
    }
    Ok(())
}
