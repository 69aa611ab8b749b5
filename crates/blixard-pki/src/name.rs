//! How a certificate names a node: `node-<id>.<cluster id>.blixard`.
//!
//! Whoever dials a node expects its name, so that it does not matter where the node is reached.

use blixard_types::{ClusterId, NodeId};

/// The domain below which a cluster's names are.
pub(crate) fn cluster_domain(cluster: ClusterId) -> String {
    format!("{cluster}.blixard")
}

/// The DNS name that a node's certificate carries.
#[must_use]
pub fn node_dns_name(node: NodeId, cluster: ClusterId) -> String {
    format!("node-{node}.{}", cluster_domain(cluster))
}

/// The node and the cluster that a name names.
pub(crate) fn parse_node_dns_name(name: &str) -> Option<(NodeId, ClusterId)> {
    let (node, rest) = name.strip_prefix("node-")?.split_once('.')?;
    let parsed = (NodeId(node.parse().ok()?), rest.strip_suffix(".blixard")?.parse().ok()?);
    // One text for one node: no leading zeros, no sign.
    (node_dns_name(parsed.0, parsed.1) == name).then_some(parsed)
}
