//! The JSON that scripts read: keys here are stable, absent values are `null`.
//!
//! Owns: its own structs, so that a change of the gRPC messages is no change of this. Refuses to know:
//! how it is asked for.
#![expect(clippy::struct_field_names, reason = "a field is called as its key")]

use std::io::Write;

use blixard_proto::v1;
use blixard_types::Sha256Hash;
use serde::Serialize;
use serde_json::Value;

use super::facts::NodeFacts;
use super::{desired, node_state, role, vm_status};
use crate::error::Failure;

/// Writes one value and ends the line.
pub(crate) fn write(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer_pretty(&mut *out, value)?;
    Ok(writeln!(out)?)
}

/// Writes one value in one line, for a stream of them.
pub(crate) fn write_line(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    serde_json::to_writer(&mut *out, value)?;
    Ok(writeln!(out)?)
}

/// `vm list`.
#[derive(Debug, Serialize)]
pub(crate) struct Vms {
    pub(crate) vms: Vec<Vm>,
    /// The revision of the cluster's state that this is.
    pub(crate) revision: u64,
}

/// `vm show`, `vm start`, `vm stop`, and each of `vm list`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Vm {
    /// `tenant/name`.
    pub(crate) vm: String,
    /// pending, starting, running, healthy, unhealthy, stopping, stopped, failed, deleting.
    pub(crate) status: &'static str,
    /// running or stopped.
    pub(crate) desired: &'static str,
    /// The node it is on, or was on last.
    pub(crate) node: Option<String>,
    /// How often it has been placed.
    pub(crate) epoch: u64,
    /// The generation it should run.
    pub(crate) generation: u64,
    /// The generation that runs.
    pub(crate) running_generation: Option<u64>,
    /// Why it is waiting, failed or unhealthy.
    pub(crate) reason: Option<String>,
    /// The id of the flake that defines it.
    pub(crate) source: String,
    /// Failed starts in a row.
    pub(crate) failures: u32,
    /// How many calls have started or stopped it.
    pub(crate) wishes: u64,
    /// The generations that are kept, oldest first.
    pub(crate) generations: Vec<Generation>,
    /// What the flake says of it (docs/spec-v1.schema.json).
    pub(crate) spec: Value,
}

/// One generation of a vm.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Generation {
    pub(crate) number: u64,
    /// The deployment that made it, 32 hex digits.
    pub(crate) deployment: String,
    /// When, in milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// Who deployed it.
    pub(crate) by: Option<String>,
    pub(crate) drv: String,
    pub(crate) closure: Option<Closure>,
}

/// The generations of a vm, newest first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct History {
    pub(crate) vm: String,
    pub(crate) generations: Vec<PastGeneration>,
}

/// A generation, and what it is to its vm now.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct PastGeneration {
    /// Whether it is the one that runs.
    pub(crate) runs: bool,
    /// Whether it is the one that should run.
    pub(crate) target: bool,
    #[serde(flatten)]
    pub(crate) generation: Generation,
}

impl From<Vm> for History {
    fn from(vm: Vm) -> Self {
        let (running, target) = (vm.running_generation, vm.generation);
        let past = |generation: Generation| PastGeneration {
            runs: running == Some(generation.number),
            target: target == generation.number,
            generation,
        };
        Self { vm: vm.vm, generations: vm.generations.into_iter().rev().map(past).collect() }
    }
}

/// The closure that a generation is.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Closure {
    /// Store path of the runner.
    pub(crate) root: String,
    /// `sha256-<base64>`.
    pub(crate) nar_hash: Option<String>,
    /// `sha256-<base64>`.
    pub(crate) closure_digest: Option<String>,
    pub(crate) path_count: u64,
    /// Bytes of all NARs.
    pub(crate) nar_size: u64,
}

/// `vm delete`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Deleted {
    pub(crate) vm: String,
    /// False: it is still being stopped.
    pub(crate) gone: bool,
    /// The node that keeps the files of its guest, if there are any; null if they go, or if it has never run.
    pub(crate) kept_on: Option<String>,
}

/// `vm delete --dry-run`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct WouldDelete<'a> {
    vm: &'a str,
    /// The host on which it would be stopped; null if it does not run.
    stops_on: Option<&'a str>,
    /// The generations that would be forgotten, and their roots removed.
    generations: Vec<u64>,
    /// Whether its volumes and files would go.
    volumes: bool,
}

impl<'a> WouldDelete<'a> {
    pub(crate) fn of(vm: &'a Vm, volumes: bool) -> Self {
        let stops_on = vm.node.as_deref().filter(|_| vm.running_generation.is_some());
        let generations = vm.generations.iter().map(|generation| generation.number).collect();
        Self { vm: &vm.vm, stops_on, generations, volumes }
    }
}

/// Each line of `vm logs`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct LogLine<'a> {
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    pub(crate) text: &'a str,
}

/// `node list`.
#[derive(Debug, Serialize)]
pub(crate) struct Nodes {
    pub(crate) nodes: Vec<Node>,
    /// The revision of the cluster's state that this is.
    pub(crate) revision: u64,
}

/// A machine of the cluster.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Node {
    pub(crate) id: u64,
    pub(crate) name: String,
    /// server, host, builder.
    pub(crate) roles: Vec<&'static str>,
    /// joining, ready, cordoned, draining, lost or leaving.
    pub(crate) state: &'static str,
    /// Vms placed on it.
    pub(crate) vms: u64,
    pub(crate) used_vcpus: u64,
    pub(crate) used_memory_mib: u64,
    /// Volumes at their full size.
    pub(crate) used_disk_mib: u64,
    /// Null until its daemon has spoken.
    pub(crate) facts: Option<NodeFacts>,
}

/// `status`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Status {
    /// 32 hex digits.
    pub(crate) cluster_id: String,
    pub(crate) incarnation: u64,
    /// The node that answered.
    pub(crate) node: u64,
    pub(crate) node_name: String,
    /// Of its daemon.
    pub(crate) version: String,
    pub(crate) term: u64,
    /// The node that leads; null while there is none.
    pub(crate) leader: Option<u64>,
    pub(crate) voters: Vec<u64>,
    pub(crate) last_log_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) nodes: u64,
    pub(crate) vms: u64,
    pub(crate) vms_healthy: u64,
}

/// `deploy`.
#[derive(Debug, Serialize)]
pub(crate) struct Deployment {
    /// 32 hex digits.
    pub(crate) deployment: String,
    /// Whether every vm is as its user wants it.
    pub(crate) good: bool,
    pub(crate) vms: Vec<DeployedVm>,
}

/// A vm of a deployment, at its end.
#[derive(Debug, Serialize)]
pub(crate) struct DeployedVm {
    pub(crate) vm: String,
    pub(crate) generation: u64,
    /// added, changed, unchanged.
    pub(crate) change: &'static str,
    /// healthy, stopped, failed or superseded; null if nothing was heard of it.
    pub(crate) stage: Option<&'static str>,
    pub(crate) node: Option<String>,
    /// Why it failed.
    pub(crate) detail: Option<String>,
}

/// A text, unless there is none.
pub(crate) fn some(text: String) -> Option<String> {
    (!text.is_empty()).then_some(text)
}

fn sha256(bytes: &[u8]) -> Option<String> {
    bytes.try_into().ok().map(|bytes| Sha256Hash(bytes).to_string())
}

impl From<v1::Vm> for Vm {
    fn from(vm: v1::Vm) -> Self {
        Self {
            vm: vm.vm,
            status: vm_status(vm.status),
            desired: desired(vm.desired),
            node: some(vm.node),
            epoch: vm.epoch,
            generation: vm.generation,
            running_generation: vm.running_generation,
            reason: some(vm.reason),
            source: vm.source,
            failures: vm.failures,
            wishes: vm.wishes,
            generations: vm.generations.into_iter().map(Generation::from).collect(),
            // What is no JSON is shown as the text it is.
            spec: match vm.spec.as_str() {
                "" => Value::Null,
                text => serde_json::from_str(text).unwrap_or_else(|_| Value::from(text)),
            },
        }
    }
}

impl From<v1::Generation> for Generation {
    fn from(generation: v1::Generation) -> Self {
        Self {
            number: generation.number,
            deployment: generation.deployment_id,
            by: some(generation.by),
            at_ms: generation.at_ms,
            drv: generation.drv,
            closure: generation.closure.map(|closure| Closure {
                root: closure.root,
                nar_hash: sha256(&closure.nar_hash),
                closure_digest: sha256(&closure.closure_digest),
                path_count: closure.path_count,
                nar_size: closure.nar_size,
            }),
        }
    }
}

impl From<v1::Node> for Node {
    fn from(node: v1::Node) -> Self {
        Self {
            id: node.id,
            name: node.name,
            roles: node.roles.into_iter().map(role).collect(),
            state: node_state(node.state),
            vms: node.vms,
            used_vcpus: node.used_vcpus,
            used_memory_mib: node.used_memory_mib,
            used_disk_mib: node.used_disk_mib,
            facts: node.facts.map(NodeFacts::from),
        }
    }
}

impl From<v1::StatusResponse> for Status {
    fn from(status: v1::StatusResponse) -> Self {
        Self {
            cluster_id: status.cluster_id,
            incarnation: status.incarnation,
            node: status.node,
            node_name: status.node_name,
            version: status.version,
            term: status.term,
            leader: status.leader,
            voters: status.voters,
            last_log_index: status.last_log_index,
            applied_index: status.applied_index,
            snapshot_index: status.snapshot_index,
            nodes: status.nodes,
            vms: status.vms,
            vms_healthy: status.vms_healthy,
        }
    }
}
