//! Which hosts will do: what does not depend on the other vms there. Room is [`crate::state::Capacity`]'s.

use blixard_types::NodeId;

use super::reason::RefusalReason;
use super::shape::{Kvm, Requirement};
use crate::state::{Admission, ClusterState, Departure, Node, Presence, Quarantine, Role};

/// Whether the state of a host lets it be given something to run.
pub(super) fn admits(node: &Node) -> Result<(), RefusalReason> {
    if !node.roles.contains(&Role::Host) {
        return Err(RefusalReason::Role);
    }
    if node.departure == Departure::Requested {
        return Err(RefusalReason::Leaving);
    }
    if node.presence != Presence::Present {
        return Err(RefusalReason::Lost);
    }
    if node.admission != Admission::Open {
        return Err(RefusalReason::Cordoned);
    }
    Ok(())
}

/// Whether a host is what a vm requires, room apart.
pub(super) fn meets(node: &Node, requirement: &Requirement) -> Result<(), RefusalReason> {
    let facts = &node.session.as_ref().ok_or(RefusalReason::NoSession)?.facts;
    if facts.system != requirement.system {
        let (host, vm) = (facts.system.clone(), requirement.system.clone());
        return Err(RefusalReason::System { host, vm });
    }
    if requirement.kvm == Kvm::Needed && !facts.kvm {
        return Err(RefusalReason::Kvm);
    }
    let terms = &facts.terms;
    if !terms.hypervisors.is_empty() && !terms.hypervisors.contains(&requirement.hypervisor) {
        return Err(RefusalReason::Hypervisor { hypervisor: requirement.hypervisor.name().to_owned() });
    }
    if !terms.tenants.is_empty() && !terms.tenants.contains(&requirement.tenant) {
        return Err(RefusalReason::Tenant { tenant: requirement.tenant.to_string() });
    }
    if let Some(volume) = requirement.shared.iter().find(|name| !facts.shared.contains_key(*name)) {
        return Err(RefusalReason::NotShared { volume: volume.clone() });
    }
    match requirement.constraints.iter().find(|one| !one.holds(node.label(&one.label))) {
        Some(constraint) => Err(RefusalReason::Constraint { constraint: constraint.to_string() }),
        None => Ok(()),
    }
}

/// What leases allow: nothing, one host, or all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gate {
    /// Grants of an earlier incarnation may still be obeyed.
    Quarantine,
    /// Hosts without a lease: one of them may be given vms if it is the only one, and no other may.
    Unfenced(NodeId, Option<NodeId>),
    /// Every host holds a lease, or is the only one.
    Open,
}

impl Gate {
    pub(super) fn of(state: &ClusterState) -> Self {
        if state.fencing.quarantine == Quarantine::Waiting {
            return Self::Quarantine;
        }
        let mut unfenced = state.unfenced();
        match unfenced.next() {
            Some(first) => Self::Unfenced(first, unfenced.next()),
            None => Self::Open,
        }
    }

    /// The host whose lease has to be waited for before this one is given anything.
    fn waits_for(self, node: NodeId) -> Option<NodeId> {
        match self {
            Self::Unfenced(first, second) => {
                [Some(first), second].into_iter().flatten().find(|&one| one != node)
            }
            Self::Quarantine | Self::Open => None,
        }
    }

    pub(super) fn lets(self, node: NodeId) -> bool {
        self != Self::Quarantine && self.waits_for(node).is_none()
    }

    pub(super) fn check(self, state: &ClusterState, node: NodeId) -> Result<(), RefusalReason> {
        if self == Self::Quarantine {
            return Err(RefusalReason::Quarantine);
        }
        match self.waits_for(node).and_then(|other| state.nodes.get(&other)) {
            Some(other) => Err(RefusalReason::BesideUnfenced { other: other.name.to_string() }),
            None => Ok(()),
        }
    }
}
