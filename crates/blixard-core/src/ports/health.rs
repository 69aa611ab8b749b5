//! Whether something in a guest answers.

use blixard_types::spec::Check;

use super::BoxFuture;

/// A check that did not pass.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{check} did not pass: {reason}")]
pub struct CheckFailure {
    /// What was asked.
    pub check: String,
    /// What came instead.
    pub reason: String,
}

/// Asks guests.
pub trait HealthProbe: Send + Sync + 'static {
    /// Runs one check once; gives up after a few seconds.
    fn check(&self, check: Check) -> BoxFuture<'_, Result<(), CheckFailure>>;
}
