//! The paths that are missing, and the trees that are made for them in the store's folder.
//!
//! Owns: the folder, the names of unfinished trees, and what is in place. Refuses to know: Nix's
//! database.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use blixard_types::PathRecord;
use rustix::fs::{Mode, OFlags, StatVfsMountFlags};
use rustix::mount::{MountFlags, MountPropagationFlags};

use super::leftover;
use crate::nar::pieces::Piece;
use crate::nar::plant::{Plant, PlantError};

/// The store.
pub(super) const STORE: &str = "/nix/store";

/// What came of an order.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Landing {
    /// Nothing to say yet.
    GoesOn,
    /// The path is in place.
    Landed(u32),
    /// What came was something else.
    Refused(u32, String),
}

/// Why no order is taken any more.
#[derive(Debug)]
pub(super) enum Trouble {
    /// It cannot come now.
    Order(&'static str),
    /// The store's folder cannot be written.
    Write(io::Error),
}

/// The missing paths.
#[derive(Debug)]
pub(super) struct Places<'a> {
    store: &'a OwnedFd,
    missing: BTreeMap<u32, &'a PathRecord>,
    landed: BTreeMap<u32, &'a PathRecord>,
    lanes: BTreeMap<u8, Lane<'a>>,
}

#[derive(Debug)]
enum Lane<'a> {
    /// A tree is being made.
    Making { path: u32, record: &'a PathRecord, plant: Box<Plant<'a>> },
    /// What comes is of no use: it has landed, or was refused.
    Skipping { path: u32, landed: bool },
}

impl<'a> Places<'a> {
    pub(super) fn new(store: &'a OwnedFd, missing: BTreeMap<u32, &'a PathRecord>) -> Self {
        Self { store, missing, landed: BTreeMap::new(), lanes: BTreeMap::new() }
    }

    /// The places of the paths that have not landed.
    pub(super) fn open(&self) -> impl Iterator<Item = u32> {
        self.missing.keys().copied()
    }

    /// Takes over what an import that was killed, or a crashed build, has left under a path's own name,
    /// if it is what it should be; everything else in the way is removed.
    pub(super) fn take_leftovers(&mut self) -> io::Result<()> {
        let records: Vec<_> = self.missing.iter().map(|(&path, &record)| (path, record)).collect();
        for (path, record) in records {
            let at = record.path.as_path();
            if fs::symlink_metadata(at).is_err() {
                continue;
            }
            if leftover::is_whole(at, record) {
                self.missing.remove(&path);
                self.landed.insert(path, record);
            } else {
                remove(at)?;
            }
        }
        Ok(())
    }

    pub(super) fn begin(&mut self, lane: u8, path: u32) -> Result<Landing, Trouble> {
        if self.lanes.contains_key(&lane) {
            return Err(Trouble::Order("a path within a path"));
        }
        let made = match self.missing.get(&path) {
            Some(&record) => {
                remove(&unfinished(lane, record)).map_err(Trouble::Write)?;
                let plant = Box::new(Plant::new(self.store, &unfinished_name(lane, record), record.nar_size));
                Lane::Making { path, record, plant }
            }
            // It came from another peer meanwhile.
            None if self.landed.contains_key(&path) => Lane::Skipping { path, landed: true },
            None => return Err(Trouble::Order("a path that is not missing")),
        };
        self.lanes.insert(lane, made);
        Ok(Landing::GoesOn)
    }

    pub(super) fn piece(&mut self, lane: u8, piece: Piece<'_>) -> Result<Landing, Trouble> {
        let state = self.lanes.get_mut(&lane).ok_or(Trouble::Order("a piece of no path"))?;
        let Lane::Making { path, record, plant } = state else { return Ok(Landing::GoesOn) };
        match plant.take(piece) {
            Ok(()) => Ok(Landing::GoesOn),
            Err(PlantError::Write(cause)) => Err(Trouble::Write(cause)),
            Err(PlantError::Bad(reason)) => {
                let (path, unfinished) = (*path, unfinished(lane, record));
                self.lanes.insert(lane, Lane::Skipping { path, landed: false });
                remove(&unfinished).map_err(Trouble::Write)?;
                Ok(Landing::Refused(path, reason))
            }
        }
    }

    pub(super) fn end(&mut self, lane: u8) -> Result<Landing, Trouble> {
        match self.lanes.remove(&lane).ok_or(Trouble::Order("the end of no path"))? {
            Lane::Skipping { landed: false, .. } => Ok(Landing::GoesOn),
            Lane::Skipping { path, landed: true } => Ok(Landing::Landed(path)),
            Lane::Making { path, record, plant } => self.land(lane, path, record, *plant),
        }
    }

    fn land(
        &mut self,
        lane: u8,
        path: u32,
        record: &'a PathRecord,
        plant: Plant<'a>,
    ) -> Result<Landing, Trouble> {
        let unfinished = unfinished(lane, record);
        let reason = match plant.finish() {
            Ok(made) if made == (record.nar_hash, record.nar_size) => None,
            Ok((hash, size)) => Some(format!(
                "{} has {size} bytes with the hash {hash}, its record says {} with {}",
                record.path, record.nar_size, record.nar_hash
            )),
            Err(PlantError::Bad(reason)) => Some(reason),
            Err(PlantError::Write(cause)) => {
                let _ = remove(&unfinished);
                return Err(Trouble::Write(cause));
            }
        };
        if let Some(reason) = reason {
            remove(&unfinished).map_err(Trouble::Write)?;
            return Ok(Landing::Refused(path, reason));
        }
        if self.landed.contains_key(&path) {
            remove(&unfinished).map_err(Trouble::Write)?;
        } else {
            fs::rename(unfinished, record.path.as_path()).map_err(Trouble::Write)?;
            self.missing.remove(&path);
            self.landed.insert(path, record);
        }
        Ok(Landing::Landed(path))
    }

    pub(super) fn abort(&mut self, lane: u8) -> Result<Landing, Trouble> {
        if let Some(Lane::Making { record, .. }) = self.lanes.remove(&lane) {
            remove(&unfinished(lane, record)).map_err(Trouble::Write)?;
        }
        Ok(Landing::GoesOn)
    }

    /// The records of what has landed and is not registered yet.
    pub(super) fn take_landed(&mut self) -> Vec<&'a PathRecord> {
        self.landed.values().copied().collect()
    }

    /// Removes unfinished trees. What has landed stays: the next import takes it over.
    pub(super) fn clean_up(&mut self) {
        for (lane, state) in std::mem::take(&mut self.lanes) {
            if let Lane::Making { record, .. } = state {
                let _ = remove(&unfinished(lane, record));
            }
        }
    }
}

/// The hash part is the path's own, so that a collection keeps it for as long as it keeps the path.
fn unfinished_name(lane: u8, record: &PathRecord) -> String {
    format!("{}.tmp-{lane}", record.path.basename())
}

fn unfinished(lane: u8, record: &PathRecord) -> PathBuf {
    Path::new(STORE).join(unfinished_name(lane, record))
}

/// Removes whatever is there; following no link.
pub(super) fn remove(path: &Path) -> io::Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) => Err(error),
    };
    match removed {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Mounts of this process are nobody else's from here on.
pub(super) fn keep_mounts_private() -> io::Result<()> {
    let flags = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    Ok(rustix::mount::mount_change("/", flags)?)
}

/// The store's folder, writable for this process whatever it is for others (NixOS mounts it read-only).
pub(super) fn open_store() -> io::Result<OwnedFd> {
    if rustix::fs::statvfs(STORE)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        rustix::mount::mount_bind(STORE, STORE)?;
        rustix::mount::mount_remount(STORE, MountFlags::BIND, "")?;
    }
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(rustix::fs::open(STORE, flags, Mode::empty())?)
}

pub(super) fn free_bytes(store: &OwnedFd) -> io::Result<u64> {
    let stat = rustix::fs::fstatvfs(store)?;
    Ok(stat.f_bavail.saturating_mul(stat.f_frsize))
}
