//! A host's disk in memory.
//!
//! Owns: images as text and size. Refuses to know: file systems. It passes the contract in [`contract`], as the
//! real one does.

pub mod contract;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::BoxFuture;
use blixard_core::ports::volumes::{ImageOrigin, VolumeError, VolumeImage, Volumes};
use blixard_core::state::Made;
use blixard_types::spec::Account;
use blixard_types::{Epoch, VmId, VolumeName};

use contract::{Content, Ground};

/// Volumes in memory. Clones are handles to the same host.
#[derive(Debug, Clone, Default)]
pub struct FakeVolumes {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    /// What is at each path of a vm.
    files: BTreeMap<(VmId, String), Content>,
    /// What the images are: path, whether ephemeral, life.
    known: BTreeMap<(VmId, VolumeName), (String, bool, Epoch)>,
}

impl FakeVolumes {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn entry(image: &VolumeImage) -> Option<(String, bool, Epoch)> {
    match image.origin {
        ImageOrigin::Local { life, .. } => Some((image.image.clone(), false, life)),
        ImageOrigin::Ephemeral { life } => Some((image.image.clone(), true, life)),
        ImageOrigin::Shared { .. } => None,
    }
}

impl State {
    fn make_way(&mut self, vm: &VmId, images: &[VolumeImage]) {
        let known: Vec<_> = self.known.iter().filter(|((of, _), _)| of == vm).collect();
        let known: Vec<_> = known.into_iter().map(|((_, name), one)| (name.clone(), one.clone())).collect();
        for (name, (path, ephemeral, life)) in known {
            let wanted = images.iter().find(|image| image.name == name);
            if wanted.and_then(entry) == Some((path.clone(), ephemeral, life)) {
                continue;
            }
            let blocks = wanted.is_some() || images.iter().any(|image| image.image == path);
            if !ephemeral && !blocks {
                continue;
            }
            let file = self.files.remove(&(vm.clone(), path.clone()));
            if let Some(file) = file.filter(|_| !ephemeral) {
                self.files.insert((vm.clone(), format!("{path}.life-{life}")), file);
            }
            self.known.remove(&(vm.clone(), name));
        }
    }

    fn prepare(&mut self, vm: &VmId, image: &VolumeImage) -> Result<(), VolumeError> {
        let made = match &image.origin {
            ImageOrigin::Shared { .. } => return Ok(()),
            ImageOrigin::Local { made, .. } => *made,
            ImageOrigin::Ephemeral { .. } => Made::Promised,
        };
        let (volume, path) = (image.name.clone(), image.image.clone());
        let known = self.known.contains_key(&(vm.clone(), volume.clone()));
        match self.files.get_mut(&(vm.clone(), path.clone())) {
            Some(file) if known => file.size_mib = file.size_mib.max(image.size_mib),
            Some(_) => return Err(VolumeError::Foreign { volume, image: path }),
            None if made == Made::Made => return Err(VolumeError::Missing { volume, image: path }),
            None => {
                let file = Content { text: String::new(), size_mib: image.size_mib };
                self.files.insert((vm.clone(), path), file);
                self.known.extend(entry(image).map(|entry| ((vm.clone(), volume), entry)));
            }
        }
        Ok(())
    }
}

impl Volumes for FakeVolumes {
    fn prepare(
        &self,
        vm: VmId,
        _: Option<Account>,
        images: Vec<VolumeImage>,
    ) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.make_way(&vm, &images);
            images.iter().try_for_each(|image| state.prepare(&vm, image))
        })
    }

    fn end(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            self.state().make_way(&vm, &[]);
            Ok(())
        })
    }

    fn delete(&self, vm: VmId, volume: VolumeName, life: Epoch) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            let mut state = self.state();
            let key = (vm.clone(), volume);
            let known = state.known.get(&key).cloned();
            if let Some((path, false, at)) = known.filter(|(_, _, at)| *at == life) {
                debug_assert_eq!(at, life);
                state.files.remove(&(vm, path));
                state.known.remove(&key);
            }
            Ok(())
        })
    }

    fn forget(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>> {
        Box::pin(async move {
            self.state().known.retain(|(of, _), _| *of != vm);
            Ok(())
        })
    }
}

impl Ground for FakeVolumes {
    fn read(&self, vm: &VmId, path: &str) -> Option<Content> {
        self.state().files.get(&(vm.clone(), path.to_owned())).cloned()
    }

    fn write(&self, vm: &VmId, path: &str, text: &str) {
        let mut state = self.state();
        let file = state.files.entry((vm.clone(), path.to_owned())).or_default();
        text.clone_into(&mut file.text);
    }

    fn lose(&self, vm: &VmId, path: &str) {
        self.state().files.remove(&(vm.clone(), path.to_owned()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let fake = FakeVolumes::default();
        contract::keeps(&fake, &fake).await.unwrap();
    }
}
