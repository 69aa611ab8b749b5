//! Who asks for a change.

use std::fmt;

use blixard_types::NodeId;
use serde::{Deserialize, Serialize};

use crate::state::ClusterState;

/// Who asks for a change. What the cluster does by itself, by its rules, nobody has asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Principal {
    /// A user of a node, as the kernel there says. What a host says of its own users is believed.
    User {
        /// The node.
        node: NodeId,
        /// The user.
        uid: u32,
    },
    /// A node, as its certificate says.
    Node {
        /// The node.
        node: NodeId,
    },
    /// A machine with a join token, which is no node yet.
    TokenHolder,
}

impl Principal {
    /// The node that speaks.
    #[must_use]
    pub const fn node(self) -> Option<NodeId> {
        match self {
            Self::User { node, .. } | Self::Node { node } => Some(node),
            Self::TokenHolder => None,
        }
    }

    /// Whom a person would call this, by the names that nodes have now.
    #[must_use]
    pub fn named(self, state: &ClusterState) -> String {
        let name = |node: NodeId| {
            let known = state.nodes.get(&node);
            known.map_or_else(|| format!("node {node}"), |node| node.name.to_string())
        };
        match self {
            Self::User { node, uid: 0 } => format!("root on {}", name(node)),
            Self::User { node, uid } => format!("uid {uid} on {}", name(node)),
            Self::Node { node } => name(node),
            Self::TokenHolder => self.to_string(),
        }
    }
}

impl fmt::Display for Principal {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User { node, uid } => write!(out, "uid {uid} on node {node}"),
            Self::Node { node } => write!(out, "node {node}"),
            Self::TokenHolder => out.write_str("a machine with a token"),
        }
    }
}
