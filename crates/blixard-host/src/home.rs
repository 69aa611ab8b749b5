//! The directories of vms on their host: what is there, and what may go.
//!
//! Owns: the tree below `<state>/vms`. Refuses to know: when a vm is gone. What a guest has made is removed
//! only where that was asked for; else only a directory that is empty goes.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use blixard_core::unit::HostLayout;
use blixard_types::{VmId, chain};

/// The vms that have a directory. One that cannot be read has none: it is looked for again by the next daemon.
pub(crate) async fn all(layout: &HostLayout) -> BTreeSet<VmId> {
    let mut homes = BTreeSet::new();
    for tenant in names(&layout.vms_dir()).await {
        for name in names(&tenant).await {
            homes.extend(vm_of(&name));
        }
    }
    homes
}

async fn names(folder: impl AsRef<Path>) -> Vec<PathBuf> {
    let folder = folder.as_ref();
    let mut names = Vec::new();
    match tokio::fs::read_dir(folder).await {
        Ok(mut entries) => {
            while let Ok(Some(entry)) = entries.next_entry().await {
                names.push(entry.path());
            }
        }
        // Before the first vm there is none; and what lies between the directories is not ours.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
        Err(error) => {
            tracing::warn!(folder = %folder.display(), error = chain(&error), "cannot look for vms");
        }
    }
    names
}

fn vm_of(path: &Path) -> Option<VmId> {
    let mut parts = path.iter().rev().map(std::ffi::OsStr::to_str);
    let (name, tenant) = (parts.next()??, parts.next()??);
    format!("{tenant}/{name}").parse().ok()
}

/// Removes the directory of a vm that is gone, if nothing is in it.
pub(crate) async fn remove_empty(layout: &HostLayout, vm: &VmId) {
    let home = layout.vm_state_dir(vm);
    match tokio::fs::remove_dir(&home).await {
        Ok(()) => tracing::info!(%vm, home, "the directory of a vm that is gone is removed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            tracing::info!(%vm, home, "a vm is gone, and the files of its guest are kept");
        }
        Err(error) => stays(vm, &home, &error),
    }
}

/// Removes the directory of a vm with all that is in it.
pub(crate) async fn remove(layout: &HostLayout, vm: &VmId) -> std::io::Result<()> {
    let home = layout.vm_state_dir(vm);
    match tokio::fs::remove_dir_all(&home).await {
        Ok(()) => {
            tracing::info!(%vm, home, "the files of a vm are removed, as was asked");
            Ok(())
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

fn stays(vm: &VmId, home: &str, error: &Error) {
    tracing::warn!(%vm, home, error = chain(error), "the directory of a vm that is gone stays");
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layout(folder: &Path) -> HostLayout {
        HostLayout { state_dir: folder.to_str().unwrap().to_owned(), ..HostLayout::default() }
    }

    #[tokio::test]
    async fn the_directories_tell_whose_they_are() {
        let folder = tempfile::tempdir().unwrap();
        for path in ["vms/default/web", "vms/shop/db-1", "vms/shop/NO", "raft/1/2"] {
            std::fs::create_dir_all(folder.path().join(path)).unwrap();
        }
        std::fs::write(folder.path().join("vms/file"), "").unwrap();
        let homes = all(&layout(folder.path())).await;
        assert_eq!(homes, ["default/web", "shop/db-1"].map(|vm| vm.parse().unwrap()).into());
        assert_eq!(all(&layout(&folder.path().join("gone"))).await, BTreeSet::new());
    }

    #[tokio::test]
    async fn files_go_where_that_is_asked_for_and_no_link_leads_out() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, vm): (_, VmId) = (layout(folder.path()), "web".parse().unwrap());
        let home = folder.path().join("vms/default/web");
        std::fs::create_dir_all(home.join("deep")).unwrap();
        std::fs::write(home.join("deep/disk"), "precious").unwrap();
        std::fs::create_dir(folder.path().join("other")).unwrap();
        std::fs::write(folder.path().join("other/file"), "").unwrap();
        std::os::unix::fs::symlink(folder.path().join("other"), home.join("link")).unwrap();
        remove(&layout, &vm).await.unwrap();
        assert!(!home.exists());
        assert!(folder.path().join("other/file").exists());
        remove(&layout, &vm).await.unwrap();
    }

    #[tokio::test]
    async fn files_of_a_guest_are_kept_and_an_empty_directory_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, vm): (_, VmId) = (layout(folder.path()), "web".parse().unwrap());
        let home = folder.path().join("vms/default/web");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("disk"), "precious").unwrap();
        remove_empty(&layout, &vm).await;
        assert_eq!(std::fs::read_to_string(home.join("disk")).unwrap(), "precious");
        std::fs::remove_file(home.join("disk")).unwrap();
        remove_empty(&layout, &vm).await;
        assert!(!home.exists());
        remove_empty(&layout, &vm).await;
    }
}
