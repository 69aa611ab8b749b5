//! What of a log is where: the place of each entry, the notes, and which segments are still needed.
//!
//! Knows nothing of the disk. Applies writes in the same way when they are made and when they are found.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Range;

use super::super::engine::{Slot, Write};

/// The newest record of each slot that has one.
pub(super) type Notes = BTreeMap<Slot, Vec<u8>>;

/// Where a record is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The segment.
    pub(super) sequence: u64,
    /// Offset in the file.
    pub(super) at: u64,
    pub(super) length: u32,
}

/// A segment that is in use.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) sequence: u64,
    pub(super) slot: u64,
    /// How many entries are in it that are part of the log.
    pub(super) kept: u64,
}

/// The log as it is on disk.
#[derive(Debug, Default)]
pub(super) struct Index {
    entries: BTreeMap<u64, Place>,
    notes: Notes,
    /// In order; their sequence numbers have no holes.
    segments: VecDeque<Segment>,
    /// Entries that are part of the log and in segments from before the first of these.
    missing: Range<u64>,
}

impl Index {
    /// The log as the header of a segment tells it, without what is in segments before.
    pub(super) fn told(kept: Range<u64>, notes: Notes) -> Self {
        Self { notes, missing: kept, ..Self::default() }
    }

    /// Entries that are part of the log and cannot be read.
    pub(super) fn missing(&self) -> Range<u64> {
        self.missing.clone()
    }

    pub(super) fn notes(&self) -> &Notes {
        &self.notes
    }

    /// The entries of the log: the first, and the one after the last.
    pub(super) fn reach(&self) -> Range<u64> {
        match (self.entries.first_key_value(), self.entries.last_key_value()) {
            (Some((first, _)), Some((last, _))) => *first..last.saturating_add(1),
            _ => 0..0,
        }
    }

    pub(super) fn places(&self, range: Range<u64>) -> impl Iterator<Item = (u64, Place)> {
        // A range that ends before it begins is a panic of the map.
        let range = range.start..range.end.max(range.start);
        self.entries.range(range).map(|(index, place)| (*index, *place))
    }

    /// All that follows is in this segment.
    pub(super) fn begin(&mut self, segment: Segment) {
        self.segments.push_back(segment);
    }

    /// Makes a change that is on disk; its record, if it has one, begins at `at`.
    pub(super) fn apply(&mut self, write: &Write, at: u64) {
        match write {
            Write::Put { index, record } => self.put(*index, at, record.len()),
            Write::TruncateFrom(index) => {
                self.missing.end = self.missing.end.min(*index);
                for place in self.entries.split_off(index).into_values() {
                    self.forget(place);
                }
            }
            Write::PurgeTo(index) => {
                let next = index.saturating_add(1);
                self.missing.start = self.missing.start.max(next);
                let later = self.entries.split_off(&next);
                for place in std::mem::replace(&mut self.entries, later).into_values() {
                    self.forget(place);
                }
            }
            Write::Note { slot, record } => {
                self.notes.insert(*slot, record.clone());
            }
        }
    }

    fn put(&mut self, index: u64, at: u64, length: usize) {
        let Some(newest) = self.segments.back_mut() else { return };
        newest.kept += 1;
        // A record is shorter than its segment.
        let length = u32::try_from(length).unwrap_or(u32::MAX);
        let place = Place { sequence: newest.sequence, at, length };
        if let Some(replaced) = self.entries.insert(index, place) {
            self.forget(replaced);
        }
    }

    fn forget(&mut self, place: Place) {
        let Some(first) = self.segments.front().map(|segment| segment.sequence) else { return };
        let number = place.sequence.checked_sub(first).and_then(|number| usize::try_from(number).ok());
        if let Some(segment) = number.and_then(|number| self.segments.get_mut(number)) {
            segment.kept = segment.kept.saturating_sub(1);
        }
    }

    /// Lets go of the oldest segments in which there is nothing of the log. Only the oldest: a later one
    /// may say that an entry of an earlier one was truncated. Their slots are free.
    pub(super) fn free_oldest(&mut self) -> Vec<u64> {
        let mut freed = Vec::new();
        while self.segments.len() > 1
            && let Some(oldest) = self.segments.pop_front_if(|oldest| oldest.kept == 0)
        {
            freed.push(oldest.slot);
        }
        freed
    }
}
