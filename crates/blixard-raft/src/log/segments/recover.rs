//! Reading a file of segments from its beginning: what is the log, and what a crash has left.
//!
//! Owns the decision whether something that cannot be read is the trace of a crash, which is cleaned away,
//! or damage, which is refused: a log that silently lacks what was acknowledged is worse than none. Damage
//! in a segment that nothing of the log is in is harmless.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Range;

use super::super::disk::LogDisk;
use super::super::engine::SealSeen;
use super::index::{Index, Segment};
use super::layout::{FoundFrame, FoundHeader, Frame, Header, SECTOR};
use super::{Head, Newest, layout};

/// Why a file of segments cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum BadSegments {
    /// It cannot be read.
    #[error("it cannot be read")]
    Read(#[source] io::Error),
    /// Its newest segment cannot be written back.
    #[error("what was read of its end cannot be made durable")]
    Clean(#[source] io::Error),
    /// Another program wrote it.
    #[error("it has format version {found}, which this program does not read")]
    Version {
        /// The version found.
        found: u16,
    },
    /// Its segments have another size.
    #[error("its segments have {found} bytes, and not {expected}")]
    SegmentBytes {
        /// The size found.
        found: u64,
        /// The size that was asked for.
        expected: u64,
    },
    /// Something in it is not what was written, and not what a crash leaves.
    #[error("it is damaged at byte {at}")]
    Damaged {
        /// Where.
        at: u64,
    },
    /// Entries are gone.
    #[error("entries {first} to {last} are gone: the segment before number {segment} is damaged or missing")]
    Missing {
        /// The first of them.
        first: u64,
        /// The last of them.
        last: u64,
        /// The first segment that can be read.
        segment: u64,
    },
}

/// A log that was found.
pub(super) struct Found {
    pub(super) head: Head,
    pub(super) index: Index,
    pub(super) sealed: bool,
}

/// The segments whose headers are whole, and the slots without one.
struct Headers {
    segments: BTreeMap<u64, (u64, Header)>,
    free: BTreeSet<u64>,
}

/// Reads the file.
pub(super) fn recover(disk: &dyn LogDisk, segment_bytes: u64) -> Result<Found, BadSegments> {
    let size = disk.size().map_err(BadSegments::Read)?;
    let slots = size / segment_bytes;
    let Headers { mut segments, mut free } = read_headers(disk, slots, segment_bytes)?;
    check_rest(disk, slots * segment_bytes..size)?;
    let newest = segments.last_key_value().map(|(sequence, _)| *sequence);
    check_free(disk, segment_bytes, &free, newest.unwrap_or(0))?;
    let first = first_of_run(&segments);
    // What is before was freed; its slot would have been used next.
    let run = segments.split_off(&first);
    free.extend(segments.into_values().map(|(slot, _)| slot));
    let mut reading =
        Reading { disk, segment_bytes, index: Index::default(), head: None, seal: SealSeen::default() };
    let ends = run.values().skip(1).map(|(_, next)| Some(next.before_end)).chain([None]);
    let mut begins_at = first;
    let mut read = Vec::new();
    for ((sequence, (slot, header)), end) in run.iter().zip(ends) {
        if *sequence == begins_at {
            reading.index = Index::told(header.kept.clone(), header.notes.clone());
        }
        if reading.segment(*slot, header, end)? {
            read.push(*slot);
        } else {
            // The log goes on without it, if nothing of the log was in it.
            begins_at = sequence + 1;
            free.extend(read.drain(..).chain([*slot]));
        }
    }
    let missing = reading.index.missing();
    if !missing.is_empty() {
        let (first, last) = (missing.start, missing.end - 1);
        return Err(BadSegments::Missing { first, last, segment: begins_at });
    }
    let (mut index, sealed) = (reading.index, reading.seal.is_whole());
    free.extend(index.free_oldest());
    let head = Head { newest: reading.head, free, slots, frame: Frame::default() };
    Ok(Found { head, index, sealed })
}

fn read_headers(disk: &dyn LogDisk, slots: u64, segment_bytes: u64) -> Result<Headers, BadSegments> {
    let mut found = Headers { segments: BTreeMap::new(), free: BTreeSet::new() };
    for slot in 0..slots {
        let mut sector = [0; SECTOR];
        let at = slot * segment_bytes;
        disk.read(at, &mut sector).map_err(BadSegments::Read)?;
        match Header::decode(&sector) {
            FoundHeader::Zeros => {
                found.free.insert(slot);
            }
            FoundHeader::Whole(header) if header.segment_bytes != segment_bytes => {
                let (found, expected) = (header.segment_bytes, segment_bytes);
                return Err(BadSegments::SegmentBytes { found, expected });
            }
            FoundHeader::Whole(header) => {
                found.segments.insert(header.sequence, (slot, header));
            }
            FoundHeader::Version(found) => return Err(BadSegments::Version { found }),
            // A sector is written whole or not at all.
            FoundHeader::Damaged => return Err(BadSegments::Damaged { at }),
        }
    }
    Ok(found)
}

/// A part of a slot is left by a crash while the file grew, or the file is none of ours.
fn check_rest(disk: &dyn LogDisk, rest: Range<u64>) -> Result<(), BadSegments> {
    let length = usize::try_from(rest.end - rest.start).unwrap_or(SECTOR).min(SECTOR);
    let mut start = vec![0; length];
    disk.read(rest.start, &mut start).map_err(BadSegments::Read)?;
    if layout::is_zeros(&start) { Ok(()) } else { Err(BadSegments::Damaged { at: rest.start }) }
}

/// A slot without a header is free, unless something in it was written after the segment that would be the newest.
fn check_free(
    disk: &dyn LogDisk,
    segment_bytes: u64,
    free: &BTreeSet<u64>,
    newest: u64,
) -> Result<(), BadSegments> {
    for slot in free {
        let at = slot * segment_bytes;
        let bytes = read_segment(disk, at, segment_bytes)?;
        let (frames, again) = bytes.split_at_checked(bytes.len() - SECTOR).unwrap_or_default();
        let newer = matches!(Header::decode(again), FoundHeader::Whole(header) if header.sequence > newest);
        let mut places = (SECTOR..frames.len()).step_by(layout::ALIGNED);
        if newer || places.any(|place| layout::frame_length(frames, newest + 1, place).is_some()) {
            return Err(BadSegments::Damaged { at });
        }
    }
    Ok(())
}

fn read_segment(disk: &dyn LogDisk, at: u64, segment_bytes: u64) -> Result<Vec<u8>, BadSegments> {
    let mut bytes = vec![0; usize::try_from(segment_bytes).unwrap_or(usize::MAX)];
    disk.read(at, &mut bytes).map_err(BadSegments::Read)?;
    Ok(bytes)
}

/// The first of those that end with the newest and have no holes.
fn first_of_run(segments: &BTreeMap<u64, (u64, Header)>) -> u64 {
    let mut first = segments.last_key_value().map_or(0, |(sequence, _)| *sequence);
    while first > 0 && segments.contains_key(&(first - 1)) {
        first -= 1;
    }
    first
}

struct Reading<'d> {
    disk: &'d dyn LogDisk,
    segment_bytes: u64,
    index: Index,
    head: Option<Newest>,
    seal: SealSeen,
}

impl Reading<'_> {
    /// Reads a segment. `end` is where the one after it says that it ends; the newest ends where it ends.
    /// False if it is damaged and there is one after it.
    fn segment(&mut self, slot: u64, header: &Header, end: Option<u64>) -> Result<bool, BadSegments> {
        let start = slot * self.segment_bytes;
        let mut bytes = read_segment(self.disk, start, self.segment_bytes)?;
        let first: Vec<u8> = bytes.iter().take(SECTOR).copied().collect();
        bytes.truncate(bytes.len().saturating_sub(SECTOR));
        self.index.begin(Segment { sequence: header.sequence, slot, kept: 0 });
        let mut offset = SECTOR;
        loop {
            if end == Some(offset as u64) {
                return Ok(true);
            }
            match layout::find_frame(&bytes, header.sequence, offset) {
                FoundFrame::Whole { body, next } => {
                    let at = start + body.start as u64;
                    if !self.apply(bytes.get(body).unwrap_or_default(), at) {
                        return Err(BadSegments::Damaged { at });
                    }
                    offset = next;
                }
                _ if end.is_some() => return Ok(false),
                FoundFrame::End => break,
                FoundFrame::Torn => {
                    bytes.iter_mut().skip(offset).for_each(|byte| *byte = 0);
                    break;
                }
                FoundFrame::Damaged => return Err(BadSegments::Damaged { at: start + offset as u64 }),
            }
        }
        bytes.extend(first);
        self.keep(start, &bytes).map_err(BadSegments::Clean)?;
        self.head = Some(Newest { sequence: header.sequence, slot, end: offset as u64 });
        Ok(true)
    }

    fn apply(&mut self, body: &[u8], at: u64) -> bool {
        let Some(writes) = layout::read_body(body) else { return false };
        self.seal.frame(writes.iter().map(|(write, _)| write));
        for (write, record) in writes {
            self.index.apply(&write, at + record as u64);
        }
        true
    }

    /// Makes the newest segment durable as it was read, and what a crash has torn zeros. The process before
    /// may have been killed, or have failed, between a write and its sync: what was read was in the cache
    /// then, and perhaps nowhere else, even for good, because the kernel takes pages for clean whose write
    /// has failed. Every frame before was synced before the next was written.
    fn keep(&self, start: u64, bytes: &[u8]) -> io::Result<()> {
        self.disk.write(start, bytes)?;
        self.disk.sync()
    }
}
