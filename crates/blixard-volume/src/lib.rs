//! The host's disk behind the ports: images of volumes, and the register of their lives.
//!
//! Owns: how an image is made, grown, set aside and removed, so that a power cut leaves it whole or not there.
//! Refuses to know: which vm should run, and which volume is whose: that is told with each call.
//!
//! ```text
//! <state>/vms/<tenant>/<vm>/<image>            the image; the runner's directory, which its account writes
//! <state>/volumes/<tenant>/<vm>/<volume>.json  what it is: image, kind, life; root's alone
//! ```
//! The register is written before the image is made. An image without an entry is somebody else's; an entry
//! without an image is one that was about to be made, unless the cluster knows that it was.

mod format;
mod image;
mod register;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::volumes::{ImageOrigin, VolumeError, VolumeImage, Volumes};
use blixard_core::state::Made;
use blixard_types::spec::{Account, number_in};
use blixard_types::{Epoch, VmId, VolumeName};
use tokio::sync::Mutex;

use format::Formatter;
use image::{Home, Owner};
use register::{Entry, Kind, Register};

/// Volumes below a state directory. Clones share their locks: one thing at a time is done to a vm's images. What
/// hangs on the images of one holds up no other.
#[derive(Debug, Clone)]
pub struct DiskVolumes {
    state_dir: PathBuf,
    formatter: Formatter,
    /// Of the vms that something is done to, or waits to be.
    locks: Arc<std::sync::Mutex<BTreeMap<VmId, Arc<Mutex<()>>>>>,
}

impl DiskVolumes {
    /// Does nothing yet: directories are made when there is something to be put into them.
    #[must_use]
    pub fn new(state_dir: impl Into<PathBuf>) -> Self {
        Self { state_dir: state_dir.into(), formatter: Formatter::default(), locks: Arc::default() }
    }

    /// File systems are made by the programs in this folder, and have to be within so long.
    #[must_use]
    pub fn formatting_by(self, folder: impl Into<PathBuf>, limit: Duration) -> Self {
        Self { formatter: Formatter::new(folder.into(), limit), ..self }
    }

    fn lock_of(&self, vm: &VmId) -> Arc<Mutex<()>> {
        // Who panicked here has left a whole map.
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        Arc::clone(locks.entry(vm.clone()).or_default())
    }

    /// Runs one piece of work beside the runtime, and alone with the images of the vm.
    fn alone<T: Send + 'static>(
        &self,
        vm: &VmId,
        work: impl FnOnce(&Path) -> Result<T, VolumeError> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, VolumeError>> {
        let lock = self.lock_of(vm);
        Box::pin(async move {
            let guard = lock.lock_owned().await;
            let state_dir = self.state_dir.clone();
            let done = tokio::task::spawn_blocking(move || {
                let _alone = guard;
                work(&state_dir)
            });
            done.await.unwrap_or_else(|panic| {
                let path = self.state_dir.display().to_string();
                Err(VolumeError::Disk { action: "work on", path, cause: std::io::Error::other(panic) })
            })
        })
    }
}

impl Volumes for DiskVolumes {
    fn prepare(
        &self,
        vm: VmId,
        account: Option<Account>,
        images: Vec<VolumeImage>,
    ) -> BoxFuture<'_, Result<(), VolumeError>> {
        if images.is_empty() {
            return self.end(vm);
        }
        let formatter = self.formatter.clone();
        self.alone(&vm.clone(), move |state_dir| {
            let owner = account.map(|account| ids(&account)).transpose()?;
            let home = Home::make(state_dir, &vm, formatter)?;
            let mut work = Work { home, register: Register::read(state_dir, &vm)?, owner };
            work.make_way(&images)?;
            images.iter().try_for_each(|image| work.prepare(image))
        })
    }

    fn end(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>> {
        let formatter = self.formatter.clone();
        self.alone(&vm.clone(), move |state_dir| {
            let mut register = Register::read(state_dir, &vm)?;
            if register.entries().all(|(_, entry)| entry.kind != Kind::Ephemeral) {
                return Ok(());
            }
            let home = Home::make(state_dir, &vm, formatter)?;
            for (name, entry) in register.all() {
                if entry.kind == Kind::Ephemeral {
                    home.remove(&entry.image)?;
                    register.drop_entry(&name)?;
                }
            }
            Ok(())
        })
    }

    fn delete(&self, vm: VmId, volume: VolumeName, life: Epoch) -> BoxFuture<'_, Result<(), VolumeError>> {
        let formatter = self.formatter.clone();
        self.alone(&vm.clone(), move |state_dir| {
            let mut register = Register::read(state_dir, &vm)?;
            let entry = register.get(&volume).cloned();
            let Some(entry) = entry.filter(|entry| entry.life == life && entry.kind == Kind::Local) else {
                return Ok(());
            };
            Home::make(state_dir, &vm, formatter)?.remove(&entry.image)?;
            register.drop_entry(&volume)?;
            tracing::info!(%vm, %volume, image = entry.image, "a volume is removed, as was asked");
            Ok(())
        })
    }

    fn forget(&self, vm: VmId) -> BoxFuture<'_, Result<(), VolumeError>> {
        self.alone(&vm.clone(), move |state_dir| Register::read(state_dir, &vm)?.remove())
    }
}

/// One vm, of which nothing runs.
struct Work {
    home: Home,
    register: Register,
    owner: Option<Owner>,
}

impl Work {
    /// What is in the way of these images, and is none of them: ephemeral ones of other placements go, local ones
    /// of other lives are set aside.
    fn make_way(&mut self, images: &[VolumeImage]) -> Result<(), VolumeError> {
        for (name, entry) in self.register.all() {
            let wanted = images.iter().find(|image| image.name == name);
            if wanted.is_some_and(|image| Entry::of(image).as_ref() == Some(&entry)) {
                continue;
            }
            let blocks = wanted.is_some() || images.iter().any(|image| image.image == entry.image);
            match entry.kind {
                Kind::Ephemeral => self.home.remove(&entry.image)?,
                Kind::Local if blocks => self.home.set_aside(&entry.image, entry.life)?,
                Kind::Local => continue,
            }
            self.register.drop_entry(&name)?;
        }
        Ok(())
    }

    fn prepare(&mut self, wanted: &VolumeImage) -> Result<(), VolumeError> {
        let made = match &wanted.origin {
            ImageOrigin::Shared { path } => return self.home.link(wanted, path),
            ImageOrigin::Local { made, .. } => *made,
            ImageOrigin::Ephemeral { .. } => Made::Promised,
        };
        let known = self.register.get(&wanted.name).is_some();
        match (self.home.is_there(&wanted.image)?, known) {
            (true, true) => self.home.adopt(wanted, self.owner),
            (true, false) => {
                let (volume, image) = (wanted.name.clone(), wanted.image.clone());
                Err(VolumeError::Foreign { volume, image })
            }
            (false, _) if made == Made::Made => {
                let (volume, image) = (wanted.name.clone(), wanted.image.clone());
                Err(VolumeError::Missing { volume, image })
            }
            (false, _) => {
                if let Some(entry) = Entry::of(wanted).filter(|_| !known) {
                    self.register.add(&wanted.name, entry)?;
                }
                self.home.create(wanted, self.owner)
            }
        }
    }
}

/// The numbers of an account.
fn ids(account: &Account) -> Result<Owner, VolumeError> {
    let number = |file: &str, what, name: &str| {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        number_in(&text, name).ok_or_else(|| VolumeError::NoAccount { what, name: name.to_owned() })
    };
    let user = number("/etc/passwd", "user", &account.user)?;
    Ok(Owner { user, group: number("/etc/group", "group", &account.group)? })
}
