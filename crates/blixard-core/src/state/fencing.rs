//! What the log says of leases: whether hosts hold them, and how long they last.
//!
//! ```text
//! one host ── a second one is registered ──▶ required ── it leaves ──▶ one host
//!  no deadline         deadlines in all grants from here on; nothing is placed on a host
//!                      before every other one holds its lease (FenceArmed)
//! ```

use blixard_types::{Incarnation, NodeId, Revision};
use serde::{Deserialize, Serialize};

use super::ClusterState;
use crate::lease::{LeaseTimes, Profile};
use crate::ports::UnixMillis;

/// What the log says of leases.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Fencing {
    /// Since when there is more than one host: every grant from a state with this has a deadline.
    pub since: Option<Revision>,
    /// Whether a grant may ever have had a deadline.
    #[serde(default)]
    pub deadlines: Deadlines,
    /// How long leases last.
    pub times: LeaseTimes,
    /// How long they lasted before the last change, until none of those can be left.
    pub settling: Option<LeaseTimes>,
    /// The revision of that change.
    #[serde(default)]
    pub settling_since: Revision,
    /// The longest that a host was ever waited for, in milliseconds; 0 while that never changed.
    #[serde(default)]
    pub longest_silence_ms: u64,
    /// Whether a new incarnation waits for what the one before has granted to end.
    pub quarantine: Quarantine,
}

/// Whether a lease with an end can ever have been granted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deadlines {
    /// There was one host, always: whatever the times of leases become, none of other times can be left.
    #[default]
    NeverGranted,
    /// There were two hosts, at least once.
    Granted,
}

/// Whether placements wait for the leases of an earlier incarnation to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Quarantine {
    /// None is left.
    #[default]
    Over,
    /// Some may be left.
    Waiting,
}

/// Under whose leadership a command was proposed. It is refused under any other: what one leader knows of
/// a host's silence, the next one does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Authority {
    /// The cluster's incarnation.
    pub incarnation: Incarnation,
    /// The leader's term.
    pub term: u64,
}

/// Whether everything that may stop on a host stops when its lease ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// It runs no vms.
    None,
    /// It has been granted vms without a deadline, and has not said that it has one now.
    #[default]
    Open,
    /// It has only grants with a deadline, or has said that it holds one.
    Armed,
}

/// Whether a host is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Presence {
    /// As far as is known.
    #[default]
    Present,
    /// A person says that it is off. It is granted nothing; what may run there is waited for.
    DeclaredLost,
    /// Nothing that may stop runs there. It is granted nothing before the log says that it is back.
    Lost,
}

/// Whether vms are placed on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Admission {
    /// They are.
    #[default]
    Open,
    /// No new ones are; those that are there stay.
    Cordoned,
    /// No new ones are; those that are there are moved away, this many at a time.
    Draining {
        /// How many at a time.
        max_parallel: u32,
        /// When all that are left are stopped, whether they have a place elsewhere or not.
        #[serde(default)]
        deadline: Option<UnixMillis>,
    },
}

impl Fencing {
    /// Whether a lease of the present times may be held anywhere, by anybody's word.
    pub(crate) fn may_be_held(&self) -> bool {
        self.deadlines == Deadlines::Granted || self.quarantine == Quarantine::Waiting
    }

    /// What the next grant says of its deadline, in milliseconds.
    #[must_use]
    pub fn lease_ms(&self) -> Option<u64> {
        self.since.map(|_| self.times.lease_ms)
    }

    /// W: how long any lease that may have been granted can last, as the leader counts it (rule R12).
    #[must_use]
    pub fn silence_ms(&self) -> u64 {
        let before = self.settling.map_or(0, |times| times.silence_ms);
        self.times.silence_ms.max(before)
    }

    /// How long a new incarnation waits for what the one before has granted (rule R10): as long as any times that the
    /// state knows of would have it. It knows nothing of times that were set after the backup that it comes from.
    #[must_use]
    pub fn quarantine_ms(&self) -> u64 {
        self.silence_ms().max(self.longest_silence_ms)
    }

    /// The same when a server goes on alone with what it has. Its state may be as old as a copy can be, and know nothing
    /// of times that were set since: never shorter than with the longest of the profiles.
    #[must_use]
    pub fn recovery_quarantine_ms(&self) -> u64 {
        self.quarantine_ms().max(Profile::Relaxed.times().silence_ms)
    }
}

impl ClusterState {
    /// The machines that run vms, or are to.
    pub fn hosts(&self) -> impl Iterator<Item = NodeId> {
        self.nodes.iter().filter(|(_, node)| node.fence != Fence::None).map(|(&id, _)| id)
    }

    /// The hosts that may run something without a deadline, so that nothing may be placed beside them.
    pub fn unfenced(&self) -> impl Iterator<Item = NodeId> {
        let open = self.nodes.iter().filter(|(_, node)| node.fence == Fence::Open);
        open.filter(|(_, node)| node.presence != Presence::Lost).map(|(&id, _)| id)
    }
}
