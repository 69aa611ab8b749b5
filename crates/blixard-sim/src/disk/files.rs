//! Files by name: contents are safe when synced, names when their directory is.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use blixard_raft::{Files, NewFile};

use super::{Disk, Inner, Keep};

/// A file's contents, whatever its name.
#[derive(Debug, Default, Clone)]
struct Contents {
    bytes: Vec<u8>,
    /// Those that survive a crash.
    synced: Vec<u8>,
}

/// All files.
#[derive(Debug, Default)]
pub(super) struct Tree {
    contents: BTreeMap<u64, Contents>,
    next: u64,
    names: BTreeMap<PathBuf, u64>,
    /// Names that survive a crash.
    synced: BTreeMap<PathBuf, u64>,
    directories: BTreeSet<PathBuf>,
}

impl Tree {
    fn of(&self, path: &Path) -> Result<(u64, &Contents), io::Error> {
        let file = self.names.get(path).ok_or(io::ErrorKind::NotFound)?;
        let contents = self.contents.get(file).ok_or(io::ErrorKind::NotFound)?;
        Ok((*file, contents))
    }

    fn check_directory(&self, path: &Path) -> Result<(), io::Error> {
        if self.directories.contains(path) { Ok(()) } else { Err(io::ErrorKind::NotFound.into()) }
    }

    fn sync_names(&mut self, directory: &Path) {
        self.synced.retain(|path, _| path.parent() != Some(directory));
        let here = self.names.iter().filter(|(path, _)| path.parent() == Some(directory));
        self.synced.extend(here.map(|(path, file)| (path.clone(), *file)));
    }

    /// A change of a name may have reached the disk or not, each by itself. Contents that were not
    /// synced are there up to some byte.
    pub(super) fn crash(&mut self, keep: Keep) {
        let touched: BTreeSet<PathBuf> = self.names.keys().chain(self.synced.keys()).cloned().collect();
        for path in touched {
            if self.names.get(&path) != self.synced.get(&path) && keep.keeps(place(&path)) {
                match self.names.get(&path) {
                    Some(file) => self.synced.insert(path, *file),
                    None => self.synced.remove(&path),
                };
            }
        }
        self.names.clone_from(&self.synced);
        let kept: BTreeSet<u64> = self.names.values().copied().collect();
        self.contents.retain(|file, _| kept.contains(file));
        for (file, contents) in &mut self.contents {
            if contents.bytes != contents.synced {
                let length = match keep {
                    Keep::Nothing => 0,
                    Keep::All => contents.bytes.len(),
                    Keep::Some(number) | Keep::Torn(number) => {
                        let bound = contents.bytes.len() as u64 + 1;
                        usize::try_from(crate::dice::mixed(number ^ *file) % bound).unwrap_or(0)
                    }
                };
                if length > contents.synced.len() {
                    contents.bytes.truncate(length);
                    contents.synced.clone_from(&contents.bytes);
                }
            }
            contents.bytes.clone_from(&contents.synced);
        }
    }
}

fn place(path: &Path) -> u64 {
    let mut hasher = DefaultHasher::new();
    path.hash(&mut hasher);
    hasher.finish()
}

/// The files of a disk, while it has power.
#[derive(Debug)]
pub(super) struct DiskFiles {
    pub(super) disk: Disk,
    pub(super) powered: u64,
}

impl DiskFiles {
    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Inner>, io::Error> {
        self.disk.as_of(self.powered)
    }
}

impl Files for DiskFiles {
    fn make_directory(&self, path: &Path) -> io::Result<()> {
        let directories = path.ancestors().map(Path::to_owned);
        self.lock()?.tree.directories.extend(directories);
        Ok(())
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.tree.check_directory(path)?;
        inner.sync()?;
        inner.tree.sync_names(path);
        Ok(())
    }

    fn list(&self, path: &Path) -> io::Result<Vec<PathBuf>> {
        let inner = self.lock()?;
        inner.tree.check_directory(path)?;
        Ok(inner.tree.names.keys().filter(|name| name.parent() == Some(path)).cloned().collect())
    }

    fn create(&self, path: &Path) -> io::Result<Box<dyn NewFile>> {
        let mut inner = self.lock()?;
        inner.tree.check_directory(path.parent().unwrap_or(path))?;
        inner.grow()?;
        let tree = &mut inner.tree;
        tree.next += 1;
        let file = tree.next;
        tree.contents.insert(file, Contents::default());
        tree.names.insert(path.to_owned(), file);
        Ok(Box::new(Open { disk: self.disk.clone(), powered: self.powered, file, read: 0 }))
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn Read + Send + Sync>> {
        let (file, _) = self.lock()?.tree.of(path)?;
        Ok(Box::new(Open { disk: self.disk.clone(), powered: self.powered, file, read: 0 }))
    }

    fn size(&self, path: &Path) -> io::Result<u64> {
        Ok(self.lock()?.tree.of(path)?.1.bytes.len() as u64)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.step()?;
        let file = inner.tree.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        inner.tree.names.insert(to.to_owned(), file);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut inner = self.lock()?;
        inner.step()?;
        inner.tree.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(())
    }
}

/// An open file. What it holds stays while the disk has power, whatever happens to its name.
struct Open {
    disk: Disk,
    powered: u64,
    file: u64,
    read: usize,
}

impl Read for Open {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let inner = self.disk.as_of(self.powered)?;
        let contents = inner.tree.contents.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        let left = contents.bytes.get(self.read..).unwrap_or_default();
        let length = left.len().min(out.len());
        for (to, from) in out.iter_mut().zip(left) {
            *to = *from;
        }
        self.read += length;
        Ok(length)
    }
}

impl Write for Open {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        let mut inner = self.disk.as_of(self.powered)?;
        inner.grow()?;
        let contents = inner.tree.contents.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        contents.bytes.extend_from_slice(data);
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl NewFile for Open {
    fn sync(&mut self) -> io::Result<()> {
        let mut inner = self.disk.as_of(self.powered)?;
        inner.sync()?;
        let contents = inner.tree.contents.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        contents.synced.clone_from(&contents.bytes);
        Ok(())
    }
}
