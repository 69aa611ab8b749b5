//! Cgroups of worlds and hosts in the machine's version 2 hierarchy.
//!
//! Each host has one of its own, made before nspawn starts: two containers started from one cgroup share
//! `payload`, and a kill in one hits the other. Works on a pure version 2 machine and on a hybrid one,
//! where version 2 has no controllers and only groups processes.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use crate::wait::{self, Seen};

/// A cgroup, which may not exist (any more).
#[derive(Debug, Clone)]
pub(crate) struct Cgroup {
    path: PathBuf,
}

impl Cgroup {
    pub(super) fn at(path: PathBuf) -> Self {
        Self { path }
    }

    /// The parent of the worlds of this checkout.
    pub(super) fn base(workspace: &Path) -> anyhow::Result<Self> {
        let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
        let root = v2_root(&mounts).context("this machine has no cgroup version 2 hierarchy mounted")?;
        let hash = data_encoding::HEXLOWER.encode(&Sha256::digest(workspace.as_os_str().as_encoded_bytes()));
        let short: String = hash.chars().take(8).collect();
        Ok(Self::at(Path::new(root).join(format!("blixard-testhost-{short}"))))
    }

    pub(super) fn child(&self, name: &str) -> Self {
        Self::at(self.path.join(name))
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The folder of a cgroup in it.
    pub(crate) fn below(&self, path: &str) -> PathBuf {
        self.path.join(path)
    }

    /// Makes it, with its parents, and hands down the controllers that there are.
    pub(super) fn create(&self) -> anyhow::Result<()> {
        fs::create_dir_all(&self.path).with_context(|| format!("cannot make {}", self.path.display()))?;
        let ancestors: Vec<&Path> = self.path.ancestors().collect();
        for group in ancestors.iter().rev().filter(|path| path.join("cgroup.controllers").exists()) {
            for controller in ["cpu", "memory", "pids", "io"] {
                // One that is not there, or not ours to give, is a limit that the hosts do not have.
                let _ = fs::write(group.join("cgroup.subtree_control"), format!("+{controller}"));
            }
        }
        Ok(())
    }

    /// The processes in it, by their number in this namespace; none if it does not exist.
    pub(crate) fn processes(&self, below: &str) -> Vec<u32> {
        let text = fs::read_to_string(self.path.join(below).join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    pub(crate) fn is_populated(&self) -> bool {
        fs::read_to_string(self.path.join("cgroup.events"))
            .is_ok_and(|events| events.lines().any(|line| line == "populated 1"))
    }

    /// Kills everything in it at once, and waits until it is empty.
    pub(crate) fn kill(&self) -> anyhow::Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        fs::write(self.path.join("cgroup.kill"), "1")
            .with_context(|| format!("cannot kill {}", self.path.display()))?;
        self.wait_until_empty(Duration::from_secs(10))
    }

    pub(crate) fn wait_until_empty(&self, limit: Duration) -> anyhow::Result<()> {
        wait::until(&format!("{} to be empty", self.path.display()), limit, || {
            Ok(if self.is_populated() { Seen::Instead("processes".to_owned()) } else { Seen::Done(()) })
        })
    }

    /// Removes it and the cgroups in it, which have no processes.
    pub(super) fn remove(&self) -> anyhow::Result<()> {
        if !self.path.exists() {
            return Ok(());
        }
        for child in self.children()? {
            child.remove()?;
        }
        fs::remove_dir(&self.path).with_context(|| format!("cannot remove {}", self.path.display()))
    }

    /// Makes it anew. A cgroup remembers that it was killed, and Linux kills at once whatever is forked from
    /// it into one that was not.
    pub(crate) fn renew(&self) -> anyhow::Result<()> {
        self.remove()?;
        self.create()
    }

    pub(super) fn children(&self) -> anyhow::Result<Vec<Self>> {
        if !self.path.exists() {
            return Ok(Vec::new());
        }
        let entries =
            fs::read_dir(&self.path).with_context(|| format!("cannot list {}", self.path.display()))?;
        Ok(entries.flatten().map(|entry| entry.path()).filter(|path| path.is_dir()).map(Self::at).collect())
    }
}

/// Where version 2 is mounted; on a hybrid machine beside the version 1 hierarchies.
fn v2_root(mounts: &str) -> Option<&str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (path, kind) = (fields.next()?, fields.next()?);
        (kind == "cgroup2").then_some(path)
    })
}

#[cfg(test)]
mod tests {
    use super::v2_root;

    #[test]
    fn the_version_2_hierarchy_is_found_on_pure_and_on_hybrid_machines() {
        let pure = "proc /proc proc rw 0 0\ncgroup2 /sys/fs/cgroup cgroup2 rw,nsdelegate 0 0\n";
        let hybrid = "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n\
                      cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(v2_root(pure), Some("/sys/fs/cgroup"));
        assert_eq!(v2_root(hybrid), Some("/sys/fs/cgroup/unified"));
        assert_eq!(v2_root("cgroup /sys/fs/cgroup/cpu cgroup rw,cpu 0 0\n"), None);
    }
}
