//! The daemon's configuration: every key, its default, and what is wrong with a value.

mod cache;
mod cluster;
mod fencing;
mod limits;
mod transfer;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use blixard_core::state::{CPU_OVERCOMMIT, Role, Roles, SharedStorage};
use blixard_types::spec::Hypervisor;
use blixard_types::{NodeName, TenantName, VolumeName};
use serde::Deserialize;

pub(crate) use cache::Cache;
pub(crate) use cluster::Cluster;
pub(crate) use fencing::Fencing;
pub(crate) use limits::{Builder, Evaluation, Sources};
pub(crate) use transfer::Transfer;

/// The configuration. A key that is not here is refused.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    pub(crate) node: Node,
    pub(crate) storage: Storage,
    pub(crate) api: Api,
    pub(crate) cluster: Cluster,
    pub(crate) fencing: Fencing,
    pub(crate) host: Host,
    pub(crate) nix: Nix,
    pub(crate) sources: Sources,
    pub(crate) evaluation: Evaluation,
    pub(crate) builder: Builder,
    pub(crate) transfer: Transfer,
    pub(crate) cache: Cache,
    pub(crate) log: Log,
}

/// `[node]`: this machine.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Node {
    /// Its name in the cluster; the host name if absent.
    pub(crate) name: Option<NodeName>,
    /// What it is for.
    pub(crate) roles: Roles,
    /// What constraints of vms match on.
    pub(crate) labels: BTreeMap<String, String>,
}

/// `[storage]`: what the daemon writes.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Storage {
    /// The replicated log, its checkpoints, and the node's identity.
    pub(crate) data_dir: PathBuf,
}

/// `[api]`: how callers reach the daemon.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Api {
    /// The Unix socket for local callers.
    pub(crate) socket: PathBuf,
    /// The group whose members may use it, beside root.
    pub(crate) group: String,
}

/// `[host]`: where vms keep their files.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Host {
    /// What outlives a start of a vm, in `vms/<tenant>/<name>` below it.
    pub(crate) state_dir: PathBuf,
    /// Sockets of vms, in `<tenant>/<name>` below it; below /run.
    pub(crate) runtime_dir: PathBuf,
    /// The bridge that taps are put on whose interface names none.
    pub(crate) bridge: Option<String>,
    /// The program `ip`, which makes taps.
    pub(crate) ip_command: PathBuf,
    /// Virtual processors of vms per processor, at most.
    pub(crate) cpu_overcommit: u32,
    /// Space for volumes; what the file system of `state_dir` has for them if absent.
    pub(crate) disk_mib: Option<u64>,
    /// Whose vms it takes; everybody's if empty.
    pub(crate) tenants: BTreeSet<TenantName>,
    /// The hypervisors that may run there; any if empty.
    pub(crate) hypervisors: BTreeSet<Hypervisor>,
    /// Volumes that several hosts see, by name.
    pub(crate) shared_volumes: BTreeMap<VolumeName, SharedVolume>,
    /// The program `blixard-lease`, absolute; the one beside the daemon's own program if absent.
    pub(crate) lease_command: Option<PathBuf>,
    /// Secrets of vms, in `<tenant>/` below it, absolute.
    pub(crate) credentials_dir: PathBuf,
}

/// `[host.shared_volumes]`: one that this host sees, as others do.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct SharedVolume {
    /// The file or block device, absolute.
    pub(crate) path: PathBuf,
    /// Whether the storage takes no writes of a host that is lost.
    #[serde(default)]
    pub(crate) fenced: bool,
}

impl Host {
    /// Where the shared volumes are.
    pub(crate) fn shared_paths(&self) -> BTreeMap<VolumeName, String> {
        let path = |volume: &SharedVolume| volume.path.display().to_string();
        self.shared_volumes.iter().map(|(name, volume)| (name.clone(), path(volume))).collect()
    }

    /// What other nodes are told of the shared volumes.
    pub(crate) fn shared(&self) -> BTreeMap<VolumeName, SharedStorage> {
        let storage = |volume: &SharedVolume| {
            if volume.fenced { SharedStorage::Fenced } else { SharedStorage::Unfenced }
        };
        self.shared_volumes.iter().map(|(name, volume)| (name.clone(), storage(volume))).collect()
    }
}

/// `[nix]`: how Nix is run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Nix {
    /// The program `nix`.
    pub(crate) command: PathBuf,
    /// The program `nix-store`.
    pub(crate) store_command: PathBuf,
    /// The folder of our garbage collector roots.
    pub(crate) gc_roots: PathBuf,
}

/// `[log]`: what is written to the journal.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Log {
    /// Levels by module, as in `info,blixard_host=debug`.
    pub(crate) filter: String,
}

impl Default for Node {
    fn default() -> Self {
        let roles = [Role::Server, Role::Host, Role::Builder].into();
        Self { name: None, roles, labels: BTreeMap::new() }
    }
}

impl Default for Storage {
    fn default() -> Self {
        Self { data_dir: "/var/lib/blixard".into() }
    }
}

impl Default for Api {
    fn default() -> Self {
        Self { socket: "/run/blixard/blixardd.sock".into(), group: "blixard".to_owned() }
    }
}

impl Default for Host {
    fn default() -> Self {
        let (state_dir, runtime_dir) = ("/var/lib/blixard".into(), "/run/blixard-vms".into());
        Self {
            state_dir,
            runtime_dir,
            bridge: None,
            ip_command: "ip".into(),
            cpu_overcommit: CPU_OVERCOMMIT,
            shared_volumes: BTreeMap::new(),
            lease_command: None,
            credentials_dir: "/etc/blixard/credentials".into(),
            disk_mib: None,
            tenants: BTreeSet::new(),
            hypervisors: BTreeSet::new(),
        }
    }
}

impl Default for Nix {
    fn default() -> Self {
        let (command, store_command) = ("nix".into(), "nix-store".into());
        Self { command, store_command, gc_roots: "/nix/var/nix/gcroots/blixard".into() }
    }
}

impl Default for Log {
    fn default() -> Self {
        // openraft tells every heartbeat at info, and warns 30 times a second of a peer that is down; what
        // an operator should know of peers is told by our own code, once.
        Self { filter: "info,openraft=error".to_owned() }
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}", .file.display())]
    Read {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The file is not TOML.
    #[error("{}: {reason}", .file.display())]
    Syntax {
        /// The file.
        file: PathBuf,
        /// Where and what, in the parser's words.
        reason: String,
    },
    /// A key is wrong.
    #[error("{}: {key}: {reason}", .file.display())]
    Key {
        /// The file.
        file: PathBuf,
        /// The key, dotted.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl Config {
    /// Reads and checks a file.
    pub(crate) fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|cause| ConfigError::Read { file: file.to_owned(), cause })?;
        Self::parse(file, &text)
    }

    fn parse(file: &Path, text: &str) -> Result<Self, ConfigError> {
        let table = text.parse::<toml::Table>().map_err(|error| ConfigError::Syntax {
            file: file.to_owned(),
            reason: error.to_string().trim_end().to_owned(),
        })?;
        let wrong = |key: String, reason: String| ConfigError::Key { file: file.to_owned(), key, reason };
        let config: Self = serde_path_to_error::deserialize(toml::Value::Table(table)).map_err(|error| {
            let key = error.path().to_string();
            wrong(key, in_words(error.into_inner().message().trim_end()))
        })?;
        match config.problem() {
            Some((key, reason)) => Err(wrong(key.to_owned(), reason)),
            None => Ok(config),
        }
    }

    /// What the types do not express.
    fn problem(&self) -> Option<(&'static str, String)> {
        let absolute = [
            ("storage.data_dir", &self.storage.data_dir),
            ("api.socket", &self.api.socket),
            ("host.state_dir", &self.host.state_dir),
            ("host.runtime_dir", &self.host.runtime_dir),
            ("host.credentials_dir", &self.host.credentials_dir),
            ("nix.gc_roots", &self.nix.gc_roots),
        ];
        if let Some((key, path)) = absolute.into_iter().find(|(_, path)| !path.is_absolute()) {
            return Some((key, format!("{} is not an absolute path", path.display())));
        }
        if !self.host.runtime_dir.starts_with("/run") || self.host.runtime_dir == Path::new("/run") {
            let path = self.host.runtime_dir.display();
            return Some(("host.runtime_dir", format!("{path} is not below /run, where systemd makes it")));
        }
        if self.api.socket.parent() == Some(self.host.runtime_dir.as_path()) {
            let reason = "the daemon's socket is in it, and systemd empties that directory with the daemon";
            return Some(("host.runtime_dir", reason.to_owned()));
        }
        let limits = self.sources.problem().or_else(|| self.evaluation.problem());
        let limits = limits.or_else(|| self.builder.problem()).or_else(|| self.transfer.problem());
        if let Some(problem) = limits.or_else(|| self.cache.problem()) {
            return Some(problem);
        }
        if let Some(problem) = self.cluster.problem().or_else(|| self.fencing.problem()) {
            return Some(problem);
        }
        if let Some(path) = self.host.lease_command.as_ref().filter(|path| !path.is_absolute()) {
            return Some(("host.lease_command", format!("{} is not an absolute path", path.display())));
        }
        let shared = self.host.shared_volumes.values().find(|volume| !volume.path.is_absolute());
        if let Some(SharedVolume { path, .. }) = shared {
            return Some(("host.shared_volumes", format!("{} is not an absolute path", path.display())));
        }
        if self.node.roles.is_empty() {
            return Some(("node.roles", "a node without a role does nothing".to_owned()));
        }
        if !self.node.roles.contains(&Role::Server) && self.node.roles.contains(&Role::Builder) {
            let reason = "a builder needs the role `server` too: deployments are sent to servers";
            return Some(("node.roles", reason.to_owned()));
        }
        if let Some(label) = self.node.labels.keys().find(|label| label.starts_with("blixard/")) {
            return Some((
                "node.labels",
                format!("{label}: labels that begin with blixard/ are Blixard's own"),
            ));
        }
        if self.host.cpu_overcommit == 0 {
            return Some(("host.cpu_overcommit", "must be at least 1".to_owned()));
        }
        if let Err(error) = self.log.filter.parse::<tracing_subscriber::EnvFilter>() {
            return Some(("log.filter", error.to_string()));
        }
        None
    }
}

/// A refusal without the names of Rust's types.
fn in_words(refusal: &str) -> String {
    let names = [
        ("expected u16", "expected a whole number from 0 to 65535"),
        ("expected u32", "expected a whole number from 0 to 4294967295"),
        ("expected u64", "expected a whole number, 0 or more"),
    ];
    names.iter().fold(refusal.to_owned(), |text, (name, words)| text.replace(name, words))
}

#[cfg(test)]
mod tests;
