//! The local store, and the clock, as the daemon has them.

use std::sync::Arc;

use blixard_core::ports::confined::Confinement;
use blixard_core::ports::nix::NixStore;
use blixard_core::ports::{BootMillis, Clock, RawMillis, UnixMillis};
use blixard_nix::{NixCli, NixCliOptions};
use blixard_testkit::fake::confined::ChildProcesses;
use blixard_types::StorePath;
use rustix::time::{ClockId, clock_gettime};

/// The store by the Nix command line; nothing is evaluated or built here.
pub(crate) fn store() -> Arc<dyn NixStore> {
    let confinement: Arc<dyn Confinement> = Arc::new(ChildProcesses);
    Arc::new(NixCli::new(NixCliOptions::default(), &confinement))
}

pub(crate) async fn reference(path: StorePath) -> anyhow::Result<String> {
    let manifest = store().closure(path).await?;
    Ok(serde_json::to_string(&manifest.closure_ref()?)?)
}

/// The machine's clock.
#[derive(Debug)]
pub(crate) struct MachineClock;

impl Clock for MachineClock {
    fn wall(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn boot(&self) -> BootMillis {
        BootMillis(read(ClockId::Boottime))
    }

    fn raw(&self) -> RawMillis {
        RawMillis(read(ClockId::MonotonicRaw))
    }
}

fn read(clock: ClockId) -> u64 {
    let now = clock_gettime(clock);
    let (seconds, nanos) = (u64::try_from(now.tv_sec), u64::try_from(now.tv_nsec));
    seconds.unwrap_or_default() * 1000 + nanos.unwrap_or_default() / 1_000_000
}

/// The most memory that this process has had, in KiB.
pub(crate) fn peak_memory_kib() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
