//! Looking into a log from outside, while no node has it open: for tests, simulations and tools.

use std::path::Path;

use super::disk::{FileDisk, LogDisk};
use super::engine::{LogEngine as _, Slot, Write};
use super::segments::{SEGMENT_BYTES, Segments};
use crate::record;
use crate::types::Vote;

/// The entries of a log with segments of this size, by index, as they are on disk; none if it cannot be read.
pub fn entries(disk: Box<dyn LogDisk>, segment_bytes: u64) -> Option<Vec<(u64, Vec<u8>)>> {
    Segments::open(disk, segment_bytes).ok()?.read(0..u64::MAX, usize::MAX).ok()
}

/// The same of the log in this file.
pub fn entries_of(file: &Path) -> Option<Vec<(u64, Vec<u8>)>> {
    entries(Box::new(FileDisk::open(file).ok()?), SEGMENT_BYTES)
}

/// Spoils a log: the vote in it is as if there had never been one.
pub fn forget_the_vote(disk: Box<dyn LogDisk>, segment_bytes: u64) -> Option<()> {
    let record = record::encode_vote(Slot::Vote.key(), &Vote::new(0, 0));
    Segments::open(disk, segment_bytes).ok()?.commit(&[Write::Note { slot: Slot::Vote, record }]).ok()
}
