//! Installing Blixard on a host: the three programs, a configuration, their units.
//!
//! Does by hand what `modules/` does on NixOS.

use std::path::PathBuf;

use anyhow::Context as _;

use super::Host;
use crate::Workspace;

/// The programs to install, as built.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// The daemon.
    pub blixardd: PathBuf,
    /// The command line.
    pub blixard: PathBuf,
    /// The holder of the host's lease.
    pub lease: PathBuf,
    /// The writers of scenarios, which are no part of Blixard. May not be built.
    pub writers: PathBuf,
    /// The workbench for closures, likewise.
    pub closure_lab: PathBuf,
}

impl Binaries {
    /// What `cargo build -p blixardd -p blixard-cli -p blixard-lease` leaves.
    ///
    /// # Errors
    /// When a program is not there.
    pub fn built(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::of(workspace, "debug")
    }

    /// What the same with `--release` leaves: what ships.
    ///
    /// # Errors
    /// When a program is not there.
    pub fn released(workspace: &Workspace) -> anyhow::Result<Self> {
        Self::of(workspace, "release")
    }

    fn of(workspace: &Workspace, profile: &str) -> anyhow::Result<Self> {
        let built = |name: &str| {
            let path = workspace.target().join(profile).join(name);
            anyhow::ensure!(
                path.exists(),
                "{} is not built; `cargo build -p blixardd -p blixard-cli -p blixard-lease` does, for benchmarks with `--release`",
                path.display()
            );
            Ok(path)
        };
        let folder = workspace.target().join(profile);
        Ok(Self {
            blixardd: built("blixardd")?,
            blixard: built("blixard")?,
            lease: built("blixard-lease")?,
            writers: folder.join("blixard-bench"),
            closure_lab: folder.join("blixard-closure-lab"),
        })
    }
}

/// The daemon's unit as the NixOS module makes it, with all that it closes: what a scenario needs of the machine, it
/// needs there, too.
const UNIT: &str = include_str!("../../../../checks/offline/snapshots/blixardd.service");

/// Text of the module with the programs where this host has them.
pub(crate) fn with_programs_of_debian(text: &str) -> String {
    let mut here = text.replace("/run/current-system/sw/", "/usr/local/");
    for (package, folder) in [("blixard", "/usr/local"), ("iproute2", "/usr"), ("nix", "/usr")] {
        here = here.replace(&format!("/nix/store/…-{package}/"), &format!("{folder}/"));
    }
    here
}

/// What fences the host, and what shuts guests down with it, as they are shipped.
const UNITS: [(&str, &str); 3] = [
    ("blixard-lease.service", include_str!("../../../blixard-lease/systemd/blixard-lease.service")),
    ("blixard-fence.service", include_str!("../../../blixard-lease/systemd/blixard-fence.service")),
    ("blixard-drain.service", include_str!("../../../blixardd/systemd/blixard-drain.service")),
];

impl Host {
    /// Installs Blixard as a cluster of one, and starts it.
    ///
    /// # Errors
    /// When the daemon does not report that it is ready, with the end of its journal.
    pub fn install_blixard(&self, binaries: &Binaries) -> anyhow::Result<()> {
        self.install_blixard_with(binaries, &format!("[node]\nname = \"{}\"\n", self.name()))
    }

    /// Installs Blixard with this configuration, and starts it.
    ///
    /// # Errors
    /// As [`Host::install_blixard`].
    pub fn install_blixard_with(&self, binaries: &Binaries, config: &str) -> anyhow::Result<()> {
        self.copy_in(&binaries.blixardd, "/usr/local/bin/blixardd", 0o755)?;
        self.copy_in(&binaries.blixard, "/usr/local/bin/blixard", 0o755)?;
        self.copy_in(&binaries.lease, "/usr/local/bin/blixard-lease", 0o755)?;
        for (name, unit) in UNITS {
            self.write(&format!("/etc/systemd/system/{name}"), unit, 0o644)?;
        }
        self.write("/etc/blixard/blixardd.toml", config, 0o644)?;
        self.write("/etc/systemd/system/blixardd.service", with_programs_of_debian(UNIT), 0o644)?;
        self.run_ok(&["systemctl", "daemon-reload"])?;
        self.run_ok(&["systemctl", "enable", "--now", "blixardd.service", "blixard-drain.service"])
            .map(drop)
            .with_context(|| {
                let journal = self.run_ok(&["journalctl", "--no-pager", "--lines=30", "--unit=blixardd"]);
                format!("blixardd does not start; it said:\n{}", journal.unwrap_or_default())
            })
    }
}
