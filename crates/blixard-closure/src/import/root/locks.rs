//! Nix's own locks of store paths, so that no build makes a path at the same time.
//!
//! `<path>.lock`, held by flock(2); a lock file with a byte in it has been removed and is no lock any more
//! (`src/libstore/pathlocks.cc` and `unix/pathlocks.cc`).

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

use blixard_types::StorePath;
use rustix::fs::FlockOperation;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Locks, given back when they are dropped.
#[derive(Debug, Default)]
pub(super) struct Locks(Vec<(PathBuf, File)>);

impl Locks {
    /// Waits for the locks of these paths, one after another in their order, which is Nix's.
    pub(super) fn take(paths: &[&StorePath]) -> io::Result<Self> {
        make_room();
        let mut locks = Self::default();
        for path in paths {
            let name = PathBuf::from(format!("{path}.lock"));
            let file = lock(&name)?;
            locks.0.push((name, file));
        }
        Ok(locks)
    }
}

fn lock(name: &PathBuf) -> io::Result<File> {
    loop {
        let file = File::options().read(true).write(true).create(true).truncate(false).open(name)?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)?;
        if file.metadata()?.len() == 0 {
            return Ok(file);
        }
    }
}

impl Drop for Locks {
    fn drop(&mut self) {
        for (name, mut file) in self.0.drain(..) {
            // In this order: whoever waits for the lock finds the byte, and makes a new one.
            let _ = fs::remove_file(name);
            let _ = file.write_all(b"d");
        }
    }
}

/// A file for each path, and some.
fn make_room() {
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}
