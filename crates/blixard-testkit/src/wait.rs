//! Waiting for the real world: poll with a deadline, and say what was last seen.
//!
//! The one place of the test kit that sleeps.

#![allow(
    clippy::disallowed_methods,
    reason = "test hosts live in real time; the simulated cluster has its own clock"
)]

use std::time::{Duration, Instant};

const POLL: Duration = Duration::from_millis(50);

/// What a poll saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// It is as wanted.
    Done(T),
    /// Not yet; in words, what there is instead.
    Instead(String),
}

/// Polls until `look` sees what is waited for.
///
/// # Errors
/// When the deadline passes, with what was last seen instead; or when `look` itself fails.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> anyhow::Result<Seen<T>>,
) -> anyhow::Result<T> {
    let begun = Instant::now();
    loop {
        let instead = match look()? {
            Seen::Done(value) => return Ok(value),
            Seen::Instead(instead) => instead,
        };
        if begun.elapsed() >= limit {
            anyhow::bail!("waited {} s for {what}; last seen: {instead}", limit.as_secs());
        }
        std::thread::sleep(POLL);
    }
}

/// How long `work` took, with what it gave.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let begun = Instant::now();
    let value = work();
    (value, begun.elapsed())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_ends_with_what_it_waited_for() {
        let mut polls = 0;
        let value = until("three polls", Duration::from_secs(10), || {
            polls += 1;
            Ok(if polls == 3 { Seen::Done(polls) } else { Seen::Instead(polls.to_string()) })
        });
        assert_eq!(value.unwrap(), 3);
    }

    #[test]
    fn a_wait_in_vain_says_what_was_seen_instead() {
        let error =
            until::<()>("a unit", Duration::ZERO, || Ok(Seen::Instead("activating".into()))).unwrap_err();
        assert_eq!(error.to_string(), "waited 0 s for a unit; last seen: activating");
    }
}
