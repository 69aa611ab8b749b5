//! What a node that holds no copy of the state knows of the others, and whom of them it asks.
//!
//! Owns: who is welcome by a list that may be old, where nodes are, and who leads by what servers say. Refuses to
//! know: how a list comes to a node, and how it is kept.

use std::collections::{BTreeMap, VecDeque};

use blixard_types::{CertificateSerial, NodeAddress, NodeId, NodeName};
use serde::{Deserialize, Serialize};

use crate::state::{ClusterState, Node, PeerStanding, Role, Roles};

/// The nodes of a cluster, as its state had them at one time.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Directory {
    /// The nodes.
    pub nodes: BTreeMap<NodeId, Listed>,
    /// The highest number that a node has had.
    pub highest_node: NodeId,
    /// The highest number that a certificate has had.
    pub highest_serial: CertificateSerial,
}

/// A node that is listed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: NodeName,
    /// What it is for.
    pub roles: Roles,
    /// Where others reach it; absent where nobody has to.
    pub address: Option<NodeAddress>,
    /// Its certificates that count, oldest first.
    pub certificates: VecDeque<CertificateSerial>,
}

impl Listed {
    /// A node, as it is listed.
    #[must_use]
    pub fn of(node: &Node) -> Self {
        let (name, roles) = (node.name.clone(), node.roles.clone());
        Self { name, roles, address: node.address.clone(), certificates: node.certificates.clone() }
    }
}

impl Directory {
    /// The nodes of a state.
    #[must_use]
    pub fn of(state: &ClusterState) -> Self {
        let registry = &state.registry;
        let (highest_node, highest_serial) = (registry.highest_node, registry.highest_serial);
        let nodes = state.nodes.iter().map(|(&id, node)| (id, Listed::of(node))).collect();
        Self { nodes, highest_node, highest_serial }
    }

    /// How a node stands that shows this certificate.
    #[must_use]
    pub fn standing(&self, node: NodeId, serial: CertificateSerial) -> PeerStanding {
        let certificates = self.nodes.get(&node).map(|node| &node.certificates);
        PeerStanding::of(certificates, (node, serial), (self.highest_node, self.highest_serial))
    }

    /// The servers that can be reached.
    pub fn servers(&self) -> impl Iterator<Item = (NodeId, &NodeAddress)> {
        let servers = self.nodes.iter().filter(|(_, node)| node.roles.contains(&Role::Server));
        servers.filter_map(|(&id, node)| Some((id, node.address.as_ref()?)))
    }
}

/// What a server says about who leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sighting {
    /// The server's term.
    pub term: u64,
    /// Whom it follows, or itself if it leads; absent during an election.
    pub leader: Option<NodeId>,
}

/// Who leads for certain, for all that one server can know: a majority of the servers says so. One that was cut off may
/// go on saying that it leads.
#[must_use]
pub fn agreed_leader(servers: usize, sightings: &[Sighting]) -> Option<NodeId> {
    let leader = likely_leader(sightings)?;
    let agree = sightings.iter().filter(|sighting| sighting.leader == Some(leader)).count();
    (agree > servers / 2).then_some(leader)
}

/// Who leads as far as is known: whom the newest term names.
#[must_use]
pub fn likely_leader(sightings: &[Sighting]) -> Option<NodeId> {
    let named = sightings.iter().filter_map(|sighting| Some((sighting.term, sighting.leader?)));
    named.max_by_key(|(term, _)| *term).map(|(_, leader)| leader)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sighting(term: u64, leader: u64) -> Sighting {
        Sighting { term, leader: (leader > 0).then_some(NodeId(leader)) }
    }

    #[test]
    fn a_leader_that_was_cut_off_is_not_believed_against_a_newer_term() {
        let said = [sighting(4, 1), sighting(5, 2)];
        assert_eq!(likely_leader(&said), Some(NodeId(2)));
        assert_eq!(agreed_leader(3, &said), None);
        assert_eq!(agreed_leader(3, &[sighting(4, 1), sighting(5, 2), sighting(5, 2)]), Some(NodeId(2)));
    }

    #[test]
    fn a_majority_is_one_of_all_servers_and_not_of_those_that_answer() {
        assert_eq!(agreed_leader(5, &[sighting(4, 1), sighting(4, 1)]), None);
        assert_eq!(agreed_leader(4, &[sighting(4, 1), sighting(4, 1)]), None);
        assert_eq!(agreed_leader(3, &[sighting(4, 1), sighting(4, 1)]), Some(NodeId(1)));
        assert_eq!(agreed_leader(1, &[sighting(4, 1)]), Some(NodeId(1)));
    }

    #[test]
    fn nobody_leads_during_an_election_unless_a_server_says_so() {
        assert_eq!(likely_leader(&[]), None);
        assert_eq!(likely_leader(&[sighting(7, 0), sighting(7, 0)]), None);
        assert_eq!(likely_leader(&[sighting(7, 0), sighting(6, 3)]), Some(NodeId(3)));
    }
}
