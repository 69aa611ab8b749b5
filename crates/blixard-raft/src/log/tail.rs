//! What is known of the log in memory: its ends, the vote, and its newest entries.
//!
//! Owns the answer to "can this entry be read now": an entry is held from the moment it is queued,
//! and let go only once it is durable. Knows nothing of the disk.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError};

use openraft::EntryPayload;

use crate::types::{Entry, LogId, Vote};

/// Entries that are durable stay in memory while they fit in this. Appliers and followers that keep
/// up never read the disk; 8 MiB is about 20,000 entries of the usual size.
const HELD_BYTES: usize = 8 * 1024 * 1024;

/// What an entry costs besides its command.
const ENTRY_BYTES: usize = 128;

/// The log in memory, shared by the store, its readers and its writer.
#[derive(Debug, Default)]
pub(crate) struct Tail(Mutex<Inner>);

/// Where the log begins and ends, and who was voted for.
#[derive(Debug, Clone, Default)]
pub(crate) struct Ends {
    pub(crate) vote: Option<Vote>,
    pub(crate) committed: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// The last entry, or the last purged one when there is none.
    pub(crate) last: Option<LogId>,
}

#[derive(Debug, Default)]
struct Inner {
    ends: Ends,
    /// A suffix of the log, without holes.
    held: BTreeMap<u64, Entry>,
    held_bytes: usize,
    /// The index of the first entry: what is before was purged, or never was.
    first: u64,
    /// The first index that is not durable yet.
    durable_end: u64,
    durable_commits: u64,
    /// What is known to be committed was not written yet.
    committed_is_new: bool,
    /// The first index of those that are being truncated, and can no longer be read.
    truncating: Option<u64>,
    /// How often entries were truncated or purged.
    cuts: u64,
}

/// What of a range can be read, and where.
#[derive(Debug, PartialEq)]
pub(crate) struct Readable {
    /// The first part of it, which is on disk.
    pub(crate) on_disk: Range<u64>,
    /// What follows.
    pub(crate) held: Vec<Entry>,
    /// As in [`Tail::cuts`].
    pub(crate) cuts: u64,
}

impl Tail {
    /// A log that was found on disk.
    pub(crate) fn found(ends: Ends) -> Self {
        let durable_end = ends.last.map_or(0, |last| last.index + 1);
        let first = ends.purged.map_or(0, |purged| purged.index + 1);
        Self(Mutex::new(Inner { ends, first, durable_end, ..Inner::default() }))
    }

    pub(crate) fn ends(&self) -> Ends {
        self.lock().ends.clone()
    }

    pub(crate) fn set_vote(&self, vote: Vote) {
        self.lock().ends.vote = Some(vote);
    }

    pub(crate) fn set_committed(&self, committed: Option<LogId>) {
        let mut inner = self.lock();
        inner.committed_is_new = inner.ends.committed != committed;
        inner.ends.committed = committed;
    }

    /// What is known to be committed, if it was not asked for since it changed. Not if it is after `last`:
    /// on disk, an entry is there before it is said to be committed.
    pub(crate) fn new_committed(&self, last: u64) -> Option<LogId> {
        let mut inner = self.lock();
        let last = last.max(inner.durable_end.saturating_sub(1));
        let committed = inner.ends.committed.filter(|id| inner.committed_is_new && id.index <= last)?;
        inner.committed_is_new = false;
        Some(committed)
    }

    /// Makes entries readable before they are durable.
    pub(crate) fn append(&self, entries: &[Entry]) {
        let mut inner = self.lock();
        for entry in entries {
            inner.held_bytes += size(entry);
            if inner.ends.last.is_none() {
                inner.first = entry.log_id.index;
            }
            inner.ends.last = Some(entry.log_id);
            if let Some(replaced) = inner.held.insert(entry.log_id.index, entry.clone()) {
                inner.held_bytes -= size(&replaced);
            }
        }
    }

    /// Notes that all up to `index` is on disk, and lets go of the oldest that no longer fit.
    pub(crate) fn durable_to(&self, index: u64) {
        let mut inner = self.lock();
        inner.durable_end = inner.durable_end.max(index + 1);
        while inner.held_bytes > HELD_BYTES {
            match inner.held.first_key_value() {
                Some((index, _)) if *index < inner.durable_end => inner.drop_first(),
                _ => break,
            }
        }
    }

    /// Counts one commit of whatever was queued.
    pub(crate) fn count_commit(&self) {
        self.lock().durable_commits += 1;
    }

    pub(crate) fn durable_commits(&self) -> u64 {
        self.lock().durable_commits
    }

    /// How often entries were truncated or purged. What was read from disk meanwhile may lack some.
    pub(crate) fn cuts(&self) -> u64 {
        self.lock().cuts
    }

    /// Lets nobody read what is after `keep`: it is about to go from the disk.
    pub(crate) fn begin_truncation(&self, keep: Option<LogId>) {
        let mut inner = self.lock();
        inner.truncating = Some(keep.map_or(0, |id| id.index + 1));
        inner.cuts += 1;
    }

    /// Forgets all after `keep`, which is in the log (or nothing). To be called once that is durable.
    pub(crate) fn truncate_after(&self, keep: Option<LogId>) {
        let mut inner = self.lock();
        inner.truncating = None;
        let from = keep.map_or(0, |id| id.index + 1);
        if inner.ends.last.is_none_or(|last| last.index < from) {
            return;
        }
        let dropped = inner.held.split_off(&from);
        inner.held_bytes -= dropped.values().map(size).sum::<usize>();
        inner.durable_end = inner.durable_end.min(from);
        inner.ends.last = keep;
    }

    /// Forgets all up to `upto`.
    pub(crate) fn purge_to(&self, upto: LogId) {
        let mut inner = self.lock();
        while inner.held.first_key_value().is_some_and(|(index, _)| *index <= upto.index) {
            inner.drop_first();
        }
        inner.cuts += 1;
        inner.ends.purged = Some(upto);
        inner.first = upto.index + 1;
        if inner.ends.last.is_none_or(|last| last.index < upto.index) {
            inner.ends.last = Some(upto);
            inner.durable_end = upto.index + 1;
        }
    }

    /// The entries of the range that are held, and the part of the range before them that is on disk.
    pub(crate) fn read(&self, range: Range<u64>) -> Readable {
        let inner = self.lock();
        let cuts = inner.cuts;
        let start = inner.first.max(range.start);
        let end = inner.ends.last.map_or(0, |last| last.index + 1).min(range.end);
        let end = inner.truncating.map_or(end, |from| end.min(from));
        if start >= end {
            return Readable { on_disk: 0..0, held: Vec::new(), cuts };
        }
        let first_held = inner.held.first_key_value().map_or(end, |(index, _)| *index);
        let held = inner.held.range(start..end).map(|(_, entry)| entry.clone()).collect();
        Readable { on_disk: start..first_held.clamp(start, end), held, cuts }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn drop_first(&mut self) {
        if let Some((_, entry)) = self.held.pop_first() {
            self.held_bytes -= size(&entry);
        }
    }
}

fn size(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => ENTRY_BYTES + command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => ENTRY_BYTES,
    }
}
