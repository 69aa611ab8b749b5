//! Where vms are placed, and what the others wait for.
//!
//! Owns: filter and score of hosts, backoff after failures. Refuses to know: how a placement is
//! carried out. The same state and time give the same plan.

use std::collections::BTreeMap;

use blixard_types::spec::KvmUse;
use blixard_types::{Epoch, NodeId, Spec, VmId};
use serde::{Deserialize, Serialize};

use crate::ports::UnixMillis;
use crate::state::{
    Admission, ClusterState, Departure, Generation, Node, Presence, Quarantine, Role, Run, Shortage,
    Unplaced, Usage, Vm,
};

/// Pause before a vm that failed is placed again, doubled with each failure in a row.
pub const BACKOFF_FIRST_MS: u64 = 10_000;
/// Longest such pause.
pub const BACKOFF_MAX_MS: u64 = 300_000;
/// Failures in a row after which a vm waits for a person.
pub const FAILURES_MAX: u32 = 5;

/// What to place now, and why the rest is not.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct SchedulePlan {
    /// Placements to propose, in this order.
    pub placements: Vec<PlacementDecision>,
    /// The vms that should run and are not placed by this plan.
    pub waiting: BTreeMap<VmId, WaitingOn>,
    /// When to plan again although nothing has changed.
    pub again_at: Option<UnixMillis>,
}

/// One vm goes to one host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlacementDecision {
    /// The vm.
    pub vm: VmId,
    /// The host.
    pub node: NodeId,
    /// The new epoch.
    pub epoch: Epoch,
}

/// Why a vm that should run is on no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "waitingOn")]
pub enum WaitingOn {
    /// No host will do.
    #[error("no host will do: {}", list(.refusals))]
    Host {
        /// Each host, and why not.
        refusals: Vec<HostRefusal>,
    },
    /// It failed not long ago.
    #[error("failed {failures} times, tried again later")]
    Backoff {
        /// How often in a row.
        failures: u32,
        /// When it is tried again.
        until: UnixMillis,
    },
    /// It failed too often.
    #[error("failed {failures} times in a row; `blixard vm start` or a new generation tries again")]
    Operator {
        /// How often in a row.
        failures: u32,
    },
}

/// A host that will not do for a vm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{name}: {reason}")]
pub struct HostRefusal {
    /// The host's name.
    pub name: String,
    /// Why not.
    pub reason: RefusalReason,
}

/// Why a host will not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// It has not the role `host`.
    #[error("does not run vms")]
    Role,
    /// It is to leave the cluster.
    #[error("is leaving the cluster")]
    Leaving,
    /// No daemon has spoken there yet.
    #[error("its daemon has not reported yet")]
    NoSession,
    /// It is lost, or a person says so.
    #[error("is lost")]
    Lost,
    /// It takes no new vms.
    #[error("takes no new vms")]
    Cordoned,
    /// Another host could not be cut off safely.
    #[error("waits for {other} to hold a lease")]
    BesideUnfenced {
        /// That host.
        other: String,
    },
    /// What was granted before the cluster was recovered or restored may still run.
    #[error("waits for leases from before the cluster was recovered or restored to end")]
    Quarantine,
    /// The runner is built for another platform.
    #[error("is {host}, the vm is built for {vm}")]
    System {
        /// The host's platform.
        host: String,
        /// The vm's.
        vm: String,
    },
    /// The vm requires KVM.
    #[error("has no usable KVM, which the vm requires")]
    Kvm,
    /// Too little is free.
    #[error("{0}")]
    Room(Shortage),
}

fn list(refusals: &[HostRefusal]) -> String {
    if refusals.is_empty() {
        return "the cluster has no nodes".to_owned();
    }
    refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// Plans placements for every vm that should run and is on no host.
#[must_use]
pub fn plan(state: &ClusterState, now: UnixMillis) -> SchedulePlan {
    let mut plan = SchedulePlan::default();
    let mut usage: BTreeMap<NodeId, Usage> = state.nodes.keys().map(|&id| (id, state.usage(id))).collect();
    for (id, vm, generation, spec) in candidates(state) {
        if let Some(waiting) = backoff(vm, now) {
            if let WaitingOn::Backoff { until, .. } = waiting {
                plan.again_at = Some(plan.again_at.map_or(until, |at| at.min(until)));
            }
            plan.waiting.insert(id.clone(), waiting);
            continue;
        }
        match choose(state, &usage, generation, spec) {
            Ok(node) => {
                if let Some(used) = usage.get_mut(&node) {
                    *used = used.plus(spec);
                }
                let epoch = vm.last_epoch.next();
                plan.placements.push(PlacementDecision { vm: id.clone(), node, epoch });
            }
            Err(refusals) => {
                plan.waiting.insert(id.clone(), WaitingOn::Host { refusals });
            }
        }
    }
    plan
}

/// The vms to place: higher priority first, then by name.
fn candidates(state: &ClusterState) -> Vec<(&VmId, &Vm, &Generation, &Spec)> {
    let unplaced = state.vms.iter().filter(|(_, vm)| vm.wanted() && vm.run.host().is_none());
    let mut candidates: Vec<_> = unplaced
        .filter_map(|(id, vm)| Some((id, vm, vm.target_generation()?, state.target_spec(vm)?)))
        .collect();
    candidates.sort_by_key(|(id, _, _, spec)| (std::cmp::Reverse(spec.placement.priority), *id));
    candidates
}

fn backoff(vm: &Vm, now: UnixMillis) -> Option<WaitingOn> {
    let Run::Unplaced { why: Unplaced::Failed { at, .. } } = &vm.run else {
        return None;
    };
    // A new generation resets the count: it is tried at once.
    let failures = vm.failures;
    if failures == 0 {
        return None;
    }
    if failures >= FAILURES_MAX {
        return Some(WaitingOn::Operator { failures });
    }
    let pause = BACKOFF_FIRST_MS.saturating_mul(1 << (failures - 1)).min(BACKOFF_MAX_MS);
    let until = UnixMillis(at.0.saturating_add(pause));
    (now < until).then_some(WaitingOn::Backoff { failures, until })
}

/// The host with the most free memory of those that will do; the lower id where they are equal.
fn choose(
    state: &ClusterState,
    usage: &BTreeMap<NodeId, Usage>,
    generation: &Generation,
    spec: &Spec,
) -> Result<NodeId, Vec<HostRefusal>> {
    let mut refusals = Vec::new();
    let mut best: Option<(u64, NodeId)> = None;
    for (&id, node) in &state.nodes {
        let used = usage.get(&id).copied().unwrap_or_default();
        let free = fenced(state, id, node).and_then(|()| free_memory(node, used, generation, spec));
        match free {
            Ok(free) if best.is_none_or(|(most, _)| free > most) => best = Some((free, id)),
            Ok(_) => {}
            Err(reason) => refusals.push(HostRefusal { name: node.name.to_string(), reason }),
        }
    }
    best.map(|(_, id)| id).ok_or(refusals)
}

/// Whether a host may be given something to run, as far as leases are concerned.
fn fenced(state: &ClusterState, id: NodeId, node: &Node) -> Result<(), RefusalReason> {
    if state.fencing.quarantine == Quarantine::Waiting {
        return Err(RefusalReason::Quarantine);
    }
    if node.presence != Presence::Present {
        return Err(RefusalReason::Lost);
    }
    if node.admission != Admission::Open {
        return Err(RefusalReason::Cordoned);
    }
    let other = state.unfenced().find(|&other| other != id).and_then(|other| state.nodes.get(&other));
    other.map_or(Ok(()), |other| Err(RefusalReason::BesideUnfenced { other: other.name.to_string() }))
}

fn free_memory(node: &Node, used: Usage, generation: &Generation, spec: &Spec) -> Result<u64, RefusalReason> {
    if !node.roles.contains(&Role::Host) {
        return Err(RefusalReason::Role);
    }
    if node.departure == Departure::Requested {
        return Err(RefusalReason::Leaving);
    }
    let facts = &node.session.as_ref().ok_or(RefusalReason::NoSession)?.facts;
    if facts.system != generation.system {
        let (host, vm) = (facts.system.clone(), generation.system.clone());
        return Err(RefusalReason::System { host, vm });
    }
    if spec.kvm == KvmUse::Required && !facts.kvm {
        return Err(RefusalReason::Kvm);
    }
    facts.fits(used, spec).map_err(RefusalReason::Room)?;
    Ok(facts.memory_mib.saturating_sub(used.memory_mib))
}

#[cfg(test)]
mod tests;
