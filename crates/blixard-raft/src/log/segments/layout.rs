//! The bytes of a segment: its header, which fills its first sector, its frames, and its header again, which
//! fills its last.
//!
//! Owns the form on disk, and telling a frame that a crash has torn from one that was damaged. Integers are
//! big endian; checks are the heads of SHA-256s over the segment's sequence number, the offset, and what is
//! checked, so that what was left by an earlier use of the same slot is not taken for a part of this one.
//!
//! ```text
//! header: magic (6) │ version (2) │ sequence (8) │ segment bytes (8) │ end of the one before (8)
//!         │ first entry kept (8) │ end of the entries kept (8) │ notes: length (1), record │ zeros │ check (8)
//! frame:  length of the body (4) │ check of the length (4) │ check of the body (8) │ body │ zeros │ 0xa5
//! body:   put: 0, index (8), length (4), record │ truncate from: 1, index │ purge to: 2, index
//!         │ note: 3, slot (1), length (4), record
//! ```
//!
//! The second header is written after the first was synced, and before any frame: where there is only the second,
//! the first was lost, and with it perhaps frames.
//!
//! A frame begins and ends at a multiple of 16. A sector is written whole or not at all, and what is not
//! written yet is zeros: so a torn frame has a sector, or its part of one, that is zeros. One without such a
//! part that does not match its check was damaged.

use std::ops::Range;

use bytes::{Buf, BufMut};
use sha2::{Digest, Sha256};

use super::super::engine::{EngineError, Slot, Write};
use super::index::Notes;

/// What a disk writes whole or not at all.
pub(super) const SECTOR: usize = 512;
/// Where the first frame of a segment begins.
pub(super) const FIRST_FRAME: u64 = SECTOR as u64;

const MAGIC: &[u8; 6] = b"blxlog";
/// The version of every segment this program writes, and the only one it reads.
const VERSION: u16 = 2;
const CHECK_BYTES: usize = 8;

/// Frames begin at multiples of this.
pub(super) const ALIGNED: usize = 16;
const HEAD_BYTES: usize = 16;
/// The last byte of a frame.
const END: u8 = 0xa5;

const PUT: u8 = 0;
const TRUNCATE: u8 = 1;
const PURGE: u8 = 2;
const NOTE: u8 = 3;
/// Bytes of a put besides its record, which are the most of any write.
const PUT_HEAD_BYTES: usize = 13;

fn check<const N: usize>(sequence: u64, offset: u64, of: &[u8]) -> [u8; N] {
    let mut digest = Sha256::new();
    digest.update(sequence.to_be_bytes());
    digest.update(offset.to_be_bytes());
    digest.update(of);
    let digest: [u8; 32] = digest.finalize().into();
    let mut check = [0; N];
    for (to, from) in check.iter_mut().zip(digest) {
        *to = from;
    }
    check
}

/// What a segment says of itself and of the log before it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) sequence: u64,
    pub(super) segment_bytes: u64,
    /// Where the last frame of the segment before it ends.
    pub(super) before_end: u64,
    /// The entries of the log when it began.
    pub(super) kept: Range<u64>,
    /// The notes then.
    pub(super) notes: Notes,
}

/// What a header sector holds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundHeader {
    /// Nothing was written yet.
    Zeros,
    Whole(Header),
    /// Of a segment of another program.
    Version(u16),
    Damaged,
}

impl Header {
    pub(super) fn encode(&self) -> Result<Vec<u8>, EngineError> {
        let mut out = Vec::with_capacity(SECTOR);
        out.put_slice(MAGIC);
        out.put_u16(VERSION);
        for number in [self.sequence, self.segment_bytes, self.before_end, self.kept.start, self.kept.end] {
            out.put_u64(number);
        }
        for slot in Slot::ALL {
            let record = self.notes.get(&slot).map_or(&[][..], Vec::as_slice);
            let too_large = EngineError::TooLarge { size: record.len() };
            out.put_u8(u8::try_from(record.len()).map_err(|_| too_large)?);
            out.put_slice(record);
        }
        if out.len() > SECTOR - CHECK_BYTES {
            return Err(EngineError::TooLarge { size: out.len() });
        }
        out.resize(SECTOR - CHECK_BYTES, 0);
        let check: [u8; CHECK_BYTES] = check(self.sequence, 0, &out);
        out.put_slice(&check);
        Ok(out)
    }

    pub(super) fn decode(sector: &[u8]) -> FoundHeader {
        if is_zeros(sector) {
            return FoundHeader::Zeros;
        }
        if let Some(mut after) = sector.strip_prefix(MAGIC)
            && let Ok(version) = after.try_get_u16()
            && version != VERSION
        {
            return FoundHeader::Version(version);
        }
        Self::read(sector).map_or(FoundHeader::Damaged, FoundHeader::Whole)
    }

    fn read(sector: &[u8]) -> Option<Self> {
        let (content, found) = sector.split_last_chunk::<CHECK_BYTES>()?;
        let mut rest = content.strip_prefix(MAGIC)?;
        rest.try_get_u16().ok()?;
        let mut number = || rest.try_get_u64().ok();
        let (sequence, segment_bytes, before_end) = (number()?, number()?, number()?);
        let kept = number()?..number()?;
        if *found != check(sequence, 0, content) {
            return None;
        }
        let mut notes = Notes::new();
        for slot in Slot::ALL {
            let length = usize::from(rest.try_get_u8().ok()?);
            let (record, after) = rest.split_at_checked(length)?;
            rest = after;
            if !record.is_empty() {
                notes.insert(slot, record.to_vec());
            }
        }
        Some(Self { sequence, segment_bytes, before_end, kept, notes })
    }
}

impl Write {
    /// Bytes in a frame.
    pub(super) fn size(&self) -> usize {
        match self {
            Self::Put { record, .. } | Self::Note { record, .. } => PUT_HEAD_BYTES + record.len(),
            Self::TruncateFrom(_) | Self::PurgeTo(_) => PUT_HEAD_BYTES,
        }
    }
}

fn frame_bytes(body: usize) -> usize {
    (HEAD_BYTES + body + 1).next_multiple_of(ALIGNED)
}

/// A frame that is being made; used again, for its buffer.
#[derive(Debug, Default)]
pub(super) struct Frame {
    bytes: Vec<u8>,
    /// For each write, where its record begins.
    records: Vec<u32>,
}

impl Frame {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// For each write that was taken, where in the frame its record begins.
    pub(super) fn records(&self) -> &[u32] {
        &self.records
    }

    /// How long a frame of these is.
    pub(super) fn bytes_of(writes: &[Write]) -> usize {
        frame_bytes(writes.iter().map(Write::size).sum())
    }

    /// Whether the first of these fits.
    #[expect(clippy::unused_self, reason = "reads as a question to the frame")]
    pub(super) fn fits(&self, writes: &[Write], room: u64) -> bool {
        writes.first().is_none_or(|first| frame_bytes(first.size()) as u64 <= room)
    }

    /// Becomes a frame of as many of these as fit; returns how many.
    pub(super) fn fill(&mut self, writes: &[Write], (sequence, offset): (u64, u64), room: u64) -> usize {
        self.bytes.clear();
        self.records.clear();
        self.bytes.resize(HEAD_BYTES, 0);
        let mut body = 0;
        for write in writes {
            body += write.size();
            if frame_bytes(body) as u64 > room {
                break;
            }
            self.put(write);
        }
        let length = self.bytes.len() - HEAD_BYTES;
        self.bytes.resize(frame_bytes(length) - 1, 0);
        self.bytes.push(END);
        self.seal(length, sequence, offset);
        self.records.len()
    }

    fn put(&mut self, write: &Write) {
        let out = &mut self.bytes;
        let length = |record: &Vec<u8>| u32::try_from(record.len()).unwrap_or(u32::MAX);
        let record: &[u8] = match write {
            Write::Put { index, record } => {
                out.put_u8(PUT);
                out.put_u64(*index);
                out.put_u32(length(record));
                record
            }
            Write::TruncateFrom(index) => {
                out.put_u8(TRUNCATE);
                out.put_u64(*index);
                &[]
            }
            Write::PurgeTo(index) => {
                out.put_u8(PURGE);
                out.put_u64(*index);
                &[]
            }
            Write::Note { slot, record } => {
                out.put_u8(NOTE);
                out.put_u8(slot.number());
                out.put_u32(length(record));
                record
            }
        };
        self.records.push(u32::try_from(out.len()).unwrap_or(u32::MAX));
        out.put_slice(record);
    }

    fn seal(&mut self, length: usize, sequence: u64, offset: u64) {
        let Some((head, rest)) = self.bytes.split_at_mut_checked(HEAD_BYTES) else { return };
        let length_bytes = u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes();
        let of_length: [u8; 4] = check(sequence, offset, &length_bytes);
        let of_body: [u8; 8] = check(sequence, offset, rest);
        let parts = length_bytes.into_iter().chain(of_length).chain(of_body);
        for (to, from) in head.iter_mut().zip(parts) {
            *to = from;
        }
    }
}

/// What is at an offset of a segment.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum FoundFrame {
    Whole {
        body: Range<usize>,
        next: usize,
    },
    /// Zeros to the end.
    End,
    /// What a crash has left of a frame that was never acknowledged.
    Torn,
    Damaged,
}

/// Looks at an offset of a segment, without its last sector.
pub(super) fn find_frame(segment: &[u8], sequence: u64, offset: usize) -> FoundFrame {
    let Some(rest) = segment.get(offset..).filter(|rest| !is_zeros(rest)) else { return FoundFrame::End };
    let Some(head) = rest.first_chunk::<HEAD_BYTES>() else { return FoundFrame::Damaged };
    let torn_unless_followed = || {
        let mut later = (offset + ALIGNED..segment.len()).step_by(ALIGNED);
        // Nothing was written after a frame that was not synced.
        if later.any(|later| frame_length(segment, sequence, later).is_some()) {
            FoundFrame::Damaged
        } else {
            FoundFrame::Torn
        }
    };
    if is_zeros(head) {
        // With its head goes all that is in the same sector.
        let lacking = rest.get(..SECTOR - offset % SECTOR).unwrap_or(rest);
        return if is_zeros(lacking) { torn_unless_followed() } else { FoundFrame::Damaged };
    }
    let Some(length) = frame_length(segment, sequence, offset) else { return FoundFrame::Damaged };
    let Some(frame) = rest.get(..frame_bytes(length)) else { return FoundFrame::Damaged };
    let sealed = frame.get(HEAD_BYTES..).unwrap_or_default();
    let of_body: [u8; 8] = check(sequence, offset as u64, sealed);
    let body = offset + HEAD_BYTES..offset + HEAD_BYTES + length;
    if head.ends_with(&of_body) {
        FoundFrame::Whole { body, next: offset + frame.len() }
    } else if lacks_a_sector(frame, offset) {
        torn_unless_followed()
    } else {
        FoundFrame::Damaged
    }
}

/// The length of the frame that begins here, if one does.
pub(super) fn frame_length(segment: &[u8], sequence: u64, offset: usize) -> Option<usize> {
    let head = segment.get(offset..)?.first_chunk::<HEAD_BYTES>()?;
    let (length, rest) = head.split_first_chunk::<4>()?;
    let found = rest.first_chunk::<4>()?;
    let length_read = usize::try_from(u32::from_be_bytes(*length)).ok()?;
    (length_read > 0 && *found == check(sequence, offset as u64, length)).then_some(length_read)
}

fn lacks_a_sector(frame: &[u8], offset: usize) -> bool {
    let first = frame.len().min(SECTOR - offset % SECTOR);
    let (first, others) = frame.split_at_checked(first).unwrap_or((frame, &[]));
    is_zeros(first) || others.chunks(SECTOR).any(is_zeros)
}

/// Reads the writes in a body, with the offset in it at which each one's record begins.
pub(super) fn read_body(body: &[u8]) -> Option<Vec<(Write, usize)>> {
    let mut rest = body;
    let mut writes = Vec::new();
    while !rest.is_empty() {
        let kind = rest.try_get_u8().ok()?;
        let record = |rest: &mut &[u8]| {
            let length = rest.try_get_u32().ok()? as usize;
            let (record, after) = rest.split_at_checked(length)?;
            let at = body.len() - rest.len();
            *rest = after;
            Some((record.to_vec(), at))
        };
        let (write, at) = match kind {
            PUT => {
                let index = rest.try_get_u64().ok()?;
                let (record, at) = record(&mut rest)?;
                (Write::Put { index, record }, at)
            }
            TRUNCATE => (Write::TruncateFrom(rest.try_get_u64().ok()?), 0),
            PURGE => (Write::PurgeTo(rest.try_get_u64().ok()?), 0),
            NOTE => {
                let slot = Slot::of_number(rest.try_get_u8().ok()?)?;
                let (record, at) = record(&mut rest)?;
                (Write::Note { slot, record }, at)
            }
            _ => return None,
        };
        writes.push((write, at));
    }
    Some(writes)
}

pub(super) fn is_zeros(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}
