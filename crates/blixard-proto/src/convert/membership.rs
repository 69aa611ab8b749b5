//! The encoding of changes of who belongs to the cluster.

use blixard_core::command::{AdmitNode, MembershipCommand};
use blixard_core::state::Roles;
use blixard_types::{CertificateSerial, NodeId};

use super::{ConvertError, hash, hash_bytes, role_to, roles_from};
use crate::v1::{MembershipChange, membership_change as change};

/// The numbers of roles.
#[must_use]
pub fn roles_to(roles: &Roles) -> Vec<i32> {
    roles.iter().map(|&role| role_to(role).into()).collect()
}

pub(super) fn membership_to(command: &MembershipCommand) -> MembershipChange {
    use change::Change as To;
    let change = match command {
        MembershipCommand::AdoptAuthority { fingerprint } => {
            To::AdoptAuthority(change::AdoptAuthority { fingerprint: hash_bytes(*fingerprint) })
        }
        MembershipCommand::SetAddress { node, address } => {
            To::SetAddress(change::SetAddress { node: node.0, address: address.to_string() })
        }
        MembershipCommand::CreateToken { token, roles, ttl_ms } => To::CreateToken(change::CreateToken {
            token: hash_bytes(*token),
            roles: roles_to(roles),
            ttl_ms: *ttl_ms,
        }),
        MembershipCommand::AdmitNode(admit) => To::AdmitNode(change::AdmitNode {
            token: hash_bytes(admit.token),
            key: hash_bytes(admit.key),
            name: admit.name.to_string(),
            roles: roles_to(&admit.roles),
            address: admit.address.as_ref().map(ToString::to_string),
        }),
        MembershipCommand::CertifyNode { node, shown } => {
            To::CertifyNode(change::CertifyNode { node: node.0, shown: shown.map(|serial| serial.0) })
        }
        MembershipCommand::RemoveNode { node } => To::RemoveNode(change::RemoveNode { node: node.0 }),
        MembershipCommand::ForgetNode { node } => To::ForgetNode(change::ForgetNode { node: node.0 }),
    };
    MembershipChange { change: Some(change) }
}

pub(super) fn membership_from(message: MembershipChange) -> Result<MembershipCommand, ConvertError> {
    use change::Change as From;
    let change = message.change.ok_or_else(|| ConvertError::of("membership", "is unknown to this server"))?;
    let address = |text: &str| text.parse().map_err(|error| ConvertError::of("address", &error));
    Ok(match change {
        From::AdoptAuthority(adopt) => {
            MembershipCommand::AdoptAuthority { fingerprint: hash("fingerprint", &adopt.fingerprint)? }
        }
        From::SetAddress(set) => {
            MembershipCommand::SetAddress { node: NodeId(set.node), address: address(&set.address)? }
        }
        From::CreateToken(create) => MembershipCommand::CreateToken {
            token: hash("token", &create.token)?,
            roles: roles_from(&create.roles)?,
            ttl_ms: create.ttl_ms,
        },
        From::AdmitNode(admit) => MembershipCommand::AdmitNode(AdmitNode {
            token: hash("token", &admit.token)?,
            key: hash("key", &admit.key)?,
            name: admit.name.parse().map_err(|error| ConvertError::of("name", &error))?,
            roles: roles_from(&admit.roles)?,
            address: admit.address.as_deref().map(address).transpose()?,
        }),
        From::CertifyNode(certify) => MembershipCommand::CertifyNode {
            node: NodeId(certify.node),
            shown: certify.shown.map(CertificateSerial),
        },
        From::RemoveNode(remove) => MembershipCommand::RemoveNode { node: NodeId(remove.node) },
        From::ForgetNode(forget) => MembershipCommand::ForgetNode { node: NodeId(forget.node) },
    })
}
