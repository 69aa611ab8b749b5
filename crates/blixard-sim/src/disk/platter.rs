//! Bytes at offsets, and which of them are safe.

use std::io;

use crate::dice::mixed;

/// Bytes that are written as one, or not.
const SECTOR: usize = 512;

/// What a crash leaves of the writes since the last sync.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing.
    Nothing,
    /// Some of them, whole; which ones depends on the number.
    Some(u64),
    /// Some sectors of them.
    Torn(u64),
    /// All of them.
    All,
}

impl Keep {
    /// Whether a write, or a name, is kept.
    pub(super) fn keeps(self, place: u64) -> bool {
        match self {
            Self::Nothing => false,
            Self::All => true,
            Self::Some(number) | Self::Torn(number) => {
                mixed(number ^ place.wrapping_mul(0x9e37_79b9_7f4a_7c15)) & 1 == 0
            }
        }
    }
}

/// Bytes at offsets.
#[derive(Debug, Default)]
pub(super) struct Platter {
    /// As the running program sees it.
    bytes: Vec<u8>,
    /// As it was at the last sync.
    synced: Vec<u8>,
    /// Writes since then.
    unsynced: Vec<(usize, Vec<u8>)>,
    /// How many of these a sync has claimed to have synced.
    claimed: usize,
}

impl Platter {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(super) fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = place(offset)?;
        let found = self.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    pub(super) fn set_len(&mut self, length: u64) -> Result<(), io::Error> {
        self.bytes.resize(place(length)?, 0);
        Ok(())
    }

    pub(super) fn write(&mut self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let start = place(offset)?;
        let target = self.bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(data);
        self.unsynced.push((start, data.to_vec()));
        Ok(())
    }

    /// The same bytes, all of them safe.
    pub(super) fn copied(&self) -> Self {
        Self { bytes: self.bytes.clone(), synced: self.bytes.clone(), ..Self::default() }
    }

    pub(super) fn sync(&mut self) {
        self.claimed = self.unsynced.len();
        self.sync_late();
        self.claimed = 0;
    }

    /// Makes what the sync before has claimed durable, and claims the rest.
    pub(super) fn sync_late(&mut self) {
        self.synced.resize(self.bytes.len(), 0);
        for (start, data) in self.unsynced.drain(..self.claimed) {
            put(&mut self.synced, start, &data);
        }
        self.claimed = self.unsynced.len();
    }

    pub(super) fn crash(&mut self, keep: Keep) {
        self.claimed = 0;
        let mut left = std::mem::take(&mut self.synced);
        if keep != Keep::Nothing {
            // The length is metadata, which file systems write in their own time.
            left.resize(self.bytes.len(), 0);
        }
        for (start, data) in self.unsynced.drain(..) {
            let first = if matches!(keep, Keep::Torn(_)) { SECTOR - start % SECTOR } else { data.len() };
            let (first, others) = data.split_at_checked(first).unwrap_or((&data, &[]));
            let begin = start + first.len();
            let others = others.chunks(SECTOR).enumerate();
            let others = others.map(|(number, sector)| (begin + number * SECTOR, sector));
            for (at, sector) in std::iter::once((start, first)).chain(others) {
                if keep.keeps(at as u64) {
                    put(&mut left, at, sector);
                }
            }
        }
        self.bytes.clone_from(&left);
        self.synced = left;
    }
}

/// Writes what fits: a file may have been cut shorter after the write.
fn put(bytes: &mut [u8], start: usize, data: &[u8]) {
    if let Some(target) = bytes.get_mut(start..) {
        let length = target.len().min(data.len());
        for (to, from) in target.iter_mut().zip(data.iter().take(length)) {
            *to = *from;
        }
    }
}

fn place(offset: u64) -> Result<usize, io::Error> {
    usize::try_from(offset).map_err(io::Error::other)
}
