//! What is said of connections in the journal: the same thing of the same one now and then, not each time.

use std::collections::BTreeMap;
use std::fmt::Display;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

/// How soon the same is said again.
const AGAIN_AFTER: Duration = Duration::from_mins(1);
/// Different things that are kept in mind; beyond that nothing new is said for a while.
const KEPT: usize = 256;

/// What was said lately, and when.
#[derive(Debug, Default)]
pub(super) struct Complaints(Mutex<BTreeMap<(String, String), Instant>>);

impl Complaints {
    /// Whether this is to be said of this one now.
    pub(super) fn is_due(&self, of: impl Display, what: impl Display) -> bool {
        let (key, now) = ((of.to_string(), what.to_string()), Instant::now());
        let mut said = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        said.retain(|_, at| now.duration_since(*at) < AGAIN_AFTER);
        if said.contains_key(&key) || said.len() >= KEPT {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_once_a_minute_and_anything_else_at_once() {
        let complaints = Complaints::default();
        assert!(complaints.is_due("n4", "removed") && !complaints.is_due("n4", "removed"));
        assert!(complaints.is_due("n5", "removed") && complaints.is_due("n4", "replaced"));
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(complaints.is_due("n4", "removed"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_thousand_callers_fill_no_journal() {
        let complaints = Complaints::default();
        let said = (0..1000).filter(|caller| complaints.is_due(caller, "not TLS")).count();
        assert_eq!(said, KEPT);
        tokio::time::advance(AGAIN_AFTER).await;
        assert!(complaints.is_due(1000, "not TLS"));
    }
}
