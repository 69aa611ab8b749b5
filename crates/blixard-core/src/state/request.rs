//! The outcomes of the calls of the last minute, so that a call that is proposed twice changes the state once.
//!
//! Owns how long an outcome is remembered: by time, which is the leader's, in the command. Nothing is
//! forgotten early to make room: what does not fit is refused.

use std::collections::{BTreeMap, VecDeque};

use blixard_types::RequestId;
use serde::{Deserialize, Serialize};

use crate::apply::Rejection;
use crate::command::{Asker, Outcome};
use crate::ports::UnixMillis;

/// How long an outcome is remembered at least. A server asks for 8 s, and `blixard` waits for a server for
/// 30 s, so the last repetition of a call comes within 38.
pub const REQUESTS_KEPT_MS: u64 = 60_000;

/// How much later than it was stamped a command may stand in the log: a server asks for 8 s.
const LATE_MAX_MS: u64 = 10_000;

/// Outcomes kept at most: for a minute of 2,000 calls a second.
pub const REQUESTS_MAX: usize = 131_072;

/// Room beyond that for what the cluster asks itself, so that callers who ask too much do not keep a host
/// from being given up: as many as 100 hosts with 80 vms each.
const REQUESTS_RESERVED: usize = 8_192;

/// The outcomes of the newest calls.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RequestLog {
    /// Each call, with the clock when it was applied; in order.
    applied: VecDeque<(RequestId, u64)>,
    outcomes: BTreeMap<RequestId, Result<Outcome, Rejection>>,
    /// Milliseconds that have passed for sure: those between two commands of one leader. What passes
    /// from one leader to the next is not counted, because their clocks may differ; an outcome is then
    /// remembered for longer.
    clock: u64,
    /// The term of the command before, and the latest time of the commands of that term.
    before: Option<(u64, UnixMillis)>,
}

impl RequestLog {
    /// What the call came to, if it was applied not long ago.
    pub fn outcome(&self, request: RequestId) -> Option<&Result<Outcome, Rejection>> {
        self.outcomes.get(&request)
    }

    /// Goes on to a command of this term and time, and forgets what is old by then.
    pub(crate) fn advance(&mut self, term: u64, at: UnixMillis) {
        // The first command of a leader may be a late one, and the time before it came must not be counted.
        let mut latest = UnixMillis(at.0.saturating_add(LATE_MAX_MS));
        if let Some((before_term, before)) = self.before
            && before_term == term
        {
            self.clock = self.clock.saturating_add(at.since(before));
            // What comes late must not set the time back, or the way up again would be counted twice. What is older
            // than anything that comes late tells that the leader's clock was set back: it begins anew.
            if before.since(at) <= 2 * LATE_MAX_MS {
                latest = at.max(before);
            }
        }
        self.before = Some((term, latest));
        while let Some((oldest, applied)) = self.applied.front()
            && self.clock.saturating_sub(*applied) > REQUESTS_KEPT_MS
        {
            self.outcomes.remove(oldest);
            self.applied.pop_front();
        }
    }

    /// Whether there is no room for another.
    pub(crate) fn is_full(&self, asker: Asker) -> bool {
        let room = match asker {
            Asker::Caller => REQUESTS_MAX,
            Asker::Cluster => REQUESTS_MAX + REQUESTS_RESERVED,
        };
        self.applied.len() >= room
    }

    /// Remembers what a new call came to.
    pub(crate) fn remember(&mut self, request: RequestId, outcome: Result<Outcome, Rejection>) {
        if self.outcomes.insert(request, outcome).is_none() {
            self.applied.push_back((request, self.clock));
        }
    }
}

#[cfg(test)]
mod tests;
