//! Time and randomness: the two inputs that make a run repeatable when they are handed in.

use serde::{Deserialize, Serialize};

/// An instant of wall-clock time, in milliseconds since the Unix epoch. For people and for backoff,
/// never for a lease.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Milliseconds from `earlier` to this, 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An instant of `CLOCK_BOOTTIME` of one machine, in milliseconds: it never jumps and counts suspend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct BootMillis(pub u64);

impl BootMillis {
    /// Milliseconds from `earlier` to this, 0 if it is not earlier.
    #[must_use]
    pub const fn since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

/// An instant of `CLOCK_MONOTONIC_RAW` of one machine, in milliseconds: nobody slews it, and it stands
/// still while the machine is suspended. Only to compare the boot clock with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct RawMillis(pub u64);

/// Tells the time.
pub trait Clock: Send + Sync + 'static {
    /// The wall clock.
    fn wall(&self) -> UnixMillis;
    /// The boot clock.
    fn boot(&self) -> BootMillis;
    /// The raw monotonic clock.
    fn raw(&self) -> RawMillis;
}

/// Draws random numbers.
pub trait Entropy: Send + Sync + 'static {
    /// 128 random bits, for an id.
    fn id(&self) -> [u8; 16];
}
