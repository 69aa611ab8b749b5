//! What a builder signs, and whether it has.
//!
//! The digest of a closure guards against peers that lie, not against who proposes it: a reference is
//! taken only with the signature of a node that builds. Verifying is a pure function; nothing is signed
//! here. Ed25519 (RFC 8032), verified strictly, so that all replicas agree on every signature.

use blixard_types::{DeploymentId, NodeId};
use ed25519_dalek::{Signature, VerifyingKey};
use serde::{Deserialize, Serialize};

use crate::command::VmDefinition;

/// What a statement begins with, so that no other signature is ever taken for one.
const DOMAIN: &[u8] = b"blixard-deployment-v1\0";

/// The public key by which a node signs what it has built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeKey(pub [u8; 32]);

/// A builder's signature of a deployment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BuilderSignature {
    /// Who has built.
    pub node: NodeId,
    /// The signature of [`statement`].
    pub signature: [u8; 64],
}

/// What a builder signs: the deployment, and for each vm its name, the root and the digest of its
/// closure, and its derivation. Texts are preceded by their length; numbers are u64, little-endian.
#[must_use]
pub fn statement(deployment: DeploymentId, vms: &[VmDefinition]) -> Vec<u8> {
    let mut out = DOMAIN.to_vec();
    out.extend(deployment.0);
    put_number(&mut out, vms.len() as u64);
    for vm in vms {
        put_text(&mut out, &vm.vm.to_string());
        put_text(&mut out, vm.closure.root.as_str());
        out.extend(vm.closure.nar_hash.0);
        out.extend(vm.closure.closure_digest.0);
        put_number(&mut out, vm.closure.path_count);
        put_number(&mut out, vm.closure.nar_size);
        put_text(&mut out, vm.drv.as_str());
    }
    out
}

fn put_number(out: &mut Vec<u8>, number: u64) {
    out.extend(number.to_le_bytes());
}

fn put_text(out: &mut Vec<u8>, text: &str) {
    put_number(out, text.len() as u64);
    out.extend(text.as_bytes());
}

/// Whether this key has signed this statement.
#[must_use]
pub fn verify(key: NodeKey, statement: &[u8], signature: &BuilderSignature) -> bool {
    let signature = Signature::from_bytes(&signature.signature);
    VerifyingKey::from_bytes(&key.0).is_ok_and(|key| key.verify_strict(statement, &signature).is_ok())
}
