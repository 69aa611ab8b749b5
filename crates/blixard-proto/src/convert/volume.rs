//! Volumes: the commands about them, and how clients see them.

use blixard_core::command::VolumeCommand;
use blixard_core::state::{ClusterState, Made, Presence, Volume, VolumeFate};
use blixard_types::{Epoch, VolumeId};

use super::{ConvertError, vm_id, volume_id, volume_name};
use crate::v1::{self, volume_command as message};

pub(crate) fn volume_to(command: &VolumeCommand) -> v1::VolumeCommand {
    use message::Command as To;
    let command = match command {
        VolumeCommand::Delete { volume, life } => {
            To::Delete(message::Delete { volume: volume.to_string(), life: life.map(|life| life.0) })
        }
        VolumeCommand::Forget { vm, volume } => {
            let name = volume.as_ref().map(ToString::to_string).unwrap_or_default();
            To::Forget(message::Forget { vm: vm.to_string(), name })
        }
    };
    v1::VolumeCommand { command: Some(command) }
}

pub(crate) fn volume_from(command: v1::VolumeCommand) -> Result<VolumeCommand, ConvertError> {
    use message::Command as From;
    let unknown = || ConvertError::of("volume", "is unknown to this server");
    Ok(match command.command.ok_or_else(unknown)? {
        From::Delete(delete) => {
            let life = delete.life.map(Epoch);
            VolumeCommand::Delete { volume: volume_id(&delete.volume)?, life }
        }
        From::Forget(forget) => {
            let volume = (!forget.name.is_empty()).then(|| volume_name(&forget.name)).transpose()?;
            VolumeCommand::Forget { vm: vm_id(&forget.vm)?, volume }
        }
    })
}

/// A volume as clients see it.
#[must_use]
pub fn volume_view(state: &ClusterState, id: &VolumeId, volume: &Volume) -> v1::Volume {
    let shown = match (volume.fate, volume.made) {
        (VolumeFate::Delete, _) => v1::VolumeState::Deleting,
        (VolumeFate::Keep, Made::Promised) => v1::VolumeState::Promised,
        (VolumeFate::Keep, Made::Made) => v1::VolumeState::Made,
    };
    let spec = state.vms.get(&id.vm).and_then(|vm| state.target_spec(vm));
    let wanted = spec.is_some_and(|spec| spec.volumes.iter().any(|one| one.name == id.name.as_str()));
    let host = state.nodes.get(&volume.node);
    v1::Volume {
        volume: id.to_string(),
        node: host.map(|host| host.name.to_string()).unwrap_or_default(),
        state: shown.into(),
        size_mib: volume.size_mib,
        image: volume.image.clone(),
        wanted,
        in_use: state.uses(&id.vm, &id.name),
        host_lost: host.is_none_or(|host| host.presence != Presence::Present),
    }
}
