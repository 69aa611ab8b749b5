//! Time and randomness of the machine, behind the ports.

use std::time::{SystemTime, UNIX_EPOCH};

use blixard_core::ports::{BootMillis, Clock, Entropy, RawMillis, UnixMillis};
use rustix::rand::{GetRandomFlags, getrandom};
use rustix::time::{ClockId, clock_gettime};

/// The machine's clocks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the clock adapter")]
    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(&self) -> BootMillis {
        BootMillis(read(ClockId::Boottime))
    }

    fn raw(&self) -> RawMillis {
        RawMillis(read(ClockId::MonotonicRaw))
    }
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default() * 1000 + nanos.unwrap_or_default() / 1_000_000
}

/// The kernel's random numbers.
#[derive(Debug, Clone, Copy)]
pub(crate) struct KernelEntropy;

impl Entropy for KernelEntropy {
    fn id(&self) -> [u8; 16] {
        let mut id = [0; 16];
        // 16 bytes from an initialised pool are given at once and whole (getrandom(2)); what can fail is
        // the call before the pool is initialised, and that one waits.
        while getrandom(&mut id, GetRandomFlags::empty()).is_err() {}
        id
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_does_not_go_back_and_ids_differ() {
        let first = SystemClock.boot();
        assert!(SystemClock.boot() >= first && SystemClock.wall() > UnixMillis(1_700_000_000_000));
        assert_ne!(KernelEntropy.id(), KernelEntropy.id());
    }
}
