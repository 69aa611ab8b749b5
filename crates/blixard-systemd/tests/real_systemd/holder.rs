//! The holder that a real systemd starts. Needs `blixard-lease` and its units, installed.

use std::time::Duration;

use anyhow::Result;
use blixard_core::ports::{BootMillis, Clock, RawMillis, UnixMillis};
use blixard_systemd::SystemdHolder;
use blixard_testkit::fake::holder::contract;

use crate::machine::{Machine, say};

struct BootClock;

impl Clock for BootClock {
    fn wall(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn boot(&self) -> BootMillis {
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let seconds = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
        BootMillis(u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap_or(u64::MAX))
    }

    fn raw(&self) -> RawMillis {
        RawMillis(self.boot().0)
    }
}

#[tokio::test]
async fn the_holder_keeps_the_contract() -> Result<()> {
    let Some(machine) = Machine::get("the holder").await? else {
        return Ok(());
    };
    if !std::path::Path::new("/etc/systemd/system/blixard-lease.service").exists() {
        say("SKIPPED the holder: blixard-lease.service is not installed");
        return Ok(());
    }
    crate::machine::run(&["systemctl", "stop", "blixardd", "blixard-lease"]).await.ok();
    contract::keeps(&SystemdHolder::new(&machine.systemd), &BootClock).await?;
    crate::machine::run(&["systemctl", "stop", "blixard-lease"]).await.map(drop)
}
