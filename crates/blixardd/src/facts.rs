//! What this machine is, as far as placement cares.

#![expect(clippy::disallowed_methods, reason = "asks this machine what it is, once")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::process::Command;

use blixard_core::state::{NodeFacts, Terms};
use blixard_types::spec::Hypervisor;

use crate::config::Config;

const MIB_IN_KIB: u64 = 1024;
/// Where the guests' files are below the state directory, and how deep a volume can be in it.
const FOLDERS_DEEP: usize = 8;
/// `st_blocks` counts in this many bytes, whatever the file system's blocks are (stat(3)).
const BLOCK_BYTES: u64 = 512;

/// What volumes cannot have of a file system, unless somebody says otherwise: the store, journals, and the cluster's log
/// on a server grow on it, too, and a full one stops the server. The larger of the two, and half of a small file system.
const RESERVE_BYTES: u64 = 2 << 30;
/// A twentieth of it.
const RESERVE_PART: u64 = 20;

/// The facts of this machine.
pub(crate) fn facts(config: &Config) -> NodeFacts {
    let uname = rustix::system::uname();
    let machine = uname.machine().to_string_lossy();
    let cpus = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    NodeFacts {
        cpus: u32::try_from(cpus).unwrap_or(u32::MAX),
        memory_mib: total_memory_mib(&fs::read_to_string("/proc/meminfo").unwrap_or_default()),
        system: format!("{machine}-linux"),
        kvm: fs::File::options().read(true).write(true).open("/dev/kvm").is_ok(),
        kernel: uname.release().to_string_lossy().into_owned(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        disk_mib: config.host.disk_mib.or_else(|| disk_mib(&config.host.state_dir)),
        hypervisors: hypervisors(&std::env::var("PATH").unwrap_or_default(), &machine),
        nix_version: nix_version(&config.nix.store_command),
        terms: terms(config),
        shared: config.host.shared(),
    }
}

fn terms(config: &Config) -> Terms {
    Terms {
        labels: config.node.labels.clone(),
        cpu_overcommit: config.host.cpu_overcommit,
        tenants: config.host.tenants.clone(),
        hypervisors: config.host.hypervisors.clone(),
    }
}

/// What volumes can have: what is free, and what they take already, but for a reserve.
fn disk_mib(state_dir: &Path) -> Option<u64> {
    let existing = state_dir.ancestors().find(|folder| folder.exists())?;
    let fs = rustix::fs::statvfs(existing).ok()?;
    let free = fs.f_bavail.saturating_mul(fs.f_frsize);
    let has = free.saturating_add(used(&state_dir.join("vms"), FOLDERS_DEEP));
    Some(has.saturating_sub(reserve(fs.f_blocks.saturating_mul(fs.f_frsize))) >> 20)
}

/// What is kept of a file system of this size.
fn reserve(whole: u64) -> u64 {
    (whole / RESERVE_PART).max(RESERVE_BYTES).min(whole / 2)
}

fn used(folder: &Path, deep: usize) -> u64 {
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let sizes = entries.flatten().filter_map(|entry| {
        let metadata = entry.metadata().ok()?;
        if metadata.is_dir() {
            return deep.checked_sub(1).map(|deep| used(&entry.path(), deep));
        }
        metadata.is_file().then(|| metadata.blocks() * BLOCK_BYTES)
    });
    sizes.sum()
}

/// The hypervisors of which a program is in one of these folders.
fn hypervisors(path: &str, machine: &str) -> BTreeSet<Hypervisor> {
    let program = |hypervisor: Hypervisor| match hypervisor {
        Hypervisor::Qemu => format!("qemu-system-{machine}"),
        Hypervisor::Kvmtool => "lkvm".to_owned(),
        other => other.name().to_owned(),
    };
    let is_there = |hypervisor: &Hypervisor| {
        let program = program(*hypervisor);
        path.split(':')
            .filter(|folder| !folder.is_empty())
            .any(|folder| is_program(&Path::new(folder).join(&program)))
    };
    Hypervisor::ALL.into_iter().filter(is_there).collect()
}

fn is_program(file: &Path) -> bool {
    fs::metadata(file).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The last word of `nix-store (Nix) 2.26.3`; empty where there is no Nix.
fn nix_version(nix_store: &Path) -> String {
    let output = Command::new(nix_store).arg("--version").output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    text.lines().next().and_then(|line| line.split_whitespace().next_back()).unwrap_or_default().to_owned()
}

/// The kernel's boot id.
pub(crate) fn boot_id() -> Result<String, std::io::Error> {
    Ok(fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned())
}

fn total_memory_mib(meminfo: &str) -> u64 {
    let kib = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    });
    kib.unwrap_or_default() / MIB_IN_KIB
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_is_read_in_mib_and_is_none_where_it_is_not_told() {
        assert_eq!(total_memory_mib("MemTotal:       24689764 kB\nMemFree: 1 kB\n"), 24111);
        assert_eq!(total_memory_mib("nothing"), 0);
    }

    #[test]
    fn this_machine_has_processors_memory_and_a_platform() {
        let facts = facts(&Config::default());
        assert!(facts.cpus > 0 && facts.memory_mib > 0 && facts.system.ends_with("-linux"), "{facts:?}");
        assert!(facts.disk_mib.is_some(), "{facts:?}");
    }

    #[test]
    fn only_programs_count_as_hypervisors() {
        let folder = tempfile::tempdir().unwrap();
        for (name, mode) in [("qemu-system-x86_64", 0o755), ("lkvm", 0o644), ("crosvm", 0o755)] {
            let file = folder.path().join(name);
            fs::write(&file, "").unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(mode)).unwrap();
        }
        fs::create_dir(folder.path().join("firecracker")).unwrap();
        let path = format!("/nowhere::{}", folder.path().display());
        let found = hypervisors(&path, "x86_64");
        assert_eq!(found, [Hypervisor::Qemu, Hypervisor::Crosvm].into());
        assert_eq!(hypervisors(&path, "aarch64"), [Hypervisor::Crosvm].into());
    }

    #[test]
    fn the_space_that_volumes_take_already_is_theirs() {
        let folder = tempfile::tempdir().unwrap();
        let home = folder.path().join("vms/default/web/deep");
        fs::create_dir_all(&home).unwrap();
        fs::write(home.join("disk.img"), vec![7; 3 << 20]).unwrap();
        fs::File::create(home.join("sparse.img")).unwrap().set_len(1 << 40).unwrap();
        let used = used(&folder.path().join("vms"), FOLDERS_DEEP) >> 20;
        assert!((3..=4).contains(&used), "{used} MiB");
        assert_eq!(super::used(&folder.path().join("nothing"), FOLDERS_DEEP), 0);
    }

    #[test]
    fn a_part_of_the_file_system_is_no_room_for_volumes() {
        const GIB: u64 = 1 << 30;
        assert_eq!([1, 10, 40, 1000].map(|gib| reserve(gib * GIB)), [GIB / 2, 2 * GIB, 2 * GIB, 50 * GIB]);
        let folder = tempfile::tempdir().unwrap();
        let fs = rustix::fs::statvfs(folder.path()).unwrap();
        let free = (fs.f_bavail * fs.f_frsize) >> 20;
        let promised = disk_mib(folder.path()).unwrap();
        let kept = reserve(fs.f_blocks * fs.f_frsize) >> 20;
        // Others write meanwhile: a quarter of what is kept is room enough for them.
        assert!(promised <= free.saturating_sub(kept / 4 * 3), "{promised} of {free} MiB are promised");
    }

    #[test]
    fn a_machine_without_nix_has_no_version_of_it() {
        assert_eq!(nix_version(Path::new("/nowhere/nix-store")), "");
    }
}
