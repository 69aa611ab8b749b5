//! The log engine: one file of segments, appended to and used again.
//!
//! Owns the order in which things become durable. A commit is one frame at the end of the newest segment,
//! one write and one sync; the blocks it overwrites are there already, filled with zeros, so that the sync
//! has no metadata to write. A segment whose entries are all purged is filled with zeros and used again.
//!
//! ```text
//! free (zeros) ─► newest: header, frame, frame, zeros, header ─► full ─► none of its entries is kept ─► free
//! ```
//!
//! At any time at most one frame is written and not synced, and only in the newest segment; a segment's
//! header is synced before its first frame is written, after all of the segment before it. So whatever
//! cannot be read, but for the last frame, is damage and not the trace of a crash ([`recover`]).

mod index;
mod layout;
mod recover;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::io;
use std::ops::Range;
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::disk::LogDisk;
use super::engine::{EngineError, LogEngine, Slot, Write};
use index::{Index, Segment};
use layout::{FIRST_FRAME, Frame, Header, SECTOR};

pub use recover::BadSegments;

/// Bytes of a segment. Each new one costs three syncs and as many zeros: here once in some 3,000 entries.
/// It is also what a server can still write when its disk is full, before it stops.
pub(crate) const SEGMENT_BYTES: u64 = 1024 * 1024;

/// A log in a file of segments.
#[derive(Debug)]
pub(crate) struct Segments {
    disk: Box<dyn LogDisk>,
    segment_bytes: u64,
    /// The writer's alone.
    head: Mutex<Head>,
    index: RwLock<Index>,
    was_sealed: bool,
}

/// Where the next frame goes.
#[derive(Debug)]
struct Head {
    newest: Option<Newest>,
    /// Slots of the file that no segment is in.
    free: BTreeSet<u64>,
    /// How many slots the file has.
    slots: u64,
    frame: Frame,
}

#[derive(Debug, Clone, Copy)]
struct Newest {
    sequence: u64,
    slot: u64,
    /// Where its next frame begins.
    end: u64,
}

impl Segments {
    /// Opens what is on the disk, or begins a log on an empty one.
    pub(crate) fn open(disk: Box<dyn LogDisk>, segment_bytes: u64) -> Result<Self, BadSegments> {
        let found = recover::recover(disk.as_ref(), segment_bytes)?;
        let (head, index) = (Mutex::new(found.head), RwLock::new(found.index));
        Ok(Self { disk, segment_bytes, head, index, was_sealed: found.sealed })
    }

    fn head(&self) -> MutexGuard<'_, Head> {
        // After a panic nobody writes any more.
        self.head.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn index(&self) -> RwLockReadGuard<'_, Index> {
        self.index.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn change_index(&self) -> RwLockWriteGuard<'_, Index> {
        self.index.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Bytes that a frame may have in the newest segment.
    fn room(&self, newest: Newest) -> u64 {
        frames_end(self.segment_bytes).saturating_sub(newest.end)
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.disk.sync().map_err(EngineError::Sync)
    }

    /// Makes the first of these durable with one frame; returns the others.
    fn append<'w>(&self, head: &mut Head, writes: &'w [Write]) -> Result<&'w [Write], EngineError> {
        let newest = match head.newest {
            Some(newest) if head.frame.fits(writes, self.room(newest)) => newest,
            _ => self.begin_segment(head)?,
        };
        let taken = head.frame.fill(writes, (newest.sequence, newest.end), self.room(newest));
        let Some((now, later)) = writes.split_at_checked(taken).filter(|(now, _)| !now.is_empty()) else {
            return Err(EngineError::TooLarge { size: writes.first().map_or(0, Write::size) });
        };
        let at = newest.slot * self.segment_bytes + newest.end;
        self.disk.write(at, head.frame.bytes()).map_err(EngineError::Write)?;
        self.sync()?;
        head.newest = Some(Newest { end: newest.end + head.frame.bytes().len() as u64, ..newest });
        let freed = {
            let mut index = self.change_index();
            for (write, record) in now.iter().zip(head.frame.records()) {
                index.apply(write, at + u64::from(*record));
            }
            index.free_oldest()
        };
        head.free.extend(freed);
        Ok(later)
    }

    /// Takes a slot that is free or new, and makes it durable as zeros. It stays free if the disk is full: all that
    /// was written before is synced, so the zeros are all that can be lost, and they are written again.
    fn take_slot(&self, head: &mut Head) -> Result<u64, EngineError> {
        let slot = if let Some(slot) = head.free.first() {
            *slot
        } else {
            let slot = head.slots;
            self.disk.set_size((slot + 1) * self.segment_bytes).map_err(no_room_or(EngineError::Write))?;
            head.slots += 1;
            head.free.insert(slot);
            slot
        };
        let start = slot * self.segment_bytes;
        zero(self.disk.as_ref(), start..start + self.segment_bytes)
            .map_err(no_room_or(EngineError::Write))?;
        self.disk.sync().map_err(no_room_or(EngineError::Sync))?;
        head.free.remove(&slot);
        Ok(slot)
    }

    /// Begins a segment, in a slot that is free or new.
    fn begin_segment(&self, head: &mut Head) -> Result<Newest, EngineError> {
        let slot = self.take_slot(head)?;
        let start = slot * self.segment_bytes;
        let (sequence, before_end) = head.newest.map_or((1, 0), |before| (before.sequence + 1, before.end));
        let header = {
            let mut index = self.change_index();
            index.begin(Segment { sequence, slot, kept: 0 });
            let (kept, notes) = (index.reach(), index.notes().clone());
            Header { sequence, segment_bytes: self.segment_bytes, before_end, kept, notes }
        };
        let header = header.encode()?;
        self.disk.write(start, &header).map_err(EngineError::Write)?;
        self.sync()?;
        // Durable with the first frame at the latest.
        let again = start + frames_end(self.segment_bytes);
        self.disk.write(again, &header).map_err(EngineError::Write)?;
        let newest = Newest { sequence, slot, end: FIRST_FRAME };
        head.newest = Some(newest);
        Ok(newest)
    }
}

/// Tells a full disk from what is worse.
fn no_room_or(otherwise: fn(io::Error) -> EngineError) -> impl Fn(io::Error) -> EngineError {
    move |error| match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => EngineError::NoRoom(error),
        _ => otherwise(error),
    }
}

/// Where in a segment its header is written again.
fn frames_end(segment_bytes: u64) -> u64 {
    segment_bytes - SECTOR as u64
}

/// Fills a part of the disk with zeros.
fn zero(disk: &dyn LogDisk, part: Range<u64>) -> io::Result<()> {
    static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];
    let mut at = part.start;
    while at < part.end {
        let length = (part.end - at).min(ZEROS.len() as u64);
        let zeros = usize::try_from(length).ok().and_then(|length| ZEROS.get(..length));
        disk.write(at, zeros.unwrap_or(&ZEROS))?;
        at += length;
    }
    Ok(())
}

impl LogEngine for Segments {
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError> {
        let mut head = self.head();
        let mut left = writes;
        while !left.is_empty() {
            left = self.append(&mut head, left)?;
        }
        Ok(())
    }

    fn make_room(&self, commits: &[&[Write]]) -> Result<(), EngineError> {
        let mut head = self.head();
        let needed = commits.iter().map(|writes| Frame::bytes_of(writes)).sum::<usize>() as u64;
        if head.newest.is_none_or(|newest| self.room(newest) < needed) {
            self.begin_segment(&mut head)?;
        }
        Ok(())
    }

    /// The index is held meanwhile: what it names is not given to another segment.
    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        let index = self.index();
        let mut found = Vec::new();
        for (number, place) in index.places(range).take(limit) {
            let mut record = vec![0; place.length as usize];
            self.disk.read(place.at, &mut record).map_err(EngineError::Read)?;
            found.push((number, record));
        }
        Ok(found)
    }

    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(self.index().notes().get(&slot).cloned())
    }

    fn was_sealed(&self) -> bool {
        self.was_sealed
    }
}
