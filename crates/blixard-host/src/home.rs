//! The directories of vms on their host: what is there, and what may go.
//!
//! Owns: the tree below `<state>/vms`. Refuses to know: when a vm is gone. What a guest has made is removed
//! only where that was asked for; else only a directory that is empty goes.

use std::collections::BTreeSet;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};

use blixard_types::{VmId, chain};

use crate::files::Files;

/// The vms that have a directory. One that cannot be read has none: it is looked for again by the next daemon.
pub(crate) async fn all(files: Files<'_>) -> BTreeSet<VmId> {
    let folder = files.layout.vms_dir();
    let looked = files.blocking(move || {
        let tenants = names(Path::new(&folder));
        Ok(tenants.iter().flat_map(|tenant| names(tenant)).filter_map(|name| vm_of(&name)).collect())
    });
    looked.await.unwrap_or_default()
}

fn names(folder: &Path) -> Vec<PathBuf> {
    match std::fs::read_dir(folder) {
        Ok(entries) => entries.map_while(Result::ok).map(|entry| entry.path()).collect(),
        // Before the first vm there is none; and what lies between the directories is not ours.
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Vec::new(),
        Err(error) => {
            tracing::warn!(folder = %folder.display(), error = chain(&error), "cannot look for vms");
            Vec::new()
        }
    }
}

fn vm_of(path: &Path) -> Option<VmId> {
    let mut parts = path.iter().rev().map(std::ffi::OsStr::to_str);
    let (name, tenant) = (parts.next()??, parts.next()??);
    format!("{tenant}/{name}").parse().ok()
}

/// Removes the directory of a vm that is gone, if nothing is in it.
pub(crate) async fn remove_empty(files: Files<'_>, vm: &VmId) {
    let home = files.layout.vm_state_dir(vm);
    let folder = home.clone();
    match files.blocking(move || std::fs::remove_dir(folder)).await {
        Ok(()) => tracing::info!(%vm, home, "the directory of a vm that is gone is removed"),
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) if error.kind() == ErrorKind::DirectoryNotEmpty => {
            tracing::info!(%vm, home, "a vm is gone, and the files of its guest are kept");
        }
        Err(error) => stays(vm, &home, &error),
    }
}

/// Removes the directory of a vm with all that is in it.
pub(crate) async fn remove(files: Files<'_>, vm: &VmId) -> std::io::Result<()> {
    let home = files.layout.vm_state_dir(vm);
    let folder = home.clone();
    match files.blocking(move || std::fs::remove_dir_all(folder)).await {
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
    use blixard_core::unit::HostLayout;

    use super::*;
    use crate::files::Offload;

    fn files(layout: &HostLayout) -> Files<'_> {
        Files { layout, offload: Offload::Threads }
    }

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
        let homes = all(files(&layout(folder.path()))).await;
        assert_eq!(homes, ["default/web", "shop/db-1"].map(|vm| vm.parse().unwrap()).into());
        assert_eq!(all(files(&layout(&folder.path().join("gone")))).await, BTreeSet::new());
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
        remove(files(&layout), &vm).await.unwrap();
        assert!(!home.exists());
        assert!(folder.path().join("other/file").exists());
        remove(files(&layout), &vm).await.unwrap();
    }

    #[tokio::test]
    async fn files_of_a_guest_are_kept_and_an_empty_directory_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let (layout, vm): (_, VmId) = (layout(folder.path()), "web".parse().unwrap());
        let home = folder.path().join("vms/default/web");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join("disk"), "precious").unwrap();
        remove_empty(files(&layout), &vm).await;
        assert_eq!(std::fs::read_to_string(home.join("disk")).unwrap(), "precious");
        std::fs::remove_file(home.join("disk")).unwrap();
        remove_empty(files(&layout), &vm).await;
        assert!(!home.exists());
        remove_empty(files(&layout), &vm).await;
    }
}
