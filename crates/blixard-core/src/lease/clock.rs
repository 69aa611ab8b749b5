//! Whether this machine's clock may be trusted with a lease (rule R9).
//!
//! A clock may be slewed: chrony's default allows 8 %, far more than the leases allow for. The kernel's
//! raw monotonic clock is not slewed, so the two are compared. The raw clock stands still while the
//! machine is suspended and the boot clock does not: a machine that was suspended is not trusted either.

use super::times::CLOCK_RATE_ERROR;
use crate::ports::{BootMillis, RawMillis};

/// The shortest time over which two rates are compared, in milliseconds: long enough for the error of
/// reading two clocks, one after the other, to be small beside 1 %.
const LEAST_SPAN_MS: u64 = 2000;

/// What reading two clocks one after the other may add, in milliseconds.
const READING_MS: u64 = 5;

/// Whether a clock may be trusted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trust {
    /// It is as steady as the leases need.
    #[default]
    Steady,
    /// It runs at another rate than the raw clock: nothing is renewed, granted or given up by it.
    Off,
}

/// Compares two clocks of a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ClockWatch {
    since: Option<(BootMillis, RawMillis)>,
    trust: Trust,
}

impl ClockWatch {
    /// Takes both clocks in, read one right after the other, and says whether the first may be trusted.
    pub fn observe(&mut self, boot: BootMillis, raw: RawMillis) -> Trust {
        let Some((boot_then, raw_then)) = self.since else {
            self.since = Some((boot, raw));
            return self.trust;
        };
        let (by_boot, by_raw) = (boot.since(boot_then), raw.0.saturating_sub(raw_then.0));
        let apart = by_boot.abs_diff(by_raw);
        if apart > by_raw.max(by_boot) / CLOCK_RATE_ERROR + READING_MS {
            (self.trust, self.since) = (Trust::Off, Some((boot, raw)));
        } else if by_raw >= LEAST_SPAN_MS {
            (self.trust, self.since) = (Trust::Steady, Some((boot, raw)));
        }
        self.trust
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Both clocks every 500 ms of the raw one, the boot clock at this rate in parts of a thousand.
    fn watched(rates: &[u64]) -> Vec<Trust> {
        let (mut watch, mut boot, mut raw) = (ClockWatch::default(), 0, 0);
        let mut seen = Vec::new();
        for rate in rates {
            seen.push(watch.observe(BootMillis(boot / 1000), RawMillis(raw)));
            (boot, raw) = (boot + 500 * rate, raw + 500);
        }
        seen
    }

    #[test]
    fn a_clock_within_one_percent_is_trusted() {
        for rate in [991, 1000, 1009] {
            assert_eq!(watched(&[rate; 60]), [Trust::Steady; 60], "{rate}");
        }
    }

    #[test]
    fn a_clock_that_is_slewed_is_not_trusted_until_it_is_steady_again() {
        let mut rates = vec![1000; 8];
        rates.extend([1083; 8]);
        rates.extend([1000; 12]);
        let seen = watched(&rates);
        assert!(seen[9..17].contains(&Trust::Off) && seen[16] == Trust::Off, "{seen:?}");
        assert_eq!(seen.last(), Some(&Trust::Steady));
    }

    #[test]
    fn a_machine_that_was_suspended_is_not_trusted_at_first() {
        let mut watch = ClockWatch::default();
        watch.observe(BootMillis(0), RawMillis(0));
        assert_eq!(watch.observe(BootMillis(100_000), RawMillis(500)), Trust::Off);
        assert_eq!(watch.observe(BootMillis(100_500), RawMillis(1000)), Trust::Off);
        assert_eq!(watch.observe(BootMillis(102_500), RawMillis(3000)), Trust::Steady);
    }
}
