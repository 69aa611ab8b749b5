//! Keeps our folder of garbage collector roots: links to store paths, durable one by one.
//!
//! Owns: the folder below the collector's, its links and sub-folders. Refuses to know: what a root is
//! kept for, and whether its path is in the store.
//!
//! A link is made under a name that begins with `.new-` and renamed; what a crash leaves is replaced
//! or removed with the next change of the same root, and never listed.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::ports::nix::{RootError, RootName, Sharing};
use blixard_types::StorePath;

use crate::root_name::{DEPTH_MAX, RootFile, is_component};

/// The folder. Its changes are made one at a time: removing an empty sub-folder must not meet the
/// making of a link in it.
#[derive(Debug, Clone)]
pub(crate) struct RootsFolder {
    folder: PathBuf,
    changing: Arc<Mutex<()>>,
}

/// A sub-folder that should lead to a root.
enum Reached {
    Folder(PathBuf),
    Absent,
}

impl RootsFolder {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, changing: Arc::default() }
    }

    /// Makes the links, or points them elsewhere; each folder is made durable once.
    pub(crate) async fn add(&self, roots: Vec<(RootName, StorePath)>) -> Result<(), RootError> {
        let Self { folder, changing } = self.clone();
        let added = blocking(move || {
            let _one_at_a_time = changing.lock().unwrap_or_else(PoisonError::into_inner);
            Ok(add_all(&folder, &roots))
        });
        let added = added.await.unwrap_or_else(|cause| Err((String::new(), cause)));
        added.map_err(|(name, cause)| self.error("add", &name, cause))
    }

    /// Makes the link, if the holder leads to the same path before and after.
    pub(crate) async fn share(
        &self,
        name: RootName,
        path: StorePath,
        holder: RootName,
    ) -> Result<Sharing, RootError> {
        let holder = RootFile::parse(&holder).map_err(|cause| self.error("read", &holder.0, cause))?;
        self.change("add", name, move |folder, root| share(folder, root, &path, &holder)).await
    }

    /// Removes the link, and the folders that are empty without it.
    pub(crate) async fn remove(&self, name: RootName) -> Result<(), RootError> {
        self.change("remove", name, remove).await
    }

    /// All links, sorted by name.
    pub(crate) async fn list(&self) -> Result<Vec<(RootName, StorePath)>, RootError> {
        let folder = self.folder.clone();
        let listed = blocking(move || {
            let mut roots = Vec::new();
            list(&folder, "", 0, &mut roots)?;
            roots.sort();
            Ok(roots)
        });
        listed.await.map_err(|cause| self.error("list", "", cause))
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.folder
    }

    pub(crate) fn error(&self, action: &'static str, name: &str, cause: io::Error) -> RootError {
        let root = self.folder.join(name).to_string_lossy().into_owned();
        RootError { action, root, cause }
    }

    async fn change<T: Send + 'static>(
        &self,
        action: &'static str,
        name: RootName,
        step: impl FnOnce(&Path, &RootFile) -> io::Result<T> + Send + 'static,
    ) -> Result<T, RootError> {
        let Self { folder, changing } = self.clone();
        let root = RootFile::parse(&name);
        let changed = blocking(move || {
            let _one_at_a_time = changing.lock().unwrap_or_else(PoisonError::into_inner);
            step(&folder, &root?)
        });
        changed.await.map_err(|cause| self.error(action, &name.0, cause))
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

fn add_all(folder: &Path, roots: &[(RootName, StorePath)]) -> Result<(), (String, io::Error)> {
    let mut changed = BTreeMap::new();
    for (name, path) in roots {
        let added = RootFile::parse(name).and_then(|root| add(folder, &root, path));
        changed.insert(added.map_err(|cause| (name.0.clone(), cause))?, name);
    }
    for (within, name) in changed {
        sync(&within).map_err(|cause| (name.0.clone(), cause))?;
    }
    Ok(())
}

fn share(folder: &Path, root: &RootFile, path: &StorePath, holder: &RootFile) -> io::Result<Sharing> {
    if !leads_to(folder, holder, path)? {
        return Ok(Sharing::NotHeld);
    }
    if root == holder {
        // It was made durable when it was made. One that leads nowhere keeps nothing.
        return Ok(if path.as_path().try_exists()? { Sharing::Shared } else { Sharing::NotHeld });
    }
    sync(&add(folder, root, path)?)?;
    Ok(if leads_to(folder, holder, path)? { Sharing::Shared } else { Sharing::NotHeld })
}

fn leads_to(folder: &Path, root: &RootFile, path: &StorePath) -> io::Result<bool> {
    let Reached::Folder(within) = reach(folder, &root.folders)? else {
        return Ok(false);
    };
    let link = within.join(&root.file);
    Ok(is_link(&link)? && target(&link)?.as_ref() == Some(path))
}

/// Makes the link; gives the folder it is in, which is not durable yet.
fn add(folder: &Path, root: &RootFile, path: &StorePath) -> io::Result<PathBuf> {
    make_base(folder)?;
    let mut within = folder.to_owned();
    for part in &root.folders {
        make_folder(&mut within, part)?;
    }
    let unfinished = unfinished(&within, root);
    remove_file(&unfinished)?;
    symlink(path.as_path(), &unfinished)?;
    if let Err(error) = fs::rename(&unfinished, within.join(&root.file)) {
        remove_file(&unfinished)?;
        return Err(error);
    }
    Ok(within)
}

fn remove(folder: &Path, root: &RootFile) -> io::Result<()> {
    let Reached::Folder(within) = reach(folder, &root.folders)? else {
        return Ok(());
    };
    remove_file(&unfinished(&within, root))?;
    let link = within.join(&root.file);
    if is_link(&link)? {
        remove_file(&link)?;
        sync(&within)?;
    }
    remove_empty(folder, within)
}

/// Removes the folders that are empty, from `within` up to but without `folder`.
fn remove_empty(folder: &Path, mut within: PathBuf) -> io::Result<()> {
    while within != folder {
        match fs::remove_dir(&within) {
            Ok(()) => (),
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => return Ok(()),
            Err(error) => return Err(error),
        }
        within.pop();
        sync(&within)?;
    }
    Ok(())
}

fn list(folder: &Path, prefix: &str, depth: usize, roots: &mut Vec<(RootName, StorePath)>) -> io::Result<()> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let Some(part) = entry.file_name().into_string().ok().filter(|part| is_component(part)) else {
            continue;
        };
        let name = format!("{prefix}{part}");
        let kind = entry.file_type()?;
        if kind.is_dir() && depth + 1 < DEPTH_MAX {
            list(&entry.path(), &format!("{name}/"), depth + 1, roots)?;
        } else if kind.is_symlink() {
            if let Some(path) = target(&entry.path())? {
                roots.push((RootName(name), path));
            } else {
                tracing::warn!(root = name, "does not point at a store path");
            }
        }
    }
    Ok(())
}

/// Where a link points, if to a store path; it may have been removed meanwhile.
fn target(link: &Path) -> io::Result<Option<StorePath>> {
    match fs::read_link(link) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        target => Ok(target?.to_str().and_then(|text| text.parse().ok())),
    }
}

/// The folder itself is the operator's to place, so its parents may be links.
fn make_base(folder: &Path) -> io::Result<()> {
    if !folder.try_exists()? {
        fs::create_dir_all(folder)?;
        if let Some(parent) = folder.parent() {
            sync(parent)?;
        }
    }
    Ok(())
}

/// Goes down into a sub-folder, and makes it if it is not there. Never through a link: a root is one,
/// and leads into the store.
fn make_folder(within: &mut PathBuf, part: &str) -> io::Result<()> {
    let parent = within.clone();
    within.push(part);
    match fs::create_dir(&within) {
        Ok(()) => sync(&parent),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => check_folder(within),
        Err(error) => Err(error),
    }
}

fn reach(folder: &Path, parts: &[String]) -> io::Result<Reached> {
    let mut within = folder.to_owned();
    for part in parts {
        within.push(part);
        match check_folder(&within) {
            Ok(()) => (),
            Err(error) if is_absence(&error) => return Ok(Reached::Absent),
            Err(error) => return Err(error),
        }
    }
    Ok(Reached::Folder(within))
}

fn check_folder(path: &Path) -> io::Result<()> {
    if fs::symlink_metadata(path)?.is_dir() { Ok(()) } else { Err(io::ErrorKind::NotADirectory.into()) }
}

fn is_link(path: &Path) -> io::Result<bool> {
    match fs::symlink_metadata(path) {
        Ok(metadata) => Ok(metadata.is_symlink()),
        Err(error) if is_absence(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove_file(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if is_absence(&error) => Ok(()),
        removed => removed,
    }
}

fn is_absence(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

fn unfinished(within: &Path, root: &RootFile) -> PathBuf {
    within.join(format!(".new-{}", root.file))
}

fn sync(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests;
