//! The times of a lease, and the inequalities that keep them safe.

use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// How far the rate of a clock may be off, as one part in this many (ρ = 0.01).
pub const CLOCK_RATE_ERROR: u64 = 100;

/// A round trip between two nodes that the times allow for, in milliseconds.
pub const ROUND_TRIP_MS: u64 = 50;

/// A pause of a daemon that the times allow for, in milliseconds.
pub const PAUSE_MS: u64 = 500;

/// The least G, in milliseconds: what the kernel and PID 1 took at worst in `fence_under_load` was 123 ms, after
/// the death of the holder; one that is stopped is ended 50 ms after its deadline.
pub const LEAST_GRACE_MS: u64 = 200;

/// Longest time in the configuration: a day.
const LONGEST_MS: u64 = 86_400_000;

/// How often a host asks, how long it may run what it was granted, and when it is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct LeaseTimes {
    /// Pause between two heartbeats of a host, in milliseconds.
    pub heartbeat_ms: u64,
    /// L: how long a lease lasts from the sending of its heartbeat, in milliseconds.
    pub lease_ms: u64,
    /// G: how long the kernel may take to end everything once a lease is over, in milliseconds.
    pub grace_ms: u64,
    /// W: how long a host is silent before it is given up, in milliseconds.
    pub silence_ms: u64,
    /// How often the leader looks, in milliseconds; also the room for rounding.
    pub tick_ms: u64,
    /// How long the servers take to have a leader again, in milliseconds.
    pub election_ms: u64,
}

/// Times that go together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// A vm is started elsewhere about 4.4 s after its host dies.
    Fast,
    /// About 9.5 s.
    #[default]
    Default,
    /// Under 45 s: for hosts far apart.
    Relaxed,
}

impl Profile {
    /// Its times.
    pub const fn times(self) -> LeaseTimes {
        match self {
            Self::Fast => LeaseTimes {
                heartbeat_ms: 300,
                lease_ms: 2000,
                grace_ms: 500,
                silence_ms: 2800,
                tick_ms: 100,
                election_ms: 400,
            },
            Self::Default => LeaseTimes {
                heartbeat_ms: 1000,
                lease_ms: 6000,
                grace_ms: 1000,
                silence_ms: 7500,
                tick_ms: 250,
                election_ms: 400,
            },
            Self::Relaxed => LeaseTimes {
                heartbeat_ms: 5000,
                lease_ms: 30_000,
                grace_ms: 5000,
                silence_ms: 37_000,
                tick_ms: 1000,
                election_ms: 4000,
            },
        }
    }
}

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        match text {
            "fast" => Ok(Self::Fast),
            "default" => Ok(Self::Default),
            "relaxed" => Ok(Self::Relaxed),
            _ => Err(UnknownProfile(text.to_owned())),
        }
    }
}

/// A word that names no profile.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no profile of leases; there are fast, default and relaxed")]
pub struct UnknownProfile(String);

impl Default for LeaseTimes {
    fn default() -> Self {
        Profile::Default.times()
    }
}

/// Why times cannot be used. Each says the numbers.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum TimesError {
    /// A time of nothing, or of days.
    #[error("{name} is {ms} ms, it must be between {least_ms} and {LONGEST_MS}")]
    OutOfRange { name: &'static str, ms: u64, least_ms: u64 },
    /// A host could be given up while it still runs.
    #[error(
        "a host is given up after {silence_ms} ms of silence, but a lease of {lease_ms} ms and a grace of {grace_ms} ms, \
         on clocks that are off by 1 % each, may last {lasts_ms} ms, and the leader looks every {tick_ms} ms: \
         it must be at least {least_ms} ms"
    )]
    Unsafe { silence_ms: u64, lease_ms: u64, grace_ms: u64, lasts_ms: u64, tick_ms: u64, least_ms: u64 },
    /// A lease would end although nothing is wrong.
    #[error(
        "a lease of {lease_ms} ms is too short for a heartbeat every {heartbeat_ms} ms: two heartbeats, an election \
         of {election_ms} ms, two round trips of {ROUND_TRIP_MS} ms and a pause of {PAUSE_MS} ms take {least_ms} ms"
    )]
    TooShort { lease_ms: u64, heartbeat_ms: u64, election_ms: u64, least_ms: u64 },
}

impl LeaseTimes {
    /// How long everything that a lease allows may go on after its heartbeat was sent, as a clock that is
    /// fast counts it while the host's is slow: (L + G)(1 + ρ)/(1 − ρ), rounded up.
    #[must_use]
    pub const fn lasts_ms(&self) -> u64 {
        let most = self.lease_ms.saturating_add(self.grace_ms);
        most.saturating_mul(CLOCK_RATE_ERROR + 1).div_ceil(CLOCK_RATE_ERROR - 1)
    }

    /// The least W that is safe.
    #[must_use]
    pub const fn least_silence_ms(&self) -> u64 {
        self.lasts_ms().saturating_add(self.tick_ms)
    }

    /// The least L with which nothing ends although nothing is wrong.
    #[must_use]
    pub const fn least_lease_ms(&self) -> u64 {
        let heartbeats = self.heartbeat_ms.saturating_mul(2);
        heartbeats.saturating_add(self.election_ms).saturating_add(2 * ROUND_TRIP_MS + PAUSE_MS)
    }

    /// Whether nothing can run twice, and nothing ends although nothing is wrong.
    ///
    /// # Errors
    /// The first of the rules that the times break.
    pub const fn check(&self) -> Result<(), TimesError> {
        let Self { heartbeat_ms, lease_ms, grace_ms, silence_ms, tick_ms, election_ms } = *self;
        if let Err(error) = in_range("the pause between heartbeats", heartbeat_ms, 1) {
            return Err(error);
        }
        if let Err(error) = in_range("the lease", lease_ms, 1) {
            return Err(error);
        }
        if let Err(error) = in_range("the grace", grace_ms, LEAST_GRACE_MS) {
            return Err(error);
        }
        if let Err(error) = in_range("the tick", tick_ms, 1) {
            return Err(error);
        }
        let (lasts_ms, least_ms) = (self.lasts_ms(), self.least_silence_ms());
        if silence_ms < least_ms {
            return Err(TimesError::Unsafe { silence_ms, lease_ms, grace_ms, lasts_ms, tick_ms, least_ms });
        }
        let least_ms = self.least_lease_ms();
        if lease_ms < least_ms {
            return Err(TimesError::TooShort { lease_ms, heartbeat_ms, election_ms, least_ms });
        }
        Ok(())
    }
}

const fn in_range(name: &'static str, ms: u64, least_ms: u64) -> Result<(), TimesError> {
    if ms < least_ms || ms > LONGEST_MS {
        return Err(TimesError::OutOfRange { name, ms, least_ms });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_profile_keeps_the_inequalities() {
        for profile in [Profile::Fast, Profile::Default, Profile::Relaxed] {
            assert_eq!(profile.times().check(), Ok(()), "{profile:?}");
        }
        assert_eq!("relaxed".parse(), Ok(Profile::Relaxed));
        insta::assert_snapshot!("slow".parse::<Profile>().unwrap_err(), @r#""slow" is no profile of leases; there are fast, default and relaxed"#);
    }

    #[test]
    fn times_that_break_a_rule_are_refused_with_their_numbers() {
        let mut times = LeaseTimes { silence_ms: 7000, ..LeaseTimes::default() };
        insta::assert_snapshot!(times.check().unwrap_err(), @"a host is given up after 7000 ms of silence, but a lease of 6000 ms and a grace of 1000 ms, on clocks that are off by 1 % each, may last 7142 ms, and the leader looks every 250 ms: it must be at least 7392 ms");
        times = LeaseTimes { lease_ms: 2500, ..LeaseTimes::default() };
        insta::assert_snapshot!(times.check().unwrap_err(), @"a lease of 2500 ms is too short for a heartbeat every 1000 ms: two heartbeats, an election of 400 ms, two round trips of 50 ms and a pause of 500 ms take 3000 ms");
        times = LeaseTimes { grace_ms: 0, ..LeaseTimes::default() };
        insta::assert_snapshot!(times.check().unwrap_err(), @"the grace is 0 ms, it must be between 200 and 86400000");
    }

    #[test]
    fn the_bounds_are_exact() {
        let times = LeaseTimes::default();
        let exactly = LeaseTimes { silence_ms: times.least_silence_ms(), ..times };
        assert_eq!(exactly.check(), Ok(()));
        assert!(LeaseTimes { silence_ms: exactly.silence_ms - 1, ..times }.check().is_err());
        assert_eq!(LeaseTimes { grace_ms: 200, ..times }.check(), Ok(()));
        assert!(LeaseTimes { grace_ms: 199, ..times }.check().is_err());
        let exactly = LeaseTimes { lease_ms: times.least_lease_ms(), ..times };
        assert_eq!(exactly.check(), Ok(()));
        assert!(LeaseTimes { lease_ms: exactly.lease_ms - 1, ..times }.check().is_err());
    }
}
