//! Who asks, as one node tells another of its own users: beside a call, in its metadata.

use blixard_core::principal::Principal;
use blixard_types::NodeId;
use tonic::metadata::{Ascii, MetadataMap, MetadataValue};

/// The metadata key.
pub const PRINCIPAL: &str = "blixard-principal";

/// The value for a user, `node/uid`; only users are told of.
#[must_use]
pub fn principal_value(principal: Principal) -> Option<MetadataValue<Ascii>> {
    let Principal::User { node, uid } = principal else { return None };
    format!("{node}/{uid}").parse().ok()
}

/// Whom a call says that it is for; none if it says nothing of it.
///
/// # Errors
/// When what it says is not of the form `node/uid`.
pub fn told_principal(metadata: &MetadataMap) -> Result<Option<Principal>, tonic::Status> {
    let Some(value) = metadata.get(PRINCIPAL) else { return Ok(None) };
    let told = value.to_str().ok().and_then(|text| {
        let (node, uid) = text.split_once('/')?;
        Some(Principal::User { node: NodeId(node.parse().ok()?), uid: uid.parse().ok()? })
    });
    told.map(Some).ok_or_else(|| tonic::Status::invalid_argument(format!("{PRINCIPAL}: expected `node/uid`")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_arrives_as_it_was_told_and_nobody_else_is_told_of() {
        let mut metadata = MetadataMap::new();
        assert_eq!(told_principal(&metadata).unwrap(), None);
        let user = Principal::User { node: NodeId(12), uid: 1000 };
        metadata.insert(PRINCIPAL, principal_value(user).unwrap());
        assert_eq!(told_principal(&metadata).unwrap(), Some(user));
        for other in ["", "12", "12/", "/1000", "a/1", "1/-1", "1/1/1"] {
            metadata.insert(PRINCIPAL, other.parse().unwrap());
            assert!(told_principal(&metadata).is_err(), "{other}");
        }
        assert!(principal_value(Principal::TokenHolder).is_none());
    }
}
