//! Consoles in memory.
//!
//! Owns: what tests print for units, and who follows. Refuses to know: time; each line comes with
//! its own.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::journal::{Journal, JournalError, LogLine, LogLines, LogQuery};
use blixard_core::ports::{BoxFuture, UnixMillis};
use blixard_types::unit::RunUnitName;
use futures_util::{StreamExt, stream};
use tokio::sync::mpsc;

/// Consoles in memory. Clones are handles to the same consoles.
#[derive(Debug, Clone, Default)]
pub struct FakeJournal {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    consoles: BTreeMap<RunUnitName, Console>,
    failure: Option<JournalError>,
}

#[derive(Debug, Default)]
struct Console {
    lines: Vec<LogLine>,
    // Unbounded: as much as a test prints.
    followers: Vec<mpsc::UnboundedSender<LogLine>>,
}

impl FakeJournal {
    /// Nothing has been printed.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A unit prints a line.
    pub fn print(&self, unit: &RunUnitName, at: UnixMillis, text: &str) {
        let text = text.to_owned();
        let line = LogLine { at, text };
        let mut state = self.state();
        let console = state.consoles.entry(unit.clone()).or_default();
        console.followers.retain(|follower| follower.send(line.clone()).is_ok());
        console.lines.push(line);
    }

    /// The next reading cannot be opened.
    pub fn fail_next(&self, reason: &str) {
        self.state().failure = Some(JournalError { reason: reason.to_owned() });
    }

    /// How many readers follow a unit's console.
    pub fn followers(&self, unit: &RunUnitName) -> usize {
        let state = self.state();
        let console = state.consoles.get(unit);
        console.map_or(0, |console| console.followers.iter().filter(|one| !one.is_closed()).count())
    }

    fn open(&self, unit: RunUnitName, query: LogQuery) -> Result<LogLines, JournalError> {
        let mut state = self.state();
        if let Some(failure) = state.failure.take() {
            return Err(failure);
        }
        let console = state.consoles.entry(unit).or_default();
        let tail = query.tail.map_or(usize::MAX, |lines| usize::try_from(lines).unwrap_or(usize::MAX));
        let first = console.lines.len().saturating_sub(tail);
        let printed: Vec<_> = console.lines.iter().skip(first).cloned().map(Ok).collect();
        let printed = stream::iter(printed);
        if !query.follow {
            return Ok(Box::pin(printed));
        }
        let (follower, lines) = mpsc::unbounded_channel();
        console.followers.push(follower);
        let coming = stream::unfold(lines, |mut lines| async move {
            let line = lines.recv().await?;
            Some((Ok(line), lines))
        });
        Ok(Box::pin(printed.chain(coming)))
    }

    /// A test that panics elsewhere has failed already; the state is data in any case.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Journal for FakeJournal {
    fn lines(&self, unit: RunUnitName, query: LogQuery) -> BoxFuture<'_, Result<LogLines, JournalError>> {
        Box::pin(async move { self.open(unit, query) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unit() -> RunUnitName {
        RunUnitName::of(&"web".parse().unwrap())
    }

    fn printed() -> FakeJournal {
        let journal = FakeJournal::new();
        for (at, text) in [(1, "one"), (2, "two"), (3, "three")] {
            journal.print(&unit(), UnixMillis(at), text);
        }
        journal
    }

    #[tokio::test]
    async fn the_newest_lines_come_oldest_first() {
        let query = LogQuery { tail: Some(2), follow: false };
        let lines = printed().lines(unit(), query).await.unwrap();
        let texts: Vec<_> = lines.map(|line| line.unwrap().text).collect().await;
        assert_eq!(texts, ["two", "three"]);
    }

    #[tokio::test]
    async fn a_follower_gets_what_is_printed_later_until_it_leaves() {
        let journal = printed();
        let query = LogQuery { tail: Some(0), follow: true };
        let mut lines = journal.lines(unit(), query).await.unwrap();
        journal.print(&unit(), UnixMillis(4), "four");
        assert_eq!(lines.next().await.unwrap().unwrap().text, "four");
        assert_eq!(journal.followers(&unit()), 1);
        drop(lines);
        assert_eq!(journal.followers(&unit()), 0);
    }

    #[tokio::test]
    async fn a_failure_is_over_after_one_reading() {
        let journal = printed();
        journal.fail_next("because");
        let query = LogQuery { tail: None, follow: false };
        assert!(journal.lines(unit(), query).await.is_err());
        assert_eq!(journal.lines(unit(), query).await.unwrap().count().await, 3);
    }
}
