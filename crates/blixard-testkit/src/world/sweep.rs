//! Removing what worlds left behind whose keeper is gone.
//!
//! A keeper holds the lock of its world's folder for as long as it lives; a folder whose lock can be had
//! is nobody's. Called with the lock of all worlds held.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::Context as _;
use rustix::fs::FlockOperation;

use super::Cgroup;

/// Whether the keeper of the world in this folder lives.
pub(super) fn is_alive(folder: &Path) -> anyhow::Result<bool> {
    let lock = match File::open(folder.join("lock")) {
        Ok(lock) => lock,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error).context("cannot open the lock of a world"),
    };
    Ok(rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_err())
}

/// Removes the folders and cgroups of dead worlds.
pub(super) fn sweep(worlds: &Path, base: &Cgroup) -> anyhow::Result<()> {
    for entry in fs::read_dir(worlds).context("cannot list the worlds")?.flatten() {
        let folder = entry.path();
        if folder.is_dir() && !is_alive(&folder)? {
            // Killed with its keeper; this is for one that could not die at once.
            base.child(&entry.file_name().to_string_lossy()).kill()?;
            fs::remove_dir_all(&folder).with_context(|| format!("cannot remove {}", folder.display()))?;
        }
    }
    for cgroup in base.children()? {
        let folder = cgroup.path().file_name().map(|name| worlds.join(name));
        if folder.is_some_and(|folder| !folder.exists()) && !cgroup.is_populated() {
            cgroup.remove()?;
        }
    }
    Ok(())
}
