//! The images of one vm, in the directory that its runner writes.
//!
//! Whatever runs there can put links and files of its own into it, and we are root: every step goes through an
//! open directory, follows no link, and touches plain files with one name only.

use std::fs::DirBuilder;
use std::io::{Error, ErrorKind};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use blixard_core::ports::volumes::{VolumeError, VolumeImage};
use blixard_types::{Epoch, VmId};
use rustix::fd::{AsFd as _, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, IFlags, Mode, OFlags, RenameFlags, Uid, fchmod, fchown, fstat, fsync,
    ftruncate, ioctl_getflags, ioctl_setflags, mkdirat, openat, readlinkat, renameat_with, statat, symlinkat,
    unlinkat,
};
use rustix::io::Errno;

use crate::format::Formatter;

/// Who may write an image.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Owner {
    pub(crate) user: u32,
    pub(crate) group: u32,
}

/// The directory of a vm.
#[derive(Debug)]
pub(crate) struct Home {
    folder: OwnedFd,
    path: String,
    formatter: Formatter,
}

const FOLDER: OFlags = OFlags::DIRECTORY.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);
const IMAGE: OFlags = OFlags::RDWR.union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC).union(OFlags::NONBLOCK);
const PRIVATE_FOLDER: Mode = Mode::RWXU;
const PRIVATE_FILE: Mode = Mode::RUSR.union(Mode::WUSR);

impl Home {
    /// Opens it, and makes it if it is not there, for root: who starts the vm gives it away.
    pub(crate) fn make(state_dir: &Path, vm: &VmId, formatter: Formatter) -> Result<Self, VolumeError> {
        let path = state_dir.join("vms").join(vm.tenant().as_str()).join(vm.name().as_str());
        let shown = path.display().to_string();
        let refused = |cause: Error| VolumeError::Disk { action: "make", path: shown.clone(), cause };
        let missing: Vec<&Path> = path.ancestors().take_while(|above| !above.is_dir()).collect();
        for folder in missing.into_iter().rev() {
            match DirBuilder::new().mode(0o700).create(folder) {
                // Another vm of the tenant is prepared at the same time.
                Err(error) if error.kind() == ErrorKind::AlreadyExists && folder.is_dir() => {}
                made => made.map_err(&refused)?,
            }
            // Of the directories above: who may not list them may still pass through.
            let mode = if folder == path { 0o700 } else { 0o711 };
            let folder = openat(CWD, folder, FOLDER, Mode::empty()).map_err(|error| refused(error.into()))?;
            fchmod(&folder, Mode::from_raw_mode(mode)).map_err(|error| refused(error.into()))?;
        }
        let folder = openat(CWD, &path, FOLDER, Mode::empty()).map_err(|error| refused(error.into()))?;
        Ok(Self { folder, path: shown, formatter })
    }

    fn refused(&self, action: &'static str, image: &str) -> impl Fn(Errno) -> VolumeError {
        let path = format!("{}/{image}", self.path);
        move |cause| match cause {
            Errno::LOOP | Errno::NOTDIR | Errno::ISDIR => VolumeError::NotPlain { image: path.clone() },
            cause => VolumeError::Disk { action, path: path.clone(), cause: cause.into() },
        }
    }

    /// The folder that an image is in, and its name there; no folder if there is none.
    fn place<'a>(&self, image: &'a str) -> Result<(Option<OwnedFd>, &'a str), VolumeError> {
        let (folders, name) = image.rsplit_once('/').unwrap_or(("", image));
        let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
        if !plain(name) || folders.split('/').any(|part| !folders.is_empty() && !plain(part)) {
            return Err(VolumeError::NotPlain { image: image.to_owned() });
        }
        let refused = self.refused("open", image);
        let mut at = self.folder.try_clone().map_err(|cause| VolumeError::Disk {
            action: "open",
            path: self.path.clone(),
            cause,
        })?;
        for part in folders.split('/').filter(|part| !part.is_empty()) {
            at = match openat(&at, part, FOLDER, Mode::empty()) {
                Ok(folder) => folder,
                Err(Errno::NOENT) => return Ok((None, name)),
                Err(error) => return Err(refused(error)),
            };
        }
        Ok((Some(at), name))
    }

    /// The same, with the folders made that are missing.
    fn make_place<'a>(
        &self,
        image: &'a str,
        owner: Option<Owner>,
    ) -> Result<(OwnedFd, &'a str), VolumeError> {
        if let (Some(folder), name) = self.place(image)? {
            return Ok((folder, name));
        }
        let refused = self.refused("make", image);
        let (folders, _) = image.rsplit_once('/').unwrap_or_default();
        let mut end = 0;
        for part in folders.split('/') {
            end += part.len() + usize::from(end > 0);
            let inner = image.get(..end).unwrap_or_default();
            let (Some(above), name) = self.place(inner)? else { continue };
            match mkdirat(&above, name, PRIVATE_FOLDER) {
                Ok(()) => {
                    let folder = openat(&above, name, FOLDER, Mode::empty()).map_err(&refused)?;
                    give(&folder, owner).map_err(&refused)?;
                    fsync(&above).map_err(&refused)?;
                }
                Err(Errno::EXIST) => {}
                Err(error) => return Err(refused(error)),
            }
        }
        match self.place(image)? {
            (Some(folder), name) => Ok((folder, name)),
            (None, _) => Err(refused(Errno::NOENT)),
        }
    }

    /// Whether there is a plain file at an image's place.
    pub(crate) fn is_there(&self, image: &str) -> Result<bool, VolumeError> {
        let (Some(folder), name) = self.place(image)? else { return Ok(false) };
        match statat(&folder, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if FileType::from_raw_mode(found.st_mode) == FileType::RegularFile => Ok(true),
            Ok(_) => Err(VolumeError::NotPlain { image: format!("{}/{image}", self.path) }),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(self.refused("look at", image)(error)),
        }
    }

    /// Takes an image that is there: its owner's, and as large as is wanted, or larger.
    pub(crate) fn adopt(&self, wanted: &VolumeImage, owner: Option<Owner>) -> Result<(), VolumeError> {
        let image = wanted.image.as_str();
        let not_plain = || VolumeError::NotPlain { image: format!("{}/{image}", self.path) };
        let (Some(folder), name) = self.place(image)? else { return Err(not_plain()) };
        let file = openat(&folder, name, IMAGE, Mode::empty()).map_err(self.refused("open", image))?;
        let found = fstat(&file).map_err(self.refused("look at", image))?;
        if FileType::from_raw_mode(found.st_mode) != FileType::RegularFile || found.st_nlink != 1 {
            return Err(not_plain());
        }
        give(&file, owner).map_err(self.refused("give away", image))?;
        if u64::try_from(found.st_size).unwrap_or_default() < wanted.size_mib << 20 {
            ftruncate(&file, wanted.size_mib << 20).map_err(self.refused("grow", image))?;
            fsync(&file).map_err(self.refused("grow", image))?;
            tracing::info!(image = format!("{}/{image}", self.path), size_mib = wanted.size_mib, "grown");
        }
        Ok(())
    }

    /// Makes an image: sparse, with its file system, on the disk, and only then under its name.
    pub(crate) fn create(&self, wanted: &VolumeImage, owner: Option<Owner>) -> Result<(), VolumeError> {
        let image = wanted.image.as_str();
        let refused = self.refused("make", image);
        let (folder, name) = self.make_place(image, owner)?;
        let new = format!(".{}.new", wanted.name);
        unlink(&folder, &new).map_err(&refused)?;
        let file = openat(&folder, new.as_str(), IMAGE | OFlags::CREATE | OFlags::EXCL, PRIVATE_FILE);
        let file = file.map_err(&refused)?;
        without_copies(&file);
        ftruncate(&file, wanted.size_mib << 20).map_err(&refused)?;
        self.formatter.format(wanted, &file)?;
        give(&file, owner).map_err(&refused)?;
        fsync(&file).map_err(&refused)?;
        renameat_with(&folder, new.as_str(), &folder, name, RenameFlags::NOREPLACE).map_err(&refused)?;
        fsync(&folder).map_err(&refused)?;
        fsync(&self.folder).map_err(&refused)?;
        tracing::info!(image = format!("{}/{image}", self.path), size_mib = wanted.size_mib, "made");
        Ok(())
    }

    /// Removes an image; none there is no error. A name that leads elsewhere goes, and what it leads to stays.
    pub(crate) fn remove(&self, image: &str) -> Result<(), VolumeError> {
        let (Some(folder), name) = self.place(image)? else { return Ok(()) };
        unlink(&folder, name).and_then(|()| fsync(&folder)).map_err(self.refused("remove", image))
    }

    /// Keeps an image of another life under another name.
    pub(crate) fn set_aside(&self, image: &str, life: Epoch) -> Result<(), VolumeError> {
        let (Some(folder), name) = self.place(image)? else { return Ok(()) };
        let aside = format!("{name}.life-{life}");
        match renameat_with(&folder, name, &folder, aside.as_str(), RenameFlags::NOREPLACE) {
            Ok(()) => {
                let kept = format!("{}/{image}.life-{life}", self.path);
                tracing::warn!(kept, "an image of a volume that was given up is kept under another name");
                fsync(&folder).map_err(self.refused("set aside", image))
            }
            Err(Errno::NOENT) => Ok(()),
            Err(error) => Err(self.refused("set aside", image)(error)),
        }
    }

    /// Has an image's name lead to what whoever runs the host has put elsewhere.
    pub(crate) fn link(&self, wanted: &VolumeImage, path: &str) -> Result<(), VolumeError> {
        let not_there = || VolumeError::NotThere { volume: wanted.name.clone(), path: path.to_owned() };
        if !Path::new(path).exists() || wanted.image.starts_with('/') && wanted.image != path {
            return Err(not_there());
        }
        if wanted.image.starts_with('/') {
            return Ok(());
        }
        let image = wanted.image.as_str();
        let (folder, name) = self.make_place(image, None)?;
        match readlinkat(&folder, name, Vec::new()) {
            Ok(target) if target.to_bytes() == path.as_bytes() => return Ok(()),
            Ok(_) => unlink(&folder, name).map_err(self.refused("remove", image))?,
            Err(Errno::NOENT) => {}
            Err(_) => {
                let (volume, image) = (wanted.name.clone(), image.to_owned());
                return Err(VolumeError::Foreign { volume, image });
            }
        }
        symlinkat(path, &folder, name).map_err(self.refused("link", image))
    }
}

fn unlink(folder: &OwnedFd, name: &str) -> Result<(), Errno> {
    match unlinkat(folder, name, AtFlags::empty()) {
        Err(Errno::NOENT) => Ok(()),
        other => other,
    }
}

/// Without an owner it is root's.
fn give(file: &OwnedFd, owner: Option<Owner>) -> Result<(), Errno> {
    let Some(Owner { user, group }) = owner else { return Ok(()) };
    fchown(file, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))
}

/// As microvm.nix does it: on btrfs an image that is copied on each write falls to pieces. Elsewhere there is no such
/// flag, and no need.
fn without_copies(file: &OwnedFd) {
    let set =
        ioctl_getflags(file.as_fd()).and_then(|flags| ioctl_setflags(file.as_fd(), flags | IFlags::NOCOW));
    if let Err(error) = set {
        tracing::debug!(%error, "the file system has no flag against copies on write");
    }
}
