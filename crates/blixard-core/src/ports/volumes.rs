//! The host's disk, as far as volumes of vms are concerned.

use blixard_types::spec::{Account, FileSystem};
use blixard_types::{Epoch, VmId, VolumeName};

use super::BoxFuture;
use crate::state::Made;

/// The image of a volume, as a runner expects it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeImage {
    /// The volume.
    pub name: VolumeName,
    /// The file, relative to the vm's directory; a shared one may be absolute.
    pub image: String,
    /// Its size in MiB; one that is larger is left as it is.
    pub size_mib: u64,
    /// Where it comes from.
    pub origin: ImageOrigin,
    /// The file system of a new one.
    pub fs_type: Option<FileSystem>,
    /// The label of that.
    pub label: Option<String>,
}

/// Where an image comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageOrigin {
    /// It stays. One of another life is set aside.
    Local {
        /// The placement that it was made for, or is made for.
        life: Epoch,
        /// Whether it was made before.
        made: Made,
    },
    /// It is of this placement. One of another is removed.
    Ephemeral {
        /// The placement.
        life: Epoch,
    },
    /// It is there already.
    Shared {
        /// Where.
        path: String,
    },
}

/// Why a volume is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum VolumeError {
    /// It was made, and is gone.
    #[error(
        "the image {image} of volume {volume} was made here and is missing; put it back, or `blixard volume \
         forget` gives it up"
    )]
    Missing {
        /// The volume.
        volume: VolumeName,
        /// The file.
        image: String,
    },
    /// Something is there that is not ours.
    #[error("{image} is there already, and Blixard has not made it for volume {volume}; move it away")]
    Foreign {
        /// The volume.
        volume: VolumeName,
        /// The file.
        image: String,
    },
    /// A path that leads out, or to what is no file.
    #[error("{image} is not a plain file below the vm's directory")]
    NotPlain {
        /// The file.
        image: String,
    },
    /// A shared volume is not where it should be.
    #[error("the shared volume {volume} is not at {path}")]
    NotThere {
        /// The volume.
        volume: VolumeName,
        /// Where it should be.
        path: String,
    },
    /// A user or a group that is not there.
    #[error("there is no {what} {name} on this host")]
    NoAccount {
        /// A user, or a group.
        what: &'static str,
        /// Its name.
        name: String,
    },
    /// The file system was not made.
    #[error("cannot make a file system on volume {volume}: {reason}")]
    Format {
        /// The volume.
        volume: VolumeName,
        /// Why.
        reason: String,
    },
    /// The disk refuses.
    #[error("cannot {action} {path}")]
    Disk {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: String,
        /// Why not.
        #[source]
        cause: std::io::Error,
    },
}

/// Makes and removes images. What it has made it knows by a register of its own, out of reach of the vms, so
/// that no file of another life, and nobody else's, is taken for a volume.
pub trait Volumes: Send + Sync + 'static {
    /// Has every image there, whole and on the disk, for the account that the vm runs under (root without one).
    /// Nothing of the vm runs.
    fn prepare(
        &self,
        vm: VmId,
        account: Option<Account>,
        images: Vec<VolumeImage>,
    ) -> BoxFuture<'_, Result<(), VolumeError>>;

    /// A placement is over: what is ephemeral goes.
    fn end(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>>;

    /// Removes a local volume of this life; nothing there, or one of another life, is no error.
    fn delete(&self, vm: VmId, volume: VolumeName, life: Epoch) -> BoxFuture<'_, Result<(), VolumeError>>;

    /// Forgets all of a vm whose directory is gone.
    fn forget(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>>;
}
