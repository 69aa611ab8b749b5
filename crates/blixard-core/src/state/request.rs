//! The outcomes of the newest calls, so that a call that is proposed twice changes the state once.

use std::collections::{BTreeMap, VecDeque};

use blixard_types::RequestId;
use serde::{Deserialize, Serialize};

use crate::apply::Rejection;
use crate::command::Outcome;

/// Outcomes kept. At a thousand calls a second that is four seconds, many times what a retry takes.
pub const REQUESTS_KEPT: usize = 4096;

/// The outcomes of the newest calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLog {
    order: VecDeque<RequestId>,
    outcomes: BTreeMap<RequestId, Result<Outcome, Rejection>>,
}

impl RequestLog {
    /// What the call came to, if it was applied not long ago.
    pub fn outcome(&self, request: RequestId) -> Option<&Result<Outcome, Rejection>> {
        self.outcomes.get(&request)
    }

    /// Remembers what a call came to, and forgets the oldest when there are too many.
    pub(crate) fn remember(&mut self, request: RequestId, outcome: Result<Outcome, Rejection>) {
        if self.outcomes.insert(request, outcome).is_some() {
            return;
        }
        self.order.push_back(request);
        if self.order.len() > REQUESTS_KEPT
            && let Some(oldest) = self.order.pop_front()
        {
            self.outcomes.remove(&oldest);
        }
    }
}
