//! The few operations on files that checkpoints need, so that a simulation can lose and spoil them.
//!
//! Owns the port and its real implementation. What was written to a file survives a crash once it is
//! synced; a name, new, changed or removed, once its directory is.

use std::fmt::Debug;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Files in directories.
pub trait Files: Debug + Send + Sync + 'static {
    /// Makes a directory and those above it, unless they are there.
    fn make_directory(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory survive a crash.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// What is in a directory, in any order.
    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>>;

    /// Makes a file, empty even if there was one.
    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>>;

    /// Opens a file. It can be read to its end even if it is replaced or removed meanwhile.
    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send + Sync>>;

    /// Bytes of a file.
    fn size(&self, path: &Path) -> io::Result<u64>;

    /// Gives a file another name, over what had it.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;
}

/// A file that is being written.
pub trait NewFile: Write + Send + Sync {
    /// Makes what was written survive a crash.
    fn sync(&mut self) -> io::Result<()>;
}

/// A handle to files.
pub type SharedFiles = Arc<dyn Files>;

/// Files of the operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct RealFiles;

impl Files for RealFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        fs::create_dir_all(path)
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        File::open(path)?.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(path)?.map(|found| Ok(found?.path())).collect()
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        Ok(Box::new(File::create(path)?))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send + Sync>> {
        Ok(Box::new(File::open(path)?))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(fs::metadata(path)?.len())
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl NewFile for File {
    fn sync(&mut self) -> io::Result<()> {
        self.sync_all()
    }
}
