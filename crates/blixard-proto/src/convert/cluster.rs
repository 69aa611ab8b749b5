//! Nodes as clients see them.

use blixard_core::state::{Admission, ClusterState, Departure, Node, Presence};
use blixard_types::NodeId;

use super::{facts_to, role_to};
use crate::v1;

/// A node as clients see it.
#[must_use]
pub fn node_view(state: &ClusterState, id: NodeId, node: &Node) -> v1::Node {
    let used = state.usage(id);
    v1::Node {
        id: id.0,
        name: node.name.to_string(),
        roles: node.roles.iter().map(|&role| role_to(role).into()).collect(),
        state: node_state(node).into(),
        facts: node.session.as_ref().map(|session| facts_to(&session.facts)),
        vms: state.vms.values().filter(|vm| vm.run.host() == Some(id)).count() as u64,
        used_memory_mib: used.memory_mib,
        used_vcpus: used.vcpus,
        used_disk_mib: used.disk_mib,
        address: node.address.as_ref().map(ToString::to_string).unwrap_or_default(),
        // Not part of the state: the consensus group knows.
        member: None,
        leads: false,
    }
}

/// Where a node is in its life.
#[must_use]
pub fn node_state(node: &Node) -> v1::NodeState {
    match (node.departure, node.presence, node.admission) {
        (Departure::Requested, ..) => v1::NodeState::Leaving,
        (_, Presence::Lost | Presence::DeclaredLost, _) => v1::NodeState::Lost,
        (.., Admission::Draining { .. }) => v1::NodeState::Draining,
        (.., Admission::Cordoned) => v1::NodeState::Cordoned,
        (.., Admission::Open) if node.session.is_some() => v1::NodeState::Ready,
        (.., Admission::Open) => v1::NodeState::Joining,
    }
}

/// A role's name, as in the configuration.
#[must_use]
pub fn role_name(role: v1::Role) -> &'static str {
    match role {
        v1::Role::Unspecified => "unknown",
        v1::Role::Server => "server",
        v1::Role::Host => "host",
        v1::Role::Builder => "builder",
    }
}
