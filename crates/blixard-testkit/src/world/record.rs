//! What is written down of a world, so that another process can enter and end it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use serde::{Deserialize, Serialize};

/// A world, in `world.json` of its folder.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Record {
    pub(super) name: String,
    /// The process whose network namespace has the bridge.
    pub(super) keeper: u32,
    pub(super) cgroup: PathBuf,
    pub(super) hosts: Vec<HostRecord>,
}

/// A host of it.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct HostRecord {
    pub(super) name: String,
    /// Its address on the bridge, without a prefix length.
    pub(super) address: String,
}

impl HostRecord {
    /// The host of this number, from 1.
    pub(super) fn numbered(number: usize) -> Self {
        Self { name: format!("n{number}"), address: format!("10.77.0.{number}") }
    }
}

impl Record {
    pub(super) fn read(world: &Path) -> anyhow::Result<Self> {
        let path = world.join("world.json");
        let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("{} is no record of a world", path.display()))
    }

    pub(super) fn write(&self, world: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        fs::write(world.join("world.json"), text).context("cannot write the record of the world")
    }
}

/// Makes the folders of a world, with what a host must know of itself before it boots.
pub(super) fn lay_out(world: &Path, hosts: &[HostRecord]) -> anyhow::Result<()> {
    let lines = hosts.iter().map(|host| format!("{} {}\n", host.address, host.name));
    let names: String =
        std::iter::once("127.0.0.1 localhost\n::1 localhost\n".to_owned()).chain(lines).collect();
    for host in hosts {
        let folder = world.join(&host.name);
        let etc = folder.join("upper/etc");
        for made in [&etc, &folder.join("work"), &folder.join("root")] {
            fs::create_dir_all(made).with_context(|| format!("cannot make {}", made.display()))?;
        }
        fs::write(etc.join("hosts"), &names)?;
        fs::write(etc.join("hostname"), format!("{}\n", host.name))?;
        fs::write(etc.join("testhost-address"), format!("{}/24\n", host.address))?;
        let random = fs::read_to_string("/proc/sys/kernel/random/uuid")?.replace('-', "");
        fs::write(etc.join("machine-id"), random)?;
    }
    Ok(())
}
