//! Commands on who belongs to the cluster.

use blixard_types::{CertificateSerial, NodeAddress, NodeId, NodeName, Sha256Hash};

use crate::state::Roles;

/// A change of who belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipCommand {
    /// Gives the cluster its certificate authority, once in its life.
    AdoptAuthority {
        /// SHA-256 of the authority's certificate.
        fingerprint: Sha256Hash,
    },
    /// A node is reached elsewhere from now on.
    SetAddress {
        /// The node.
        node: NodeId,
        /// Where.
        address: NodeAddress,
    },
    /// Allows one machine to join.
    CreateToken {
        /// The hash of the token's secret.
        token: Sha256Hash,
        /// What the machine may be, at most.
        roles: Roles,
        /// For how long, in milliseconds from the command's time.
        ttl_ms: u64,
    },
    /// A machine joins with a token, or asks again after an interruption.
    AdmitNode(AdmitNode),
    /// Counts a certificate for a node that is a member.
    CertifyNode {
        /// The node.
        node: NodeId,
        /// The certificate that it has shown when it asked: it may never get the next one, and goes on counting. Absent where
        /// it has shown none, and in logs of before this was said.
        shown: Option<CertificateSerial>,
    },
    /// A node is to go.
    RemoveNode {
        /// The node.
        node: NodeId,
    },
    /// A node that was to go is out of the consensus group: its certificates count no more.
    ForgetNode {
        /// The node.
        node: NodeId,
    },
}

/// A machine that joins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdmitNode {
    /// The hash of the token's secret.
    pub token: Sha256Hash,
    /// The hash of the machine's public key request: who used the token may use it again.
    pub key: Sha256Hash,
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What it is for.
    pub roles: Roles,
    /// Where others reach it; a server must be reached.
    pub address: Option<NodeAddress>,
}
