//! What a host is like, as far as a refused command could change it.

use std::time::Duration;

use anyhow::Context as _;

use crate::host::Host;
use crate::wait::{self, Seen};

/// What was built for a refused deployment is let go in the background.
const SETTLE_LIMIT: Duration = Duration::from_secs(20);

/// The vms with their generations, their processes, their roots.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::scenario) struct Standing {
    vms: String,
    units: String,
    roots: String,
}

impl Standing {
    pub(in crate::scenario) fn of(host: &Host) -> anyhow::Result<Self> {
        let json = host.run_ok(&["blixard", "vm", "list", "-o", "json"])?;
        let list: serde_json::Value = serde_json::from_str(&json).context("`vm list -o json` is no JSON")?;
        let vms = list.get("vms").context("`vm list -o json` has no vms")?.to_string();
        Ok(Self { vms, ..Self::without_daemon(host)? })
    }

    /// What can be seen while the daemon is away.
    pub(in crate::scenario) fn without_daemon(host: &Host) -> anyhow::Result<Self> {
        let units = host.shell(
            "for unit in $(systemctl list-units --all --plain --no-legend 'blixard-vm-*' | cut -d' ' -f1); do \
               systemctl show --property=Id,MainPID,NRestarts,ActiveState \"$unit\"; done",
        )?;
        let roots = host.shell("find /nix/var/nix/gcroots/blixard | sort")?;
        Ok(Self { vms: String::new(), units, roots })
    }

    /// Checks that the host is as it was.
    pub(in crate::scenario) fn is_kept(&self, host: &Host) -> anyhow::Result<()> {
        wait::until("the host to be as it was before", SETTLE_LIMIT, || {
            let now = Self::of(host)?;
            Ok(if now == *self { Seen::Done(()) } else { Seen::Instead(format!("{now:#?}, not {self:#?}")) })
        })
    }

    /// Checks that the same processes run.
    pub(in crate::scenario) fn runs_on(&self, host: &Host) -> anyhow::Result<()> {
        let now = Self::without_daemon(host)?.units;
        anyhow::ensure!(now == self.units, "the guests were touched: {now}\nnot {}", self.units);
        Ok(())
    }
}
