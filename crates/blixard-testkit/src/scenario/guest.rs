//! What scenarios ask of a vm: how the cluster, systemd and the guest itself say that it does.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::Value;

use crate::host::Host;
use crate::wait::{self, Seen};

/// How long a guest may take to boot, or a vm to get somewhere, on a machine that does much else.
const LIMIT: Duration = Duration::from_mins(5);

/// A run of a guest: what stays the same for as long as nobody touches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct GuestRun {
    /// The guest kernel's own id of its boot.
    pub(super) boot: String,
    /// The hypervisor.
    pub(super) main_pid: u32,
    /// Where and how often it was placed.
    pub(super) epoch: u64,
    /// What runs.
    pub(super) generation: u64,
}

/// A vm of the tenant `default` whose guest says a line when it has booted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Guest<'a> {
    pub(super) host: &'a Host,
    pub(super) name: &'static str,
}

impl Guest<'_> {
    /// The unit that runs it.
    pub(super) fn unit(self) -> String {
        format!("blixard-vm-default-{}-run.service", self.name)
    }

    /// The unit's property as systemd shows it.
    pub(super) fn property(self, name: &str) -> anyhow::Result<String> {
        let property = format!("--property={name}");
        let value = self.host.run_ok(&["systemctl", "show", "--value", &property, &self.unit()])?;
        Ok(value.trim().to_owned())
    }

    /// The hypervisor's process; `None` if there is none.
    pub(super) fn main_pid(self) -> anyhow::Result<Option<u32>> {
        let pid: u32 = self.property("MainPID")?.parse().context("systemd shows no process id")?;
        Ok(Some(pid).filter(|&pid| pid != 0))
    }

    /// All that its console has said.
    pub(super) fn console(self) -> anyhow::Result<String> {
        self.host.run_ok(&["blixard", "vm", "logs", self.name])
    }

    /// How often its console has said this.
    pub(super) fn said(self, words: &str) -> anyhow::Result<usize> {
        Ok(self.console()?.matches(words).count())
    }

    /// How often it has shut down in good order.
    pub(super) fn shutdowns(self) -> anyhow::Result<usize> {
        self.said(&format!("blixard-guest {} down", self.name))
    }

    /// The boots that its console tells of, oldest first.
    pub(super) fn boots(self) -> anyhow::Result<Vec<String>> {
        let said = format!("blixard-guest {} generation ", self.name);
        let console = self.console()?;
        let lines = console.lines().filter_map(|line| line.split_once(&said)?.1.split_once(" boot "));
        Ok(lines.map(|(_, boot)| boot.trim().to_owned()).collect())
    }

    /// Waits until it has booted more often than this.
    pub(super) fn await_boot_after(self, boots: usize) -> anyhow::Result<()> {
        wait::until(&format!("{} to boot", self.name), LIMIT, || {
            let seen = self.boots()?;
            Ok(if seen.len() > boots { Seen::Done(()) } else { Seen::Instead(self.console()?) })
        })
    }

    /// The vm as the cluster knows it.
    pub(super) fn shown(self) -> anyhow::Result<Value> {
        let json = self.host.run_ok(&["blixard", "vm", "show", "-o", "json", self.name])?;
        serde_json::from_str(&json).with_context(|| format!("`vm show -o json` is no JSON: {json}"))
    }

    /// Waits until the cluster knows it to be so.
    pub(super) fn await_status(self, status: &str) -> anyhow::Result<Value> {
        wait::until(&format!("{} to be {status}", self.name), LIMIT, || {
            let shown = self.shown()?;
            let there = field(&shown, "status") == status;
            Ok(if there { Seen::Done(shown) } else { Seen::Instead(shown.to_string()) })
        })
    }

    /// Waits until it is healthy, and tells which run it is.
    pub(super) fn healthy(self) -> anyhow::Result<GuestRun> {
        let shown = self.await_status("healthy")?;
        let number =
            |name: &str| field(&shown, name).as_u64().with_context(|| format!("no {name} in {shown}"));
        Ok(GuestRun {
            boot: self.boots()?.pop().context("it is healthy and has not booted")?,
            main_pid: self.main_pid()?.context("it is healthy and has no process")?,
            epoch: number("epoch")?,
            generation: number("runningGeneration")?,
        })
    }

    /// Waits until nothing of its units is loaded.
    pub(super) fn await_no_unit(self) -> anyhow::Result<()> {
        let pattern = format!("blixard-vm-default-{}-*", self.name);
        wait::until(&format!("the units of {} to go", self.name), LIMIT, || {
            let list = ["systemctl", "list-units", "--all", "--plain", "--no-legend", &pattern];
            let units = self.host.run_ok(&list)?;
            Ok(if units.trim().is_empty() { Seen::Done(()) } else { Seen::Instead(units) })
        })
    }
}

/// A field of an object; `null` if it has none of that name.
pub(super) fn field<'a>(object: &'a Value, name: &str) -> &'a Value {
    object.get(name).unwrap_or(&Value::Null)
}

/// Waits until a guest runs anew, and tells how.
pub(super) fn await_new_run(guest: Guest<'_>, before: &GuestRun, boots: usize) -> anyhow::Result<GuestRun> {
    guest.await_boot_after(boots)?;
    let run = guest.healthy()?;
    ensure!(run.boot != before.boot && run.main_pid != before.main_pid, "{run:?} is no new run");
    Ok(run)
}
