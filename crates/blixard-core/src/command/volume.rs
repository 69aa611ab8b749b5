//! Commands about volumes.

use blixard_types::{VmId, VolumeId, VolumeName};

/// What becomes of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VolumeCommand {
    /// Its host removes it.
    Delete {
        /// Which.
        volume: VolumeId,
    },
    /// It is given up, whatever its host still has of it: its vm may be placed elsewhere, with a new one.
    Forget {
        /// The vm.
        vm: VmId,
        /// Which of its volumes; all if absent.
        volume: Option<VolumeName>,
    },
}
