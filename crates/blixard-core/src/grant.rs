//! Heartbeat and grant: how a host learns what it may run.
//!
//! A host asks (heartbeat `n`), a leader answers after a quorum round begun after receipt (grant `n`).
//! Assignments travel inside grants only. While the cluster has one host a grant has no deadline.

use blixard_types::{DaemonId, Epoch, GenerationNumber, Incarnation, NodeId, Revision, VmId};

use crate::assignment::AssignmentSet;

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
    /// What the host may run.
    pub content: GrantContent,
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
    /// It says "unchanged" to a host that holds nothing.
    #[error("it says that nothing has changed, but nothing is held")]
    NothingHeld,
}

/// The host's side: which grants are taken (rule R3 of the fencing protocol).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GrantGate {
    sent: u64,
    answered: u64,
    newest: Option<(Incarnation, Revision)>,
    held: Option<AssignmentSet>,
}

impl GrantGate {
    /// Counts a heartbeat and gives its number.
    pub fn next_heartbeat(&mut self) -> u64 {
        self.sent += 1;
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

    /// Takes a grant.
    ///
    /// # Errors
    /// When it is not an answer to an outstanding heartbeat of this daemon, or older than what is held;
    /// nothing changes then.
    pub fn take(&mut self, grant: Grant) -> Result<(), GrantRefusal> {
        if grant.n > self.sent || grant.n <= self.answered {
            return Err(GrantRefusal::OtherHeartbeat { n: grant.n, outstanding: self.sent });
        }
        let stamp = (grant.incarnation, grant.revision);
        if self.newest.is_some_and(|newest| stamp < newest) {
            return Err(GrantRefusal::Older { incarnation: grant.incarnation, revision: grant.revision });
        }
        match grant.content {
            GrantContent::Whole(set) => self.held = Some(set),
            GrantContent::Unchanged if self.held.is_none() => return Err(GrantRefusal::NothingHeld),
            GrantContent::Unchanged => {}
        }
        self.answered = grant.n;
        self.newest = Some(stamp);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grant(n: u64, revision: u64, content: GrantContent) -> Grant {
        let (incarnation, revision) = (Incarnation(1), Revision(revision));
        Grant { n, term: 1, incarnation, revision, lease_ms: None, content }
    }

    fn whole() -> GrantContent {
        GrantContent::Whole(AssignmentSet::default())
    }

    #[test]
    fn nothing_is_held_before_the_first_grant() {
        let mut gate = GrantGate::default();
        gate.next_heartbeat();
        assert_eq!(gate.assignments(), None);
        assert_eq!(gate.take(grant(1, 5, GrantContent::Unchanged)), Err(GrantRefusal::NothingHeld));
    }

    #[test]
    fn a_grant_must_answer_a_heartbeat_of_this_daemon_that_is_open() {
        let mut gate = GrantGate::default();
        assert!(gate.take(grant(1, 5, whole())).is_err(), "nothing was asked");
        gate.next_heartbeat();
        gate.take(grant(1, 5, whole())).unwrap();
        assert!(gate.take(grant(1, 5, whole())).is_err(), "answered twice");
        gate.next_heartbeat();
        gate.next_heartbeat();
        gate.take(grant(3, 5, GrantContent::Unchanged)).unwrap();
        assert!(gate.take(grant(2, 6, whole())).is_err(), "overtaken");
    }

    #[test]
    fn an_older_set_never_replaces_a_newer_one() {
        let mut gate = GrantGate::default();
        gate.next_heartbeat();
        gate.take(grant(1, 5, whole())).unwrap();
        gate.next_heartbeat();
        assert!(matches!(gate.take(grant(2, 4, whole())), Err(GrantRefusal::Older { .. })));
        let mut newer = grant(2, 4, whole());
        newer.incarnation = Incarnation(2);
        gate.take(newer).unwrap();
        assert_eq!(gate.holds(), Some((Incarnation(2), Revision(4))));
    }
}
