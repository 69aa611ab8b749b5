//! What the units of vms have printed.

use blixard_types::unit::RunUnitName;

use super::{BoxFuture, BoxStream, UnixMillis};

/// One line of a guest's console.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogLine {
    /// When it was printed.
    pub at: UnixMillis,
    /// The line, without its end; bytes that are no UTF-8 are replaced.
    pub text: String,
}

/// Which lines are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogQuery {
    /// The newest lines that are there already; all if absent.
    pub tail: Option<u32>,
    /// Whether to go on with lines as they come.
    pub follow: bool,
}

/// The journal cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("cannot read the journal: {reason}")]
pub struct JournalError {
    /// Why.
    pub reason: String,
}

/// Lines, oldest first.
pub type LogLines = BoxStream<'static, Result<LogLine, JournalError>>;

/// Reads consoles.
pub trait Journal: Send + Sync + 'static {
    /// Lines of a unit, over all its starts. Dropping the stream ends the reading.
    fn lines(&self, unit: RunUnitName, query: LogQuery) -> BoxFuture<'_, Result<LogLines, JournalError>>;
}
