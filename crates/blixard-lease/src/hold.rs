//! The holder: orders in, a deadline, and the kill.
//!
//! ```text
//! begin ─ first order ─▶ holding ─ deadline ─▶ kill, end
//!   │                      │ ▲ later orders     (50 ms after it the kernel kills a holder that was stopped;
//!   └ systemd gives up     └─┘                   its death makes PID 1 fence)
//! ```

use std::fs;
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use blixard_types::holder::{HolderStatus, Until};
use nix::sys::mman::{MlockAllFlags, mlockall};
use nix::sys::signal::{SigEvent, SigevNotify, Signal};
use nix::sys::time::TimeSpec;
use nix::sys::timer::{Expiration, Timer, TimerSetTimeFlags};
use nix::time::ClockId;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};

use crate::fence;
use crate::notify::say;

/// How long after the deadline the kernel ends a holder that has not ended by itself.
const KERNEL_AFTER_MS: u64 = 50;

/// How often systemd is told that the holder is alive; well within the unit's `WatchdogSec=`.
const ALIVE_EVERY: Timespec = Timespec { tv_sec: 2, tv_nsec: 0 };

/// Longest order.
const ORDER_MAX_BYTES: usize = 64;

/// The lease is over, and everything was killed.
#[derive(Debug)]
pub(crate) struct Lapsed;

/// What the holder works with.
#[derive(Debug)]
pub(crate) struct Paths<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) status: &'a Path,
    pub(crate) fenced: &'a Path,
}

/// Why the holder could not begin, or could not go on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HoldError {
    /// A file or the socket.
    #[error("{}: {cause}", .path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The kernel's timers.
    #[error("the kernel gives no timer: {0}")]
    Timer(io::Error),
    /// The kill.
    #[error(transparent)]
    Fence(#[from] fence::FenceError),
}

/// `CLOCK_BOOTTIME` in milliseconds, rounded down.
pub(crate) fn now_ms() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or_default();
    seconds.saturating_mul(1000).saturating_add(u64::try_from(now.tv_nsec).unwrap_or_default() / 1_000_000)
}

/// Gives a holder an order.
pub(crate) fn tell(socket: &Path, order: Until) -> io::Result<()> {
    UnixDatagram::unbound()?.send_to(order.to_string().as_bytes(), socket).map(drop)
}

/// Holds the lease until it is over.
pub(crate) fn hold(paths: &Paths) -> Result<Lapsed, HoldError> {
    // Without the right to lock memory it is less safe from a machine that swaps, and still of use.
    if let Err(error) = mlockall(MlockAllFlags::MCL_CURRENT | MlockAllFlags::MCL_FUTURE) {
        say(&format!("STATUS=memory is not locked: {error}"));
    }
    let socket = bind(paths.socket)?;
    let mut holder = Holder::new(paths)?;
    loop {
        let mut waited = [PollFd::new(&socket, PollFlags::IN), PollFd::new(&holder.alarm, PollFlags::IN)];
        match poll(&mut waited, Some(&ALIVE_EVERY)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(HoldError::Timer(error.into())),
        }
        // The deadline comes first, whatever else there is to do.
        if holder.until.is_some_and(|until| !until.holds_at(now_ms())) {
            fence::kill_all(paths.fenced)?;
            return Ok(Lapsed);
        }
        say("WATCHDOG=1");
        let mut bytes = [0; ORDER_MAX_BYTES];
        while let Ok(length) = socket.recv(&mut bytes) {
            let text = bytes.get(..length).and_then(|bytes| std::str::from_utf8(bytes).ok());
            // What is no order is none of ours.
            if let Some(order) = text.and_then(|text| text.parse().ok()) {
                holder.take(order)?;
            }
        }
    }
}

fn bind(path: &Path) -> Result<UnixDatagram, HoldError> {
    let file = |cause| HoldError::File { path: path.to_owned(), cause };
    match fs::remove_file(path) {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => return Err(file(cause)),
        _ => {}
    }
    let socket = UnixDatagram::bind(path).map_err(file)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).map_err(file)?;
    socket.set_nonblocking(true).map_err(file)?;
    Ok(socket)
}

struct Holder<'a> {
    paths: &'a Paths<'a>,
    /// Which lease this is: no other holder of this boot begins at the same instant as the same process.
    lease: String,
    until: Option<Until>,
    alarm: std::os::fd::OwnedFd,
    /// Kills this process if it does not end by itself.
    executioner: Timer,
}

impl<'a> Holder<'a> {
    fn new(paths: &'a Paths<'a>) -> Result<Self, HoldError> {
        let timer = |error: rustix::io::Errno| HoldError::Timer(error.into());
        let alarm = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC);
        let kill = SigevNotify::SigevSignal { signal: Signal::SIGKILL, si_value: 0 };
        let executioner = Timer::new(ClockId::CLOCK_BOOTTIME, SigEvent::new(kill));
        Ok(Self {
            paths,
            lease: format!("{}-{}", now_ms(), std::process::id()),
            until: None,
            alarm: alarm.map_err(timer)?,
            executioner: executioner.map_err(|error| HoldError::Timer(error.into()))?,
        })
    }

    /// Takes an order, unless its time is over already.
    fn take(&mut self, order: Until) -> Result<(), HoldError> {
        if !order.holds_at(now_ms()) {
            return Ok(());
        }
        let first = self.until.is_none();
        let until = self.until.map_or(order, |before| before.and_then(order));
        if self.until != Some(until) {
            self.arm(until)?;
            self.until = Some(until);
            // Whoever reads the old word starts less than is allowed, or nothing. A holder that ended for the
            // want of a page, which a guest may cause, would end every vm.
            match self.publish(until) {
                Err(error) if !first => {
                    say(&format!("STATUS=the lease is held, but nobody is told: {error}"));
                }
                published => {
                    published?;
                }
            }
        }
        if first {
            say("READY=1");
        }
        Ok(())
    }

    /// Sets both timers; a time of nothing unsets them.
    fn arm(&mut self, until: Until) -> Result<(), HoldError> {
        let (alarm, kill) = match until {
            Until::At(deadline) => (deadline, deadline.saturating_add(KERNEL_AFTER_MS)),
            Until::Endless => (0, 0),
        };
        // The kernel's first: whatever happens between the two, one of them is armed.
        let kill = TimeSpec::from_duration(Duration::from_millis(kill));
        let flags = TimerSetTimeFlags::TFD_TIMER_ABSTIME;
        let set = self.executioner.set(Expiration::OneShot(kill), flags);
        set.map_err(|error| HoldError::Timer(error.into()))?;
        let alarm = Duration::from_millis(alarm);
        let value = Timespec {
            tv_sec: i64::try_from(alarm.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: alarm.subsec_nanos().into(),
        };
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let timer = Itimerspec { it_interval: never, it_value: value };
        let set = timerfd_settime(self.alarm.as_fd(), TimerfdTimerFlags::ABSTIME, &timer);
        set.map(drop).map_err(|error| HoldError::Timer(error.into()))
    }

    /// Says which lease is held, and until when. Whoever reads the file sees the old word or the new one.
    fn publish(&self, until: Until) -> Result<(), HoldError> {
        let new = self.paths.status.with_extension("new");
        let file = |cause| HoldError::File { path: new.clone(), cause };
        let status = HolderStatus { lease: self.lease.clone(), until };
        fs::write(&new, status.to_string()).map_err(file)?;
        fs::set_permissions(&new, fs::Permissions::from_mode(0o644)).map_err(file)?;
        fs::rename(&new, self.paths.status).map_err(file)
    }
}

#[cfg(test)]
mod tests;
