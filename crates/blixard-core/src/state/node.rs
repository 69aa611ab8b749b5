//! A machine of the cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use blixard_types::spec::{Hypervisor, LABEL_NODE};
use blixard_types::{CertificateSerial, DaemonId, NodeAddress, NodeName, Revision, TenantName, VolumeName};
use serde::{Deserialize, Serialize};

use super::{Admission, Fence, Presence, SharedStorage, Usage};
use crate::rules::Rules;
use crate::signature::NodeKey;

/// Virtual processors placed per processor of a host, at most, unless its configuration says otherwise.
/// OpenStack's default ratio; most guests idle most of the time.
pub const CPU_OVERCOMMIT: u32 = 16;

/// Replaced daemons remembered of each node. Their commands may still be on the way; one that is
/// overtaken by this many starts of the daemon is not.
pub const DAEMONS_REMEMBERED: usize = 16;

/// What a node is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// Holds the log and serves the API.
    Server,
    /// Runs vms.
    Host,
    /// Evaluates and builds.
    Builder,
}

/// The roles of a node.
pub type Roles = BTreeSet<Role>;

/// A machine of the cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Node {
    /// Its name, unique in the cluster.
    pub name: NodeName,
    /// What it is for.
    pub roles: Roles,
    /// Its running daemon; absent until one has spoken.
    pub session: Option<Session>,
    /// The daemons before that one, oldest first: dead, whatever of theirs arrives late.
    pub replaced: VecDeque<DaemonId>,
    /// Whether what may stop there stops when its lease ends.
    #[serde(default)]
    pub fence: Fence,
    /// Whether it is there.
    #[serde(default)]
    pub presence: Presence,
    /// Whether vms are placed there.
    #[serde(default)]
    pub admission: Admission,
    /// Where other nodes reach it; absent where nobody has to.
    #[serde(default)]
    pub address: Option<NodeAddress>,
    /// Its certificates that count, oldest first.
    #[serde(default)]
    pub certificates: VecDeque<CertificateSerial>,
    /// Whether it is to go.
    #[serde(default)]
    pub departure: Departure,
    /// The key by which it signs what it has built; absent until it has made it known.
    #[serde(default)]
    pub key: Option<NodeKey>,
    /// The newest rules that it knows, if it is a server and has said so.
    #[serde(default, skip_serializing_if = "Rules::are_unnumbered")]
    pub rules: Rules,
}

/// Whether a node is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Departure {
    /// It is not.
    #[default]
    Stays,
    /// It is: nothing is placed on it, and it leaves the consensus group.
    Requested,
}

impl Node {
    /// A node whose daemon has not spoken yet.
    #[must_use]
    pub fn new(name: NodeName, roles: Roles, fence: Fence) -> Self {
        Self {
            name,
            roles,
            session: None,
            replaced: VecDeque::new(),
            fence,
            presence: Presence::default(),
            admission: Admission::default(),
            address: None,
            certificates: VecDeque::new(),
            departure: Departure::Stays,
            key: None,
            rules: Rules::UNNUMBERED,
        }
    }
}

/// One daemon process of a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Session {
    /// The daemon.
    pub daemon: DaemonId,
    /// The kernel's boot id.
    pub boot: String,
    /// What the machine is.
    pub facts: NodeFacts,
    /// When it was opened.
    pub opened: Revision,
}

/// What a machine is, as its daemon finds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NodeFacts {
    /// Processors.
    pub cpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// The platform in Nix's words, `x86_64-linux`.
    pub system: String,
    /// Whether guests boot with hardware virtualisation.
    pub kvm: bool,
    /// The kernel's release.
    pub kernel: String,
    /// The version of Blixard.
    pub version: String,
    /// Space for volumes in MiB; absent where it is not known, and then not counted.
    #[serde(default)]
    pub disk_mib: Option<u64>,
    /// The programs of hypervisors that are in PATH. A runner brings its own, so that none has to be.
    #[serde(default)]
    pub hypervisors: BTreeSet<Hypervisor>,
    /// The version of Nix; empty where it is not known.
    #[serde(default)]
    pub nix_version: String,
    /// On which terms it takes vms.
    #[serde(default)]
    pub terms: Terms,
    /// The shared volumes that it has.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub shared: BTreeMap<VolumeName, SharedStorage>,
}

/// On which terms a machine takes vms, as its configuration says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Terms {
    /// What constraints of vms match on.
    pub labels: BTreeMap<String, String>,
    /// Virtual processors placed per processor, at most.
    pub cpu_overcommit: u32,
    /// Whose vms it takes; everybody's if empty.
    pub tenants: BTreeSet<TenantName>,
    /// The hypervisors that may run there; any if empty.
    pub hypervisors: BTreeSet<Hypervisor>,
}

impl Default for Terms {
    fn default() -> Self {
        let (labels, tenants, hypervisors) = (BTreeMap::new(), BTreeSet::new(), BTreeSet::new());
        Self { labels, cpu_overcommit: CPU_OVERCOMMIT, tenants, hypervisors }
    }
}

impl Node {
    /// The value of a label for constraints.
    pub fn label(&self, key: &str) -> Option<&str> {
        if key == LABEL_NODE {
            return Some(self.name.as_str());
        }
        let terms = &self.session.as_ref()?.facts.terms;
        terms.labels.get(key).map(String::as_str)
    }
}

impl NodeFacts {
    /// What it has to give.
    pub fn capacity(&self) -> Capacity {
        Capacity {
            memory_mib: self.memory_mib,
            vcpus: u64::from(self.cpus) * u64::from(self.terms.cpu_overcommit),
            disk_mib: self.disk_mib,
        }
    }
}

/// What a host has to give.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub vcpus: u64,
    /// Space for volumes in MiB; unlimited if absent.
    pub disk_mib: Option<u64>,
}

impl Capacity {
    /// Whether this fits beside what is used, or what it lacks.
    ///
    /// # Errors
    /// The first resource that does not suffice.
    pub fn fits(&self, used: Usage, wanted: Usage) -> Result<(), Shortage> {
        let of = |resource, capacity: u64, used: u64, needed: u64| {
            let free = capacity.saturating_sub(used);
            if needed > free { Err(Shortage { resource, needed, free }) } else { Ok(()) }
        };
        of(Resource::MemoryMib, self.memory_mib, used.memory_mib, wanted.memory_mib)?;
        of(Resource::Vcpus, self.vcpus, used.vcpus, wanted.vcpus)?;
        match self.disk_mib {
            // What takes no disk fits also where there is none left.
            Some(disk_mib) if wanted.disk_mib > 0 => {
                of(Resource::DiskMib, disk_mib, used.disk_mib, wanted.disk_mib)
            }
            _ => Ok(()),
        }
    }
}

/// Something a host has too little of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("needs {needed} {resource}, {free} free")]
pub struct Shortage {
    /// Of what.
    pub resource: Resource,
    /// How much the vm needs.
    pub needed: u64,
    /// How much is free.
    pub free: u64,
}

/// Something that vms take of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Resource {
    /// Memory.
    MemoryMib,
    /// Virtual processors.
    Vcpus,
    /// Space for volumes.
    DiskMib,
}

impl std::fmt::Display for Resource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::MemoryMib => "MiB of memory",
            Self::Vcpus => "vcpus",
            Self::DiskMib => "MiB of disk",
        })
    }
}
