//! Makes the tree of a NAR, piece by piece, and computes its hash on the way.
//!
//! Owns: what may be a name, a link and a tree; modes and times as Nix has them in its store. Refuses to
//! know: what the hash should be, and where pieces come from: nothing in them is trusted. No link is
//! ever followed: everything is made by name below an open folder.

use std::fs::File;
use std::io::{self, Write as _};
use std::os::fd::{AsFd, OwnedFd};

use blixard_types::Sha256Hash;
use rustix::fs::{AtFlags, Mode, OFlags, Timespec, Timestamps, UTIME_OMIT};

use super::DEPTH_MAX;
use super::hasher::NarHasher;
use super::pieces::Piece;

/// Longest name of a file (NAME_MAX) and longest target of a link (PATH_MAX without its NUL).
const NAME_MAX: usize = 255;
const TARGET_MAX: usize = 4095;

/// Why a tree was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlantError {
    /// The pieces are no tree that may be in the store. Whoever sent them is at fault.
    #[error("{0}")]
    Bad(String),
    /// The tree cannot be written. Who sent it is not at fault.
    #[error("cannot write")]
    Write(#[source] io::Error),
}

/// A tree that is being made.
#[derive(Debug)]
pub(crate) struct Plant<'a> {
    store: &'a OwnedFd,
    root: Vec<u8>,
    hasher: NarHasher,
    /// NAR bytes that there may be.
    size_max: u64,
    folders: Vec<Folder>,
    file: Option<OpenFile>,
    complete: bool,
}

#[derive(Debug)]
struct Folder {
    fd: OwnedFd,
    /// The name that was made last: the next must come after it.
    last: Vec<u8>,
}

#[derive(Debug)]
struct OpenFile {
    file: File,
    size: u64,
    left: u64,
}

impl<'a> Plant<'a> {
    /// A tree of this name in this folder. Its NAR may have so many bytes and no more.
    pub(crate) fn new(store: &'a OwnedFd, root: &str, size_max: u64) -> Self {
        Self {
            store,
            root: root.as_bytes().to_vec(),
            hasher: NarHasher::new(),
            size_max,
            folders: Vec::new(),
            file: None,
            complete: false,
        }
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When the piece may not be there, or cannot be written. The tree is of no use then.
    pub(crate) fn take(&mut self, piece: Piece<'_>) -> Result<(), PlantError> {
        match piece {
            Piece::Directory { name } => self.directory(name)?,
            Piece::Up => self.up()?,
            Piece::File { name, executable, size } => self.file(name, executable, size)?,
            Piece::Data(bytes) => self.data(bytes)?,
            Piece::Symlink { name, target } => self.symlink(name, target)?,
        }
        if self.hasher.size() > self.size_max {
            return Err(bad(&format!("it has more than {} bytes", self.size_max)));
        }
        Ok(())
    }

    /// Ends the tree: its hash and size as a NAR.
    ///
    /// # Errors
    /// When pieces are missing.
    pub(crate) fn finish(self) -> Result<(Sha256Hash, u64), PlantError> {
        if !self.complete {
            return Err(bad("it ends in the middle"));
        }
        let size = self.hasher.size();
        Ok((self.hasher.finish(), size))
    }

    fn directory(&mut self, name: &[u8]) -> Result<(), PlantError> {
        self.admit(name)?;
        if self.folders.len() + 1 >= DEPTH_MAX {
            return Err(bad(&format!("it is more than {DEPTH_MAX} folders deep")));
        }
        let (parent, own) = self.place(name);
        rustix::fs::mkdirat(parent, own, Mode::RWXU).map_err(write)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, own, flags, Mode::empty()).map_err(write)?;
        self.hasher.start_directory(some(name));
        self.folders.push(Folder { fd, last: Vec::new() });
        Ok(())
    }

    fn up(&mut self) -> Result<(), PlantError> {
        self.ensure_no_file()?;
        let folder = self.folders.pop().ok_or_else(|| bad("a folder ends that never began"))?;
        rustix::fs::fchmod(&folder.fd, Mode::from_raw_mode(0o555)).map_err(write)?;
        rustix::fs::futimens(&folder.fd, &stored_times()).map_err(write)?;
        self.hasher.end();
        self.complete = self.folders.is_empty();
        Ok(())
    }

    fn file(&mut self, name: &[u8], executable: bool, size: u64) -> Result<(), PlantError> {
        self.admit(name)?;
        if size > self.size_max {
            return Err(bad(&format!("a file of {size} bytes is in a NAR of {}", self.size_max)));
        }
        let (parent, own) = self.place(name);
        // The umask is 0: the mode is what Nix gives its files, and it is never another.
        let mode = Mode::from_raw_mode(if executable { 0o555 } else { 0o444 });
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let fd = rustix::fs::openat(parent, own, flags, mode).map_err(write)?;
        self.hasher.start_file(some(name), executable, size);
        self.file = Some(OpenFile { file: File::from(fd), size, left: size });
        self.end_file_if_full()
    }

    fn data(&mut self, bytes: &[u8]) -> Result<(), PlantError> {
        let open = self.file.as_mut().ok_or_else(|| bad("data of no file"))?;
        open.left =
            open.left.checked_sub(bytes.len() as u64).ok_or_else(|| bad("more data than its file has"))?;
        open.file.write_all(bytes).map_err(PlantError::Write)?;
        self.hasher.data(bytes);
        self.end_file_if_full()
    }

    fn end_file_if_full(&mut self) -> Result<(), PlantError> {
        let Some(open) = self.file.take_if(|open| open.left == 0) else { return Ok(()) };
        rustix::fs::futimens(&open.file, &stored_times()).map_err(write)?;
        self.hasher.end_file(open.size);
        self.complete = self.folders.is_empty();
        Ok(())
    }

    fn symlink(&mut self, name: &[u8], target: &[u8]) -> Result<(), PlantError> {
        self.admit(name)?;
        if target.is_empty() || target.len() > TARGET_MAX || target.contains(&0) {
            return Err(bad(&format!("a link leads to {:?}", shown(target))));
        }
        let (parent, own) = self.place(name);
        rustix::fs::symlinkat(target, parent, own).map_err(write)?;
        rustix::fs::utimensat(parent, own, &stored_times(), AtFlags::SYMLINK_NOFOLLOW).map_err(write)?;
        self.hasher.symlink(some(name), target);
        self.complete = self.folders.is_empty();
        Ok(())
    }

    /// Whether a node of this name may come now.
    fn admit(&mut self, name: &[u8]) -> Result<(), PlantError> {
        self.ensure_no_file()?;
        if self.complete {
            return Err(bad("it has two roots"));
        }
        let Some(folder) = self.folders.last_mut() else {
            return if name.is_empty() { Ok(()) } else { Err(bad("its root has a name")) };
        };
        if !is_name(name) {
            return Err(bad(&format!("{:?} is no name of a file", shown(name))));
        }
        if *name <= *folder.last {
            let before = shown(&folder.last);
            return Err(bad(&format!("{:?} comes after {before:?}: names must be sorted", shown(name))));
        }
        folder.last.clear();
        folder.last.extend_from_slice(name);
        Ok(())
    }

    fn ensure_no_file(&self) -> Result<(), PlantError> {
        if self.file.is_some() { Err(bad("a file ends early")) } else { Ok(()) }
    }

    /// The folder and the name under which a node is made.
    fn place<'b>(&'b self, name: &'b [u8]) -> (rustix::fd::BorrowedFd<'b>, &'b [u8]) {
        match self.folders.last() {
            Some(folder) => (folder.fd.as_fd(), name),
            None => (self.store.as_fd(), &self.root),
        }
    }
}

fn is_name(name: &[u8]) -> bool {
    let special = name == b"." || name == b"..";
    (1..=NAME_MAX).contains(&name.len()) && !special && !name.contains(&b'/') && !name.contains(&0)
}

fn some(name: &[u8]) -> Option<&[u8]> {
    if name.is_empty() { None } else { Some(name) }
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes.get(..bytes.len().min(NAME_MAX)).unwrap_or_default()).into_owned()
}

fn bad(reason: &str) -> PlantError {
    PlantError::Bad(reason.to_owned())
}

fn write(error: rustix::io::Errno) -> PlantError {
    PlantError::Write(error.into())
}

/// One second after the epoch, as everything in the store.
fn stored_times() -> Timestamps {
    Timestamps {
        last_access: Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT },
        last_modification: Timespec { tv_sec: 1, tv_nsec: 0 },
    }
}
