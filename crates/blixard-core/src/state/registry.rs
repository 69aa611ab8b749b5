//! Who may join, who has gone, and how far nodes and certificates are counted.
//!
//! Nodes and certificates are numbered from 1 and no number is used twice. So a number up to the highest
//! that is not there has been revoked, and one past it is newer than this copy of the state. A server that
//! has been away can tell the two apart without a list of all that ever was revoked.

use std::collections::{BTreeMap, VecDeque};

use blixard_types::{CertificateSerial, NodeId, NodeName, Sha256Hash};
use serde::{Deserialize, Serialize};

use super::{ClusterState, Roles};
use crate::ports::UnixMillis;

/// Tokens at once. Each is a line that someone has to carry to a machine.
pub const TOKENS_MAX: usize = 256;
/// Longest life of a token: what lies around longer is found.
pub const TOKEN_TTL_MAX_MS: u64 = 30 * 24 * 3600 * 1000;
/// For how long past its end a token that was used is remembered, so that an interrupted join can go on.
pub const TOKEN_REMEMBERED_MS: u64 = 24 * 3600 * 1000;
/// Nodes that are gone and whose names are remembered, for messages only.
pub const REMOVED_REMEMBERED: usize = 64;
/// Certificates of a node that count: the newest, and the one that it had when it asked for that, in case the newest got
/// lost on its way.
pub const CERTIFICATES_KEPT: usize = 2;

/// Who may join, who has gone, and how far nodes and certificates are counted.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Registry {
    /// SHA-256 of the authority's certificate; absent before `cluster init`.
    pub authority: Option<Sha256Hash>,
    /// The highest number that a node has had.
    pub highest_node: NodeId,
    /// The highest number that a certificate has had.
    pub highest_serial: CertificateSerial,
    /// Tokens by the hash of their secret.
    pub tokens: BTreeMap<Sha256Hash, Token>,
    /// The newest nodes that have gone, oldest first.
    pub removed: VecDeque<RemovedNode>,
}

/// A join token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Token {
    /// What the machine may be, at most.
    pub roles: Roles,
    /// Until when it can be used.
    pub expires: UnixMillis,
    /// Who has used it.
    pub used: Option<TokenUse>,
}

/// Who has used a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TokenUse {
    /// The node that it made.
    pub node: NodeId,
    /// The hash of the machine's key.
    pub key: Sha256Hash,
}

/// A node that has gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RemovedNode {
    /// Its number.
    pub node: NodeId,
    /// Its name; another node may have it now.
    pub name: NodeName,
    /// When it went.
    pub at: UnixMillis,
}

/// How a node that shows a certificate stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PeerStanding {
    /// It is a member, and the certificate counts.
    Member,
    /// It was removed.
    Removed,
    /// It is a member, and has newer certificates.
    Replaced,
    /// Node or certificate are newer than this copy of the state.
    Newer,
}

impl PeerStanding {
    /// How a node stands, by the certificates of it that count, absent if it is no member, and the highest numbers
    /// that nodes and certificates have had.
    pub(crate) fn of(
        certificates: Option<&VecDeque<CertificateSerial>>,
        (node, serial): (NodeId, CertificateSerial),
        (highest_node, highest_serial): (NodeId, CertificateSerial),
    ) -> Self {
        match certificates {
            None if node <= highest_node => Self::Removed,
            Some(certificates) if certificates.contains(&serial) => Self::Member,
            Some(_) if serial <= highest_serial => Self::Replaced,
            None | Some(_) => Self::Newer,
        }
    }
}

impl ClusterState {
    /// How a node stands that shows this certificate.
    pub fn peer_standing(&self, node: NodeId, serial: CertificateSerial) -> PeerStanding {
        let certificates = self.nodes.get(&node).map(|node| &node.certificates);
        let highest = (self.registry.highest_node, self.registry.highest_serial);
        PeerStanding::of(certificates, (node, serial), highest)
    }
}
