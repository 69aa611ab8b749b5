//! What a guest's console said last, for the reason of its end.
//!
//! Owns: how much of it is told. Refuses to know: why it ended. A console is a guest's own word: whoever shows it
//! leaves out what steers a terminal.

use std::time::Duration;

use blixard_core::ports::UnixMillis;
use blixard_core::ports::journal::{Journal, JournalError, LogLine, LogQuery};
use blixard_types::unit::RunUnitName;
use blixard_types::{VmId, chain};
use futures_util::TryStreamExt;

use crate::Host;

/// Lines that are told.
const LINES: usize = 8;
/// Lines that are read: some are empty, or of a run before.
const LINES_READ: u32 = 64;
/// Most bytes of a line that are told: all of them stay well below what a reason may have.
const LINE_MAX: usize = 200;
/// How long the journal may take to tell them.
const LIMIT: Duration = Duration::from_secs(5);

/// The reason, with what was said since then below it, if anything was.
pub(crate) async fn added_to(reason: String, host: &Host, vm: &VmId, since: UnixMillis) -> String {
    let said = match tokio::time::timeout(LIMIT, said(host.journal.as_ref(), vm)).await {
        Ok(Ok(said)) => said,
        Ok(Err(error)) => {
            tracing::warn!(%vm, error = chain(&error), "cannot tell what its console said last");
            return reason;
        }
        Err(_) => {
            tracing::warn!(%vm, "the journal does not tell in time what its console said last");
            return reason;
        }
    };
    with(reason, &said, since)
}

async fn said(journal: &dyn Journal, vm: &VmId) -> Result<Vec<LogLine>, JournalError> {
    let query = LogQuery { tail: Some(LINES_READ), follow: false };
    journal.lines(RunUnitName::of(vm), query).await?.try_collect().await
}

fn with(reason: String, said: &[LogLine], since: UnixMillis) -> String {
    let told = said.iter().filter(|line| line.at >= since && !line.text.trim().is_empty());
    let told: Vec<&str> = told.map(|line| cut(line.text.trim_end())).collect();
    let told = told.get(told.len().saturating_sub(LINES)..).unwrap_or_default();
    if told.is_empty() { reason } else { format!("{reason}; its console said last:\n{}", told.join("\n")) }
}

fn cut(line: &str) -> &str {
    line.get(..line.floor_char_boundary(LINE_MAX)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(at: u64, text: &str) -> LogLine {
        LogLine { at: UnixMillis(at), text: text.to_owned() }
    }

    #[test]
    fn the_newest_lines_of_this_run_are_told_and_no_others() {
        let mut said = vec![line(9, "of a run before"), line(10, ""), line(10, "\r"), line(11, "first")];
        said.extend((0..8).map(|n| line(12, &format!("line {n}"))));
        let told = with("it ended".to_owned(), &said, UnixMillis(10));
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 9);
        assert_eq!((lines[0], lines[1]), ("it ended; its console said last:", "line 0"));
        assert_eq!(lines[8], "line 7");
    }

    #[test]
    fn a_guest_that_said_nothing_has_no_last_words() {
        let said = [line(9, "of a run before"), line(10, "  ")];
        assert_eq!(with("it ended".to_owned(), &said, UnixMillis(10)), "it ended");
    }

    #[test]
    fn a_long_line_is_cut_between_characters() {
        let told = with("it ended".to_owned(), &[line(10, &format!("x{}", "é".repeat(500)))], UnixMillis(10));
        let last = told.lines().last().unwrap();
        assert_eq!(last.len(), 199);
        assert!(told.len() < blixard_core::state::REASON_MAX_BYTES / 2);
    }
}
