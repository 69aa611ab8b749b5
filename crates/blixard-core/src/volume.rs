//! From a spec to the images that its runner opens on this host. Pure.

use blixard_types::spec::{Volume, VolumeKind};
use blixard_types::{Epoch, VolumeName};

use crate::assignment::RunIntent;
use crate::ports::volumes::{ImageOrigin, VolumeImage};
use crate::unit::HostLayout;

/// Why a vm cannot be started here, whatever its host does.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoImage {
    /// A grant that says nothing of a local volume.
    #[error("nothing is granted of volume {0}")]
    NotGranted(VolumeName),
    /// This host's configuration does not name it.
    #[error("this host does not have the shared volume {0}")]
    NotShared(VolumeName),
}

/// The images of a run.
///
/// # Errors
/// When one of them is not this host's.
pub fn images(epoch: Epoch, run: &RunIntent, layout: &HostLayout) -> Result<Vec<VolumeImage>, NoImage> {
    let named = run.spec.volumes.iter().filter_map(|volume| Some((volume.volume_name()?, volume)));
    named.map(|(name, volume)| image(name, volume, (epoch, run), layout)).collect()
}

fn image(
    name: VolumeName,
    volume: &Volume,
    (epoch, run): (Epoch, &RunIntent),
    layout: &HostLayout,
) -> Result<VolumeImage, NoImage> {
    let origin = match volume.kind {
        VolumeKind::Ephemeral => ImageOrigin::Ephemeral { life: epoch },
        VolumeKind::Local => match run.volumes.get(&name) {
            Some(life) => ImageOrigin::Local { life: life.epoch, made: life.made },
            None => return Err(NoImage::NotGranted(name)),
        },
        VolumeKind::Shared => match layout.shared.get(&name) {
            Some(path) => ImageOrigin::Shared { path: path.clone() },
            None => return Err(NoImage::NotShared(name)),
        },
    };
    let Volume { image, size_mib, fs_type, label, .. } = volume.clone();
    Ok(VolumeImage { name, image, size_mib, origin, fs_type, label })
}

/// What a runner may write to outside of its own directories.
#[must_use]
pub fn shared_paths(run: &RunIntent, layout: &HostLayout) -> Vec<String> {
    let shared = run.spec.volumes_of(VolumeKind::Shared);
    shared.filter_map(|(name, _)| layout.shared.get(&name).cloned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::assignment::VolumeLife;
    use crate::fixture::{closure, spec, volume};
    use crate::state::Made;

    fn run() -> RunIntent {
        let mut spec = spec(100);
        spec.volumes = vec![
            volume("data", 10, VolumeKind::Local),
            volume("scratch", 20, VolumeKind::Ephemeral),
            volume("media", 1, VolumeKind::Shared),
        ];
        let life = VolumeLife { epoch: Epoch(3), made: Made::Made };
        let generation = blixard_types::GenerationNumber(1);
        let volumes = [("data".parse().unwrap(), life)].into();
        RunIntent { generation, closure: closure("a"), spec, sources: vec![], volumes }
    }

    #[test]
    fn each_kind_of_volume_has_its_origin() {
        let mut layout = HostLayout::default();
        let media: VolumeName = "media".parse().unwrap();
        assert_eq!(images(Epoch(7), &run(), &layout), Err(NoImage::NotShared(media.clone())));
        layout.shared.insert(media, "/dev/media".to_owned());
        let found = images(Epoch(7), &run(), &layout).unwrap();
        let origins: Vec<_> = found.into_iter().map(|image| image.origin).collect();
        let path = "/dev/media".to_owned();
        assert_eq!(
            origins,
            [
                ImageOrigin::Local { life: Epoch(3), made: Made::Made },
                ImageOrigin::Ephemeral { life: Epoch(7) },
                ImageOrigin::Shared { path: path.clone() }
            ]
        );
        assert_eq!(shared_paths(&run(), &layout), [path]);
        let mut without = run();
        without.volumes.clear();
        let missing = images(Epoch(7), &without, &layout);
        assert_eq!(missing, Err(NoImage::NotGranted("data".parse().unwrap())));
    }
}
