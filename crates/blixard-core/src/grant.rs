//! Heartbeat and grant: how a host learns what it may run.
//!
//! A host asks (heartbeat `n`), a leader answers after a quorum round begun after receipt (grant `n`).
//! Assignments travel inside grants only. While the cluster has one host a grant has no deadline; the rules
//! of those that have one are in [`crate::lease`], the host's part of them is [`GrantGate`].

use std::collections::BTreeMap;

use blixard_types::{DaemonId, Epoch, GenerationNumber, Incarnation, NodeId, Revision, VmId};

use crate::assignment::AssignmentSet;
use crate::lease::LeaseTimes;
use crate::ports::BootMillis;

/// Heartbeats that may wait for their answers; an answer to an older one is late anyhow.
const HEARTBEATS_OPEN: usize = 256;

/// A host asks for its assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heartbeat {
    /// The host.
    pub node: NodeId,
    /// The kernel's boot id.
    pub boot: String,
    /// The daemon.
    pub daemon: DaemonId,
    /// Counts this daemon's heartbeats from 1.
    pub n: u64,
    /// What runs there.
    pub running: Vec<RunningVm>,
    /// The incarnation and revision of the newest set it holds.
    pub holds: Option<(Incarnation, Revision)>,
    /// The revision of the grant whose deadline everything there that may stop obeys; absent if there is
    /// none.
    pub fenced_by: Option<Revision>,
}

/// A vm that runs on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunningVm {
    /// The vm.
    pub vm: VmId,
    /// The placement it was started for.
    pub epoch: Epoch,
    /// What it runs.
    pub generation: GenerationNumber,
}

/// A leader's answer to one heartbeat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The heartbeat it answers.
    pub n: u64,
    /// The leader's term.
    pub term: u64,
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// The revision of the state it was made from.
    pub revision: Revision,
    /// For how long from the *sending* of the heartbeat, in milliseconds; absent while there is one
    /// host.
    pub lease_ms: Option<u64>,
    /// The other times of leases, as far as the host keeps them.
    pub pace: Pace,
    /// What the host may run.
    pub content: GrantContent,
}

/// How often a host asks, and how long it may take to end everything.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// Pause between two heartbeats, in milliseconds.
    pub heartbeat_ms: u64,
    /// G: how long the kernel may take to end everything once a lease is over, in milliseconds.
    pub grace_ms: u64,
}

impl Default for Pace {
    fn default() -> Self {
        Self::of(&LeaseTimes::default())
    }
}

impl Pace {
    /// That of these times.
    #[must_use]
    pub const fn of(times: &LeaseTimes) -> Self {
        Self { heartbeat_ms: times.heartbeat_ms, grace_ms: times.grace_ms }
    }
}

/// What a grant says of the assignments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GrantContent {
    /// The whole set.
    Whole(AssignmentSet),
    /// What the host holds, of the revision named in its heartbeat, is still true.
    Unchanged,
}

/// Why a host does not take a grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantRefusal {
    /// It answers a heartbeat that this daemon has not sent, or has had answered.
    #[error("it answers heartbeat {n}, the outstanding one is {outstanding}")]
    OtherHeartbeat {
        /// The heartbeat it answers.
        n: u64,
        /// The newest one that has been sent.
        outstanding: u64,
    },
    /// It is older than what the host holds.
    #[error("it is of incarnation {incarnation} revision {revision}, which is older than what is held")]
    Older {
        /// Its incarnation.
        incarnation: Incarnation,
        /// Its revision.
        revision: Revision,
    },
    /// The lease that it gives was over before it came.
    #[error("its lease was over {by_ms} ms before it came")]
    Late {
        /// How late it is, in milliseconds.
        by_ms: u64,
    },
    /// It says "unchanged" to a host that holds nothing.
    #[error("it says that nothing has changed, but nothing is held")]
    NothingHeld,
}

/// Until when a host may run what it was granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Term {
    /// Nothing has been granted to this daemon.
    #[default]
    Nothing,
    /// Without an end: it is the only host.
    Endless,
    /// Until this instant; then everything that may stop is killed.
    Until(BootMillis),
}

/// The host's side: which grants are taken, and until when they hold (rule R3 of the fencing protocol).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrantGate {
    sent: u64,
    /// When the heartbeats that are not answered were sent; read before the sending began.
    sent_at: BTreeMap<u64, BootMillis>,
    answered: u64,
    newest: Option<(Incarnation, Revision)>,
    held: Option<AssignmentSet>,
    term: Term,
}

impl GrantGate {
    /// Counts a heartbeat that is about to be sent, and gives its number. `now` is read before it is sent:
    /// the lease it may bring runs from then.
    pub fn next_heartbeat(&mut self, now: BootMillis) -> u64 {
        self.sent += 1;
        self.sent_at.insert(self.sent, now);
        if self.sent_at.len() > HEARTBEATS_OPEN {
            self.sent_at.pop_first();
        }
        self.sent
    }

    /// The incarnation and revision of the set that is held.
    pub fn holds(&self) -> Option<(Incarnation, Revision)> {
        self.newest.filter(|_| self.held.is_some())
    }

    /// The assignments that are held; `None` before the first grant.
    pub fn assignments(&self) -> Option<&AssignmentSet> {
        self.held.as_ref()
    }

    /// Until when they hold.
    pub fn term(&self) -> Term {
        self.term
    }

    /// Whether something may be started now because of what is held.
    pub fn may_start(&self, now: BootMillis) -> bool {
        match self.term {
            Term::Nothing => false,
            Term::Endless => true,
            Term::Until(deadline) => now < deadline,
        }
    }

    /// Takes a grant that is looked at `now`, and gives the new end of what is held.
    ///
    /// # Errors
    /// When it is not an answer to an outstanding heartbeat of this daemon, older than what is held, or too
    /// late; nothing changes then.
    pub fn take(&mut self, grant: Grant, now: BootMillis) -> Result<Term, GrantRefusal> {
        let sent_at = self.sent_at.get(&grant.n).filter(|_| grant.n > self.answered);
        let Some(&sent_at) = sent_at else {
            return Err(GrantRefusal::OtherHeartbeat { n: grant.n, outstanding: self.sent });
        };
        let stamp = (grant.incarnation, grant.revision);
        if self.newest.is_some_and(|newest| stamp < newest) {
            return Err(GrantRefusal::Older { incarnation: grant.incarnation, revision: grant.revision });
        }
        let term = match grant.lease_ms {
            None => Term::Endless,
            Some(lease_ms) => {
                let until = BootMillis(sent_at.0.saturating_add(lease_ms));
                if until <= now {
                    return Err(GrantRefusal::Late { by_ms: now.since(until) });
                }
                match self.term {
                    Term::Until(before) => Term::Until(until.max(before)),
                    Term::Nothing | Term::Endless => Term::Until(until),
                }
            }
        };
        match grant.content {
            GrantContent::Whole(set) => self.held = Some(set),
            GrantContent::Unchanged if self.held.is_none() => return Err(GrantRefusal::NothingHeld),
            GrantContent::Unchanged => {}
        }
        self.answered = grant.n;
        self.sent_at.retain(|&n, _| n > grant.n);
        self.newest = Some(stamp);
        self.term = term;
        Ok(term)
    }
}

#[cfg(test)]
mod tests;
