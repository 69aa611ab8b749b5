//! Entries at the end of a log that no node has open.
//!
//! Owns the order in which they are written. Refuses to know why they are.

use super::engine::{EngineError, Slot, Write};
use super::store::{FoundLog, LogOpenError};
use crate::record::{self, BadRecord};
use crate::types::{Entry, LogId, Vote};

/// Why a log cannot be extended.
#[derive(Debug, thiserror::Error)]
pub enum ExtendError {
    /// An entry cannot be written as a record.
    #[error("an entry cannot be encoded")]
    Record(#[from] BadRecord),
    /// It cannot be written.
    #[error("the log's engine failed")]
    Engine(#[from] EngineError),
}

impl FoundLog {
    /// The vote that was cast last.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.ends.vote
    }

    /// The last entry, or the last that was purged.
    pub(crate) fn last(&self) -> Option<LogId> {
        self.ends.last
    }

    /// The entries after this one.
    pub(crate) fn entries_after(&self, after: Option<LogId>) -> Result<Vec<Entry>, LogOpenError> {
        let from = after.map_or(0, |id| id.index + 1);
        let records = self.engine.read(from..u64::MAX, usize::MAX)?;
        let decoded = records.into_iter().map(|(index, bytes)| {
            record::decode_entry(index, &bytes).map_err(|source| LogOpenError::BadEntry { index, source })
        });
        decoded.collect()
    }

    /// Makes a vote and entries durable, in this order: a crash leaves the first of them. `base` is what they follow; a
    /// log that ends before it, because a checkpoint covers more, begins anew there.
    pub(crate) fn extend(
        &self,
        base: Option<LogId>,
        vote: &Vote,
        entries: &[Entry],
    ) -> Result<(), ExtendError> {
        let mut writes = Vec::new();
        if let Some(base) = base.filter(|base| self.last().is_none_or(|last| last.index < base.index)) {
            let record = record::encode_log_id(Slot::Purged.key(), &base);
            writes.push(Write::Note { slot: Slot::Purged, record });
            writes.push(Write::PurgeTo(base.index));
        }
        writes.push(Write::Note { slot: Slot::Vote, record: record::encode_vote(Slot::Vote.key(), vote) });
        for entry in entries {
            writes.push(Write::Put { index: entry.log_id.index, record: record::encode_entry(entry)? });
        }
        Ok(self.engine.commit(&writes)?)
    }
}
