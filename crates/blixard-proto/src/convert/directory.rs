//! The list of nodes, for those that hold no copy of the state.

use blixard_core::directory::{Directory, Listed};
use blixard_types::{CertificateSerial, NodeId, Sha256Hash};
use prost::Message as _;

use super::membership::roles_to;
use super::{ConvertError, node_address, node_name, roles_from};
use crate::v1::{ListedNode, NodeDirectory};

/// A list for the wire, and its digest: two lists with the same one are the same.
#[must_use]
pub fn directory_to(directory: &Directory) -> (NodeDirectory, Sha256Hash) {
    let listed = |(id, node): (&NodeId, &Listed)| ListedNode {
        node: id.0,
        name: node.name.to_string(),
        roles: roles_to(&node.roles),
        address: node.address.as_ref().map(ToString::to_string),
        certificates: node.certificates.iter().map(|serial| serial.0).collect(),
    };
    let message = NodeDirectory {
        nodes: directory.nodes.iter().map(listed).collect(),
        highest_node: directory.highest_node.0,
        highest_serial: directory.highest_serial.0,
    };
    let digest = Sha256Hash::of(&message.encode_to_vec());
    (message, digest)
}

/// A list from the wire.
///
/// # Errors
/// When a field is not what it should be.
pub fn directory_from(message: NodeDirectory) -> Result<Directory, ConvertError> {
    let listed = |node: ListedNode| {
        let listed = Listed {
            name: node_name(&node.name)?,
            roles: roles_from(&node.roles)?,
            address: node.address.as_deref().map(node_address).transpose()?,
            certificates: node.certificates.into_iter().map(CertificateSerial).collect(),
        };
        Ok((NodeId(node.node), listed))
    };
    Ok(Directory {
        nodes: message.nodes.into_iter().map(listed).collect::<Result<_, ConvertError>>()?,
        highest_node: NodeId(message.highest_node),
        highest_serial: CertificateSerial(message.highest_serial),
    })
}

#[cfg(test)]
mod tests {
    use blixard_core::state::Role;

    use super::*;

    #[test]
    fn a_list_arrives_as_it_was_sent_and_its_digest_tells_it_from_another() {
        let server = Listed {
            name: "alpha".parse().unwrap(),
            roles: [Role::Server, Role::Host].into(),
            address: Some("alpha:7440".parse().unwrap()),
            certificates: [CertificateSerial(3), CertificateSerial(9)].into(),
        };
        let host = Listed {
            name: "beta".parse().unwrap(),
            roles: [Role::Host].into(),
            address: None,
            ..server.clone()
        };
        let directory = Directory {
            nodes: [(NodeId(1), server), (NodeId(7), host)].into(),
            highest_node: NodeId(8),
            highest_serial: CertificateSerial(11),
        };
        let (message, digest) = directory_to(&directory);
        assert_eq!(directory_from(message).unwrap(), directory);
        let other = Directory { highest_serial: CertificateSerial(12), ..directory };
        assert_ne!(directory_to(&other).1, digest);
    }
}
