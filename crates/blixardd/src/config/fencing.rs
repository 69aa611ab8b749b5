//! `[fencing]`: how long a host that is cut off may run its vms, and when they are started elsewhere.

use std::time::Duration;

use blixard_core::lease::{LeaseTimes, Profile};
use blixard_raft::ElectionTiming;
use serde::Deserialize;

/// `[fencing]`: a profile, or a profile with times of one's own. Empty: what the cluster has already.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Fencing {
    /// Times that go together: fast, default or relaxed.
    pub(crate) profile: Option<Profile>,
    /// Pause between two heartbeats of a host.
    pub(crate) heartbeat_ms: Option<u64>,
    /// L: how long a host may run its vms after its last heartbeat that was answered.
    pub(crate) lease_ms: Option<u64>,
    /// G: how long the kernel may take to end everything then.
    pub(crate) grace_ms: Option<u64>,
    /// W: how long a host is silent before its vms are started elsewhere.
    pub(crate) silence_ms: Option<u64>,
    /// How often the leader looks.
    pub(crate) tick_ms: Option<u64>,
}

impl Fencing {
    /// The times that the cluster is to have; none if it keeps those that it has.
    pub(crate) fn times(&self) -> Option<LeaseTimes> {
        if *self == Self::default() {
            return None;
        }
        let usual = self.profile.unwrap_or_default().times();
        Some(LeaseTimes {
            heartbeat_ms: self.heartbeat_ms.unwrap_or(usual.heartbeat_ms),
            lease_ms: self.lease_ms.unwrap_or(usual.lease_ms),
            grace_ms: self.grace_ms.unwrap_or(usual.grace_ms),
            silence_ms: self.silence_ms.unwrap_or(usual.silence_ms),
            tick_ms: self.tick_ms.unwrap_or(usual.tick_ms),
            election_ms: usual.election_ms,
        })
    }

    /// How leaders are chosen and lost: servers that are far apart take their time.
    pub(crate) fn elections(&self) -> ElectionTiming {
        match self.profile.unwrap_or_default() {
            Profile::Fast | Profile::Default => ElectionTiming::default(),
            Profile::Relaxed => ElectionTiming {
                heartbeat: Duration::from_millis(100),
                timeout_min: Duration::from_secs(1),
                timeout_max: Duration::from_secs(2),
            },
        }
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let times = self.times()?;
        times.check().err().map(|error| ("fencing", error.to_string()))
    }
}
