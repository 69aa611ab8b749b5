//! What a log engine must do: keep numbered records and four notes, and make a batch durable at once.
//!
//! Narrow on purpose, so that a faster engine than redb can come with evidence. Sees bytes.

use std::fmt::Debug;
use std::ops::Range;

/// One change. A batch of them is applied in order, all or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Keeps a record under its index, over what was there.
    Put { index: u64, record: Vec<u8> },
    /// Forgets this index and all after it.
    TruncateFrom(u64),
    /// Forgets this index and all before it.
    PurgeTo(u64),
    /// Keeps a note.
    Note { slot: Slot, record: Vec<u8> },
}

/// The notes that are kept beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Whose log this is.
    Node,
    /// The last vote.
    Vote,
    /// What is known to be committed.
    Committed,
    /// The last entry that was purged.
    Purged,
}

impl Slot {
    /// Its key on disk.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }
}

/// A failing step of the engine. After any but `Read` it is never written again.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No transaction could be begun.
    #[error("cannot begin a transaction of the log")]
    Begin(#[source] Box<redb::Error>),
    /// A change could not be made.
    #[error("cannot change the log")]
    Write(#[source] Box<redb::Error>),
    /// The changes could not be made durable.
    #[error("cannot make changes of the log durable")]
    Commit(#[source] Box<redb::Error>),
    /// The engine broke one of its own assumptions.
    #[error("the log's engine has panicked")]
    Panicked,
    /// The log could not be read.
    #[error("cannot read the log")]
    Read(#[source] Box<redb::Error>),
}

/// Keeps records on disk.
pub(crate) trait LogEngine: Debug + Send + Sync + 'static {
    /// Makes the changes, in order; all are durable when it returns, or none is.
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError>;

    /// Reads the records in the range, in order of index, at most `limit`.
    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError>;

    /// Reads a note.
    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError>;
}
