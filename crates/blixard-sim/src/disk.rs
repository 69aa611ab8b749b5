//! The disk of a node, in memory: it forgets what was not synced, fails, fills up and loses power.
//!
//! Owns what a crash leaves. Which of the writes since the last sync it leaves depends on where they
//! are and on a number, not on their order, so that one seed gives one outcome whatever order a
//! database writes its pages in. A handle to the disk works until the power goes; after that, new
//! ones are taken.

mod files;
mod platter;
#[cfg(test)]
mod tests;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_raft::{LogDisk, SharedFiles};

use files::{DiskFiles, Tree};
pub use platter::Keep;
use platter::Platter;

/// A disk; clones are the same disk.
#[derive(Debug, Clone, Default)]
pub struct Disk(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    log: Platter,
    tree: Tree,
    /// Counts the times that the power went; a handle is of one.
    powered: u64,
    on: bool,
    trouble: Trouble,
    /// The power goes after so many more writes, and leaves this.
    cut: Option<(u64, Keep)>,
    writes: u64,
}

/// What is wrong with a disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Trouble {
    /// Nothing.
    #[default]
    None,
    /// Syncs fail, and what was to be synced is lost in part.
    SyncsFail(Keep),
    /// Nothing can be written that was not there.
    Full,
    /// A sync of the log makes only that durable which the one before should have: what was written
    /// last is acknowledged too early.
    Lies,
}

impl Disk {
    /// Switches it on, unless it is: handles that are taken now work.
    pub fn power_on(&self) {
        self.lock().on = true;
    }

    /// Takes the power away: what is left is as `keep` says, and all handles are dead.
    pub fn power_off(&self, keep: Keep) {
        self.lock().power_off(keep);
    }

    /// Takes the power away in the midst of what is written next.
    pub fn power_off_after(&self, writes: u64, keep: Keep) {
        self.lock().cut = Some((writes, keep));
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        self.lock().on
    }

    /// Makes something go wrong from now on, or nothing any more.
    pub fn trouble(&self, trouble: Trouble) {
        self.lock().trouble = trouble;
    }

    /// A disk of its own with what this one's log part holds now.
    #[must_use]
    pub fn copied(&self) -> Self {
        let log = self.lock().log.copied();
        Self(Arc::new(Mutex::new(Inner { log, on: true, ..Inner::default() })))
    }

    /// How many writes were made to it.
    pub fn writes(&self) -> u64 {
        self.lock().writes
    }

    /// The part that holds the log.
    pub fn log(&self) -> Box<dyn LogDisk> {
        Box::new(LogPart { powered: self.lock().powered, disk: self.clone() })
    }

    /// The part that holds checkpoints.
    pub fn files(&self) -> SharedFiles {
        Arc::new(DiskFiles { powered: self.lock().powered, disk: self.clone() })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk, for someone who took a handle when it was powered for this time.
    fn as_of(&self, powered: u64) -> Result<MutexGuard<'_, Inner>, io::Error> {
        let inner = self.lock();
        if inner.on && inner.powered == powered { Ok(inner) } else { Err(gone()) }
    }
}

fn gone() -> io::Error {
    io::Error::other("the power went")
}

impl Inner {
    fn power_off(&mut self, keep: Keep) {
        if !self.on {
            return;
        }
        self.on = false;
        self.powered += 1;
        self.cut = None;
        self.trouble = Trouble::None;
        self.log.crash(keep);
        self.tree.crash(keep);
    }

    /// Counts a step that changes something; the power may go before it.
    fn step(&mut self) -> Result<(), io::Error> {
        self.writes += 1;
        if let Some((left, keep)) = &mut self.cut {
            if *left == 0 {
                let keep = *keep;
                self.power_off(keep);
                return Err(gone());
            }
            *left -= 1;
        }
        Ok(())
    }

    /// A step that takes space.
    fn grow(&mut self) -> Result<(), io::Error> {
        self.step()?;
        if self.trouble == Trouble::Full { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }

    /// Whether a sync is to be done; a lie if it says that it was.
    fn sync(&mut self) -> Result<Sync, io::Error> {
        self.step()?;
        match self.trouble {
            Trouble::SyncsFail(keep) => {
                self.log.crash(keep);
                self.tree.crash(keep);
                Err(io::Error::other("the disk cannot sync"))
            }
            Trouble::Lies => Ok(Sync::Late),
            Trouble::None | Trouble::Full => Ok(Sync::Real),
        }
    }
}

/// What a sync does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sync {
    Real,
    Late,
}

/// The log's part, as a node sees it.
#[derive(Debug)]
struct LogPart {
    disk: Disk,
    powered: u64,
}

impl LogDisk for LogPart {
    fn size(&self) -> Result<u64, io::Error> {
        Ok(self.disk.as_of(self.powered)?.log.bytes().len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), io::Error> {
        self.disk.as_of(self.powered)?.log.read(offset, out)
    }

    fn set_size(&self, length: u64) -> Result<(), io::Error> {
        let mut inner = self.disk.as_of(self.powered)?;
        if length > inner.log.bytes().len() as u64 {
            inner.grow()?;
        } else {
            inner.step()?;
        }
        inner.log.set_len(length)
    }

    fn sync(&self) -> Result<(), io::Error> {
        let mut inner = self.disk.as_of(self.powered)?;
        match inner.sync()? {
            Sync::Real => inner.log.sync(),
            Sync::Late => inner.log.sync_late(),
        }
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> Result<(), io::Error> {
        let mut inner = self.disk.as_of(self.powered)?;
        inner.grow()?;
        inner.log.write(offset, data)
    }
}
