//! Where vms are placed, and what the others wait for.
//!
//! Owns: which hosts will do and which of them is better (`choose`), backoff after failures, the reasons
//! of every decision ([`explain`]). Refuses to know: how a placement is carried out. The same state and
//! time give the same plan.
//!
//! A host will do if its state, its platform, its terms, its labels and its room allow it (`filter`); of
//! those the one with the most points (`score`) is taken; of those with equal points the one with the most
//! free memory, or with the least that suffices, as the vm's strategy says; and then the lower number.

mod choose;
mod company;
pub mod explain;
mod filter;
mod fleet;
pub mod preempt;
mod reason;
pub mod rebalance;
mod score;
mod shape;
mod volumes;

use std::collections::BTreeMap;

use blixard_types::spec::VmKind;
use blixard_types::{Epoch, NodeId, VmId};

use crate::ports::UnixMillis;
use crate::state::{ClusterState, Node, Run, Unplaced, Vm};

pub use fleet::Planner;
pub use reason::{HostRefusal, REFUSALS_SHOWN, RefusalReason, WaitingOn};
pub use score::Points;
use shape::Requirement;

/// Pause before a service that failed is placed again, doubled with each failure in a row. Tasks say it themselves.
pub const BACKOFF_FIRST_MS: u64 = 10_000;
/// Longest such pause.
pub const BACKOFF_MAX_MS: u64 = 300_000;
/// The clocks of two servers that lead one after another differ by less than this, unless one is wrong.
const CLOCKS_DIFFER_MS: u64 = 10_000;
/// Failures in a row after which a service waits for a person.
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

/// Plans placements for every vm that should run and is on no host.
#[must_use]
pub fn plan(state: &ClusterState, now: UnixMillis) -> SchedulePlan {
    Planner::of(state).plan(state, now)
}

/// Whether the state of a host lets it be given something to run.
pub(crate) fn admits(node: &Node) -> Result<(), RefusalReason> {
    filter::admits(node)
}

/// Whether a host is what a vm's target generation requires, room apart: what the planner chooses by, for
/// `apply` to check again.
pub(crate) fn meets(state: &ClusterState, vm: &Vm, node: &Node) -> Result<(), RefusalReason> {
    let target = vm.target_generation().zip(state.target_spec(vm));
    target.map_or(Ok(()), |(generation, spec)| filter::meets(node, &Requirement::of(generation, spec)))
}

/// What a vm that has failed waits for before it is tried again.
fn backoff(state: &ClusterState, vm: &Vm, now: UnixMillis) -> Option<WaitingOn> {
    let Run::Unplaced { why: Unplaced::Failed { at, hindered, .. } } = &vm.run else {
        return None;
    };
    // A new generation resets the count: it is tried at once.
    let failures = vm.failures;
    if failures == 0 {
        return None;
    }
    let (tries, first_ms) = match state.target_spec(vm) {
        Some(spec) if spec.kind == VmKind::Task => (spec.restart.burst, spec.restart.delay_ms),
        _ => (FAILURES_MAX, BACKOFF_FIRST_MS),
    };
    // What hindered its host may be over at any time, and nobody is asked to say so.
    if failures >= tries && !hindered {
        return Some(WaitingOn::Operator { failures });
    }
    let doubled = first_ms.saturating_mul(1 << (failures - 1).min(20));
    let pause = doubled.min(BACKOFF_MAX_MS.max(first_ms));
    // The clock that said when it failed was ahead, and has been set since: nobody knows how long ago that was.
    if now.0.saturating_add(CLOCKS_DIFFER_MS) < at.0 {
        return None;
    }
    let until = UnixMillis(at.0.saturating_add(pause));
    (now < until).then_some(WaitingOn::Backoff { failures, until })
}

#[cfg(test)]
mod tests;
