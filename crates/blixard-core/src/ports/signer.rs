//! The node's own key.

use crate::signature::NodeKey;

/// Signs with the node's key, which nobody else sees.
pub trait Signer: Send + Sync + 'static {
    /// The public half.
    fn key(&self) -> NodeKey;

    /// An ed25519 signature of these bytes.
    fn sign(&self, bytes: &[u8]) -> [u8; 64];
}
