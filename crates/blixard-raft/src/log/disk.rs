//! The one file that a log is kept in, so that a simulation can lose and spoil it.
//!
//! Owns the port and its real implementation. What was written survives a crash once it is synced; of
//! what was not, a crash leaves any sectors of 512 bytes, each whole.

use std::fmt::Debug;
use std::fs::{File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// A file that is read and written at offsets.
pub trait LogDisk: Debug + Send + Sync + 'static {
    /// Bytes of the file.
    fn size(&self) -> io::Result<u64>;

    /// Reads as much as `out` holds.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;

    /// Writes all of it, within the file's size.
    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()>;

    /// Makes the file larger, with zeros, or smaller.
    fn set_size(&self, size: u64) -> io::Result<()>;

    /// Makes what was written, and the size, survive a crash.
    fn sync(&self) -> io::Result<()>;
}

/// Why the file cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DiskError {
    /// Another process, or another node in this one, has it open.
    #[error("it is in use")]
    InUse,
    /// The system says no.
    #[error("the system does not open it")]
    Open(#[source] io::Error),
}

/// A file of the operating system, locked for this process.
#[derive(Debug)]
pub(crate) struct FileDisk(File);

impl FileDisk {
    /// Opens the file, or makes it.
    pub(crate) fn open(path: &Path) -> Result<Self, DiskError> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false);
        let file = options.open(path).map_err(DiskError::Open)?;
        match file.try_lock() {
            Ok(()) => Ok(Self(file)),
            Err(TryLockError::WouldBlock) => Err(DiskError::InUse),
            Err(TryLockError::Error(error)) => Err(DiskError::Open(error)),
        }
    }
}

impl LogDisk for FileDisk {
    fn size(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read_exact_at(out, offset)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all_at(bytes, offset)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.0.set_len(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.0.sync_data()
    }
}
