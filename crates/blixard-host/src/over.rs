//! Which epochs are over here: a file for each vm, which whatever starts one looks at.
//!
//! Owns: the folder of those files, below `/run`: it outlives the daemon, and is empty after a boot, when nothing
//! runs. Refuses to know: when an epoch ends.
//!
//! A file is written before the unit is stopped for the last time, and so before it is seen that no process is
//! left, and before that is reported. A start that was asked for before, whoever asked and however late it comes,
//! finds it and executes nothing. Files stay: epochs of a vm only grow, also over its deletion.

use std::fs::Permissions;
use std::io::{Error, ErrorKind, Result, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use blixard_types::holder::{EPOCHS_LEASED, epoch_over};
use blixard_types::{Epoch, VmId};

use crate::files::Files;

/// Numbers what is half-made: several vms may end at once.
static NEXT: AtomicU64 = AtomicU64::new(0);

/// Ends every epoch of the vm up to this one.
pub(crate) async fn end(files: Files<'_>, vm: &VmId, epoch: Epoch) -> Result<()> {
    let mark = files.layout.epoch_mark(vm);
    files
        .blocking(move || {
            if read(&mark)?.is_some_and(|over| epoch <= over) {
                return Ok(());
            }
            // Whole or not at all: what is cut off would be another epoch. A unit's name may be as long as a file's.
            let next = format!(".next-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
            let next = Path::new(&mark).with_file_name(next);
            let made = write(&next, &epoch.to_string()).and_then(|()| std::fs::rename(&next, mark));
            // On a file system that is full each try would leave one.
            made.inspect_err(|_| drop(std::fs::remove_file(&next)))
        })
        .await
}

/// Whether this epoch of the vm is over.
pub(crate) async fn is_over(files: Files<'_>, vm: &VmId, epoch: Epoch) -> Result<bool> {
    let mark = files.layout.epoch_mark(vm);
    files.blocking(move || Ok(read(&mark)?.is_some_and(|over| epoch <= over))).await
}

/// From now on nothing starts that was to start without a lease. Whether it could before.
pub(crate) async fn leased(files: Files<'_>) -> Result<bool> {
    let mark = format!("{}/{EPOCHS_LEASED}", files.layout.epochs_dir);
    files
        .blocking(move || {
            let new = !Path::new(&mark).try_exists()?;
            if new {
                write(Path::new(&mark), "")?;
            }
            Ok(new)
        })
        .await
}

/// The machine is alone, and nobody here could hold a lease.
pub(crate) async fn not_leased(files: Files<'_>) -> Result<()> {
    let mark = format!("{}/{EPOCHS_LEASED}", files.layout.epochs_dir);
    files
        .blocking(move || match std::fs::remove_file(mark) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        })
        .await
}

fn read(mark: &str) -> Result<Option<Epoch>> {
    match std::fs::read_to_string(mark) {
        Ok(text) => epoch_over(&text).map(Some).map_err(|error| Error::new(ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Readable by the accounts of vms, whatever the daemon's umask: their programs look.
fn write(path: &Path, text: &str) -> Result<()> {
    // systemd makes it for the daemon's unit.
    if let Some(folder) = path.parent().filter(|folder| !folder.is_dir()) {
        std::fs::create_dir_all(folder)?;
        std::fs::set_permissions(folder, Permissions::from_mode(0o755))?;
    }
    let mut file = std::fs::File::create(path)?;
    file.set_permissions(Permissions::from_mode(0o644))?;
    file.write_all(text.as_bytes())
}

#[cfg(test)]
mod tests {
    use blixard_core::unit::HostLayout;

    use super::*;
    use crate::files::Offload;

    fn layout(folder: &Path) -> HostLayout {
        let epochs_dir = folder.join("epochs").to_str().unwrap().to_owned();
        HostLayout { epochs_dir, ..HostLayout::default() }
    }

    fn files(layout: &HostLayout) -> Files<'_> {
        Files { layout, offload: Offload::Threads }
    }

    #[tokio::test]
    async fn an_epoch_that_is_over_stays_over_and_those_before_it_are() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, vm): (_, VmId) = (layout(folder.path()), "a-b/web".parse().unwrap());
        assert!(!is_over(files(&layout), &vm, Epoch(1)).await.unwrap());
        for epoch in [3, 2, 3] {
            end(files(&layout), &vm, Epoch(epoch)).await.unwrap();
            assert!(is_over(files(&layout), &vm, Epoch(3)).await.unwrap());
        }
        assert!(is_over(files(&layout), &vm, Epoch(1)).await.unwrap());
        assert!(!is_over(files(&layout), &vm, Epoch(4)).await.unwrap());
        assert!(!is_over(files(&layout), &"a-b/db".parse().unwrap(), Epoch(1)).await.unwrap());
        let found: Vec<_> = std::fs::read_dir(&layout.epochs_dir).unwrap().collect();
        assert_eq!(found.len(), 1, "nothing half-made is left: {found:?}");
    }

    #[tokio::test]
    async fn a_vm_whose_unit_has_the_longest_name_has_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        let named = |dashes: usize| format!("t{}x/v", "-".repeat(dashes)).parse::<VmId>().ok();
        let longest = (0..70).rev().find_map(named).unwrap();
        end(files(&layout), &longest, Epoch(1)).await.unwrap();
        assert!(is_over(files(&layout), &longest, Epoch(1)).await.unwrap());
    }

    #[tokio::test]
    async fn a_mark_that_cannot_be_read_is_an_error_and_no_epoch() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, vm): (_, VmId) = (layout(folder.path()), "web".parse().unwrap());
        end(files(&layout), &vm, Epoch(3)).await.unwrap();
        std::fs::write(layout.epoch_mark(&vm), "three").unwrap();
        assert!(is_over(files(&layout), &vm, Epoch(4)).await.is_err());
        assert!(end(files(&layout), &vm, Epoch(4)).await.is_err());
    }

    #[tokio::test]
    async fn the_first_lease_is_told_from_the_next_ones() {
        let folder = tempfile::tempdir().unwrap();
        let layout = layout(folder.path());
        not_leased(files(&layout)).await.unwrap();
        assert!(leased(files(&layout)).await.unwrap());
        assert!(!leased(files(&layout)).await.unwrap());
        not_leased(files(&layout)).await.unwrap();
        assert!(leased(files(&layout)).await.unwrap());
    }
}
