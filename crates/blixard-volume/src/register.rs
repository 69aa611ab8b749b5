//! What each image is: a file for each volume, which only root can write.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder, File};
use std::io::{Error, ErrorKind, Write as _};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use blixard_core::ports::volumes::{ImageOrigin, VolumeError, VolumeImage};
use blixard_types::{Epoch, VmId, VolumeName};
use serde::{Deserialize, Serialize};

/// What an image is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Entry {
    pub(crate) image: String,
    pub(crate) kind: Kind,
    pub(crate) life: Epoch,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    Local,
    Ephemeral,
}

impl Entry {
    /// That of an image that is ours.
    pub(crate) fn of(image: &VolumeImage) -> Option<Self> {
        let (kind, life) = match image.origin {
            ImageOrigin::Local { life, .. } => (Kind::Local, life),
            ImageOrigin::Ephemeral { life } => (Kind::Ephemeral, life),
            ImageOrigin::Shared { .. } => return None,
        };
        Some(Self { image: image.image.clone(), kind, life })
    }
}

/// The entries of a vm.
#[derive(Debug)]
pub(crate) struct Register {
    folder: PathBuf,
    entries: BTreeMap<VolumeName, Entry>,
}

fn refused(action: &'static str, path: &Path) -> impl FnOnce(Error) -> VolumeError {
    let path = path.display().to_string();
    move |cause| VolumeError::Disk { action, path, cause }
}

impl Register {
    /// What is known of a vm's images. An entry that cannot be read is an error: its image would be taken for
    /// somebody else's.
    pub(crate) fn read(state_dir: &Path, vm: &VmId) -> Result<Self, VolumeError> {
        let folder = state_dir.join("volumes").join(vm.tenant().as_str()).join(vm.name().as_str());
        let mut entries = BTreeMap::new();
        let files = match fs::read_dir(&folder) {
            Ok(files) => files,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self { folder, entries }),
            Err(error) => return Err(refused("read", &folder)(error)),
        };
        for file in files {
            let path = file.map_err(refused("read", &folder))?.path();
            let name = path.file_name().and_then(|name| name.to_str()?.strip_suffix(".json")?.parse().ok());
            // A file that was being written when the power went.
            let Some(name) = name else { continue };
            let text = fs::read_to_string(&path).map_err(refused("read", &path))?;
            let entry = serde_json::from_str(&text).map_err(Error::other).map_err(refused("read", &path))?;
            entries.insert(name, entry);
        }
        Ok(Self { folder, entries })
    }

    pub(crate) fn get(&self, name: &VolumeName) -> Option<&Entry> {
        self.entries.get(name)
    }

    pub(crate) fn entries(&self) -> impl Iterator<Item = (&VolumeName, &Entry)> {
        self.entries.iter()
    }

    /// A copy of all entries, for who changes them meanwhile.
    pub(crate) fn all(&self) -> Vec<(VolumeName, Entry)> {
        self.entries.iter().map(|(name, entry)| (name.clone(), entry.clone())).collect()
    }

    /// Adds an entry, which is on the disk afterwards.
    pub(crate) fn add(&mut self, name: &VolumeName, entry: Entry) -> Result<(), VolumeError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.folder)
            .map_err(refused("make", &self.folder))?;
        let (path, new) = (self.file(name), self.folder.join(format!(".{name}.new")));
        let text = serde_json::to_vec(&entry).map_err(Error::other).map_err(refused("write", &path))?;
        let written = File::create(&new).and_then(|mut file| {
            file.write_all(&text)?;
            file.sync_all()
        });
        written.map_err(refused("write", &new))?;
        fs::rename(&new, &path).map_err(refused("write", &path))?;
        self.sync()?;
        self.entries.insert(name.clone(), entry);
        Ok(())
    }

    pub(crate) fn drop_entry(&mut self, name: &VolumeName) -> Result<(), VolumeError> {
        let path = self.file(name);
        gone(fs::remove_file(&path)).map_err(refused("remove", &path))?;
        self.sync()?;
        self.entries.remove(name);
        if self.entries.is_empty() {
            // What is left of it is somebody else's, and no harm.
            let _ = fs::remove_dir(&self.folder);
        }
        Ok(())
    }

    /// Removes all of it.
    pub(crate) fn remove(self) -> Result<(), VolumeError> {
        gone(fs::remove_dir_all(&self.folder)).map_err(refused("remove", &self.folder))
    }

    fn file(&self, name: &VolumeName) -> PathBuf {
        self.folder.join(format!("{name}.json"))
    }

    /// The names in a folder are on the disk once the folder is; so are those of the folders above.
    fn sync(&self) -> Result<(), VolumeError> {
        for folder in self.folder.ancestors().take(4) {
            File::open(folder).and_then(|folder| folder.sync_all()).map_err(refused("write", folder))?;
        }
        Ok(())
    }
}

fn gone(removed: Result<(), Error>) -> Result<(), Error> {
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
