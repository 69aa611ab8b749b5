//! Why a node has stopped for good: set once, by whoever fails first.
//!
//! Knows nothing of what failed. openraft reports a failure of the store in its own words; this
//! keeps ours.

use std::io;
use std::sync::{Arc, OnceLock};

use blixard_types::chain;

/// The first failure that a node cannot live with. Shared by those who can fail and those who tell.
#[derive(Debug, Clone, Default)]
pub(crate) struct StopCause(Arc<OnceLock<String>>);

impl StopCause {
    /// Records the failure, unless one came before; says so to the operator.
    fn set(&self, error: &(dyn std::error::Error + 'static)) {
        let reason = chain(error);
        if self.0.set(reason.clone()).is_ok() {
            tracing::error!(%reason, "the consensus node stops");
        }
    }

    /// Records the failure, and gives it in the form that openraft takes.
    pub(crate) fn fail(&self, error: &(dyn std::error::Error + 'static)) -> io::Error {
        self.set(error);
        io::Error::other(chain(error))
    }

    /// The failure, if there was one.
    pub(crate) fn get(&self) -> Option<&str> {
        self.0.get().map(String::as_str)
    }

    /// The failure, or else what openraft says.
    pub(crate) fn or(&self, fallback: &dyn std::fmt::Display) -> String {
        self.get().map_or_else(|| fallback.to_string(), str::to_owned)
    }
}
