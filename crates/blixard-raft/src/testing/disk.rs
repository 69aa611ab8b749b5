//! A disk in memory that forgets what was not synced, counts its syncs, and can break.

use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crate::LogDisk;

/// What is written whole or not at all.
const SECTOR: usize = 512;

/// A disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub(crate) struct Disk(Arc<(Mutex<Platter>, Condvar)>);

/// What a crash leaves of the writes since the last sync.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Keep {
    Nothing,
    /// Some of their sectors, in no order; which ones depends on the seed.
    Some(u64),
}

#[derive(Debug, Default)]
struct Platter {
    /// As the running program sees it.
    bytes: Vec<u8>,
    /// As it was at the last sync.
    synced: Vec<u8>,
    /// Writes since then.
    unsynced: Vec<(usize, Vec<u8>)>,
    syncs: usize,
    writes: usize,
    broken: bool,
    held: bool,
    /// A full disk has no blocks for what begins here.
    full_from: Option<usize>,
}

impl Disk {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// The disk that is found when the power comes back. This one runs on.
    pub(crate) fn after_a_crash(&self, keep: Keep) -> Self {
        let platter = self.lock();
        let mut bytes = platter.synced.clone();
        if let Keep::Some(seed) = keep {
            bytes.resize(platter.bytes.len(), 0);
            let mut state = seed | 1;
            for (offset, data) in &platter.unsynced {
                for (offset, sector) in sectors(*offset, data) {
                    state ^= state << 13;
                    state ^= state >> 7;
                    state ^= state << 17;
                    if state.is_multiple_of(2) && offset + sector.len() <= bytes.len() {
                        bytes[offset..offset + sector.len()].copy_from_slice(sector);
                    }
                }
            }
        }
        Self::with(bytes)
    }

    /// A copy of this disk with one byte damaged.
    pub(crate) fn with_a_flipped_byte(&self, offset: usize) -> Self {
        let mut bytes = self.lock().bytes.clone();
        bytes[offset] ^= 0xff;
        Self::with(bytes)
    }

    pub(crate) fn size(&self) -> usize {
        self.lock().bytes.len()
    }

    pub(crate) fn syncs(&self) -> usize {
        self.lock().syncs
    }

    pub(crate) fn writes(&self) -> usize {
        self.lock().writes
    }

    /// Every sync fails from now on.
    pub(crate) fn break_down(&self) {
        self.lock().broken = true;
    }

    /// There is no room for more than the file has now.
    pub(crate) fn fill_up(&self) {
        let mut platter = self.lock();
        platter.full_from = Some(platter.bytes.len());
    }

    /// Somebody has made room.
    pub(crate) fn clear_up(&self) {
        self.lock().full_from = None;
    }

    /// Syncs wait from now on, until they are let go.
    pub(crate) fn hold_syncs(&self) {
        self.lock().held = true;
    }

    pub(crate) fn let_syncs_go(&self) {
        self.lock().held = false;
        self.0.1.notify_all();
    }

    fn with(bytes: Vec<u8>) -> Self {
        let platter = Platter { synced: bytes.clone(), bytes, ..Platter::default() };
        Self(Arc::new((Mutex::new(platter), Condvar::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Platter> {
        self.0.0.lock().unwrap()
    }
}

/// The parts of a write that a disk writes whole or not at all.
fn sectors(offset: usize, data: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let (first, others) = data.split_at((SECTOR - offset % SECTOR).min(data.len()));
    let others = others.chunks(SECTOR).enumerate();
    let begin = offset + first.len();
    std::iter::once((offset, first)).chain(others.map(move |(number, part)| (begin + number * SECTOR, part)))
}

impl LogDisk for Disk {
    fn size(&self) -> Result<u64, io::Error> {
        Ok(self.lock().bytes.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        let platter = self.lock();
        let found = platter.bytes.get(start..start + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(found);
        Ok(())
    }

    fn set_size(&self, size: u64) -> Result<(), io::Error> {
        self.lock().bytes.resize(usize::try_from(size).unwrap(), 0);
        Ok(())
    }

    fn sync(&self) -> Result<(), io::Error> {
        let mut platter = self.0.1.wait_while(self.lock(), |platter| platter.held).unwrap();
        if platter.broken {
            return Err(io::Error::other("the disk is on fire"));
        }
        platter.syncs += 1;
        let size = platter.bytes.len();
        platter.synced.resize(size, 0);
        for (offset, data) in std::mem::take(&mut platter.unsynced) {
            if let Some(target) = platter.synced.get_mut(offset..offset + data.len()) {
                target.copy_from_slice(&data);
            }
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let start = usize::try_from(offset).unwrap();
        let mut platter = self.lock();
        if platter.full_from.is_some_and(|full| start + data.len() > full) {
            return Err(io::ErrorKind::StorageFull.into());
        }
        let target = platter.bytes.get_mut(start..start + data.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        target.copy_from_slice(data);
        platter.unsynced.push((start, data.to_vec()));
        platter.writes += 1;
        Ok(())
    }
}
