//! Nodes as clients see them.

use blixard_core::state::{ClusterState, Departure, Node};
use blixard_types::NodeId;

use super::{facts_to, role_to};
use crate::v1;

/// A node as clients see it.
#[must_use]
pub fn node_view(state: &ClusterState, id: NodeId, node: &Node) -> v1::Node {
    let used = state.usage(id);
    let state_of = match (node.departure, &node.session) {
        (Departure::Requested, _) => v1::NodeState::Leaving,
        (Departure::Stays, Some(_)) => v1::NodeState::Ready,
        (Departure::Stays, None) => v1::NodeState::Joining,
    };
    v1::Node {
        id: id.0,
        name: node.name.to_string(),
        roles: node.roles.iter().map(|&role| role_to(role).into()).collect(),
        state: state_of.into(),
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
