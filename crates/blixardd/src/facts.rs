//! What this machine is, as far as placement cares.

use std::fs;

use blixard_core::state::NodeFacts;

const MIB_IN_KIB: u64 = 1024;

/// The facts of this machine.
pub(crate) fn facts() -> NodeFacts {
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
    }
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
        let facts = facts();
        assert!(facts.cpus > 0 && facts.memory_mib > 0 && facts.system.ends_with("-linux"), "{facts:?}");
    }
}
