//! The encoding of what applying a command came to. It never is in the log: it goes back to the
//! proposer only.

use blixard_core::apply::Rejection;
use blixard_core::command::Outcome;

/// An outcome that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of a command cannot be read")]
pub struct OutcomeError(#[from] serde_json::Error);

/// Encodes an outcome.
///
/// # Errors
/// Never in practice: outcomes hold nothing that JSON cannot.
pub fn encode_outcome(outcome: &Result<Outcome, Rejection>) -> Result<Vec<u8>, OutcomeError> {
    Ok(serde_json::to_vec(outcome)?)
}

/// Decodes an outcome.
///
/// # Errors
/// When the bytes are none.
pub fn decode_outcome(bytes: &[u8]) -> Result<Result<Outcome, Rejection>, OutcomeError> {
    Ok(serde_json::from_slice(bytes)?)
}
