//! What the daemon tells the holder of a host's lease, and what the holder tells whoever looks.
//!
//! The holder is a process of its own, so that a daemon that hangs cannot keep it from its duty. Orders are
//! datagrams with an absolute instant of `CLOCK_BOOTTIME`: one that is late is not a longer lease.

use std::fmt;
use std::num::ParseIntError;
use std::str::FromStr;

use crate::Epoch;

/// Where the holder listens.
pub const HOLDER_SOCKET: &str = "/run/blixard-lease/socket";
/// Where the holder writes which lease it holds, and until when.
pub const HOLDER_STATUS: &str = "/run/blixard-lease/status";
/// The cgroup of everything that stops when the lease is over.
pub const FENCED_CGROUP: &str = "/sys/fs/cgroup/blixard.slice";
/// The environment variable that says under which lease a unit was started.
pub const ENV_LEASE: &str = "BLIXARD_LEASE";

/// Where a host says which epochs are over there: a file for each vm, named like its run unit, with the newest
/// of them. Empty after a boot, when nothing runs.
pub const EPOCHS_DIR: &str = "/run/blixard-epochs";
/// The file there that is made when a lease is held for the first time: what was to start without one, while
/// the machine was alone, does not start any more.
pub const EPOCHS_LEASED: &str = "leased";

/// The newest epoch that is over, as the file says; it is written by [`Epoch`]'s `Display`.
///
/// # Errors
/// When the text is no number: it is not taken for none.
pub fn epoch_over(mark: &str) -> Result<Epoch, ParseIntError> {
    mark.trim_end().parse().map(Epoch)
}

/// Under what a vm's program is executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StartUnder {
    /// Under this lease, if it is held then.
    Lease(LeaseName),
    /// It goes on in a partition, and needs none.
    Kept,
    /// The machine is alone and was never fenced.
    Alone,
}

impl fmt::Display for StartUnder {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Lease(lease) => write!(out, "lease={lease}"),
            Self::Kept => out.write_str("kept"),
            Self::Alone => out.write_str("alone"),
        }
    }
}

/// A text that is no [`StartUnder`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `lease=NAME`, `kept` or `alone`")]
pub struct NoStartUnder;

impl FromStr for StartUnder {
    type Err = NoStartUnder;

    fn from_str(text: &str) -> Result<Self, NoStartUnder> {
        match text {
            "kept" => Ok(Self::Kept),
            "alone" => Ok(Self::Alone),
            _ => {
                let lease = text.strip_prefix("lease=").ok_or(NoStartUnder)?;
                Ok(Self::Lease(LeaseName(lease.to_owned())))
            }
        }
    }
}

/// The name of a lease: each holder that begins has another one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct LeaseName(pub String);

impl fmt::Display for LeaseName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

/// Until when everything may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until this instant of `CLOCK_BOOTTIME`, in milliseconds.
    At(u64),
    /// Without an end: the host is the only one again.
    Endless,
}

impl Until {
    /// What holds after an order, if this held before. Orders may be late, so an instant is never taken
    /// back by an earlier one; a lease that had no end gets one.
    #[must_use]
    pub const fn and_then(self, order: Self) -> Self {
        match (self, order) {
            (Self::At(before), Self::At(after)) if before > after => self,
            _ => order,
        }
    }

    /// Whether it holds at this instant.
    #[must_use]
    pub const fn holds_at(self, now: u64) -> bool {
        match self {
            Self::At(deadline) => now < deadline,
            Self::Endless => true,
        }
    }
}

/// A text that is no order.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected `until MILLISECONDS` or `endless`")]
pub struct NoOrder;

impl fmt::Display for Until {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(deadline) => write!(out, "until {deadline}"),
            Self::Endless => out.write_str("endless"),
        }
    }
}

impl FromStr for Until {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        if text == "endless" {
            return Ok(Self::Endless);
        }
        let deadline = text.strip_prefix("until ").ok_or(NoOrder)?;
        deadline.parse().map(Self::At).map_err(|_| NoOrder)
    }
}

/// Which lease a holder holds, as its status file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HolderStatus {
    /// The lease: another one after every lapse.
    pub lease: String,
    /// Until when.
    pub until: Until,
}

impl fmt::Display for HolderStatus {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{} {}", self.lease, self.until)
    }
}

impl FromStr for HolderStatus {
    type Err = NoOrder;

    fn from_str(text: &str) -> Result<Self, NoOrder> {
        let (lease, until) = text.trim_end().split_once(' ').ok_or(NoOrder)?;
        Ok(Self { lease: lease.to_owned(), until: until.parse()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_reads_back_as_it_was_and_nothing_else_is_one() {
        for until in [Until::At(0), Until::At(u64::MAX), Until::Endless] {
            assert_eq!(until.to_string().parse(), Ok(until));
            let status = HolderStatus { lease: "7-1".to_owned(), until };
            assert_eq!(status.to_string().parse(), Ok(status));
        }
        for text in ["", "until", "until ", "until x", "until -1", "until 18446744073709551616", "endless "] {
            assert_eq!(text.parse::<Until>(), Err(NoOrder), "{text:?}");
        }
    }

    #[test]
    fn under_what_something_starts_reads_back_as_it_was() {
        let lease = StartUnder::Lease(LeaseName("kept".to_owned()));
        for under in [lease, StartUnder::Kept, StartUnder::Alone] {
            assert_eq!(under.to_string().parse(), Ok(under));
        }
        assert_eq!("7-1".parse::<StartUnder>(), Err(NoStartUnder));
    }

    #[test]
    fn a_late_order_does_not_shorten_a_lease_and_one_without_an_end_gets_one() {
        let (early, late) = (Until::At(5), Until::At(9));
        assert_eq!(late.and_then(early), late);
        assert_eq!(early.and_then(late), late);
        assert_eq!(late.and_then(Until::Endless), Until::Endless);
        assert_eq!(Until::Endless.and_then(early), early);
        assert!(early.holds_at(4) && !early.holds_at(5) && Until::Endless.holds_at(u64::MAX));
    }
}
