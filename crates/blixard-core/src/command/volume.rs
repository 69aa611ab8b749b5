//! Commands about volumes.

use blixard_types::{Epoch, VmId, VolumeId, VolumeName};

/// What becomes of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCommand {
    /// Its host removes it.
    Delete {
        /// Which.
        volume: VolumeId,
        /// The placement that it was made for: one that has come in its place since is left alone. Any, in logs of
        /// before it was said.
        life: Option<Epoch>,
    },
    /// It is given up, whatever its host still has of it: its vm may be placed elsewhere, with a new one.
    Forget {
        /// The vm.
        vm: VmId,
        /// Which of its volumes; all if absent.
        volume: Option<VolumeName>,
    },
}
