//! A machine of the cluster.

use std::collections::{BTreeSet, VecDeque};

use blixard_types::{CertificateSerial, DaemonId, NodeAddress, NodeName, Revision, Spec};
use serde::{Deserialize, Serialize};

use super::{Admission, Fence, Presence, Usage};

/// Virtual processors placed per processor of a host, at most. OpenStack's default ratio; most guests
/// idle most of the time.
pub const CPU_OVERCOMMIT: u64 = 16;

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
    pub(crate) fn new(name: NodeName, roles: Roles, fence: Fence) -> Self {
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
}

impl NodeFacts {
    /// Whether a vm of this spec fits beside what is there, or what it lacks.
    ///
    /// # Errors
    /// The first resource that does not suffice.
    pub fn fits(&self, used: Usage, spec: &Spec) -> Result<(), Shortage> {
        let needed = spec.resources.memory_mib + spec.resources.overhead_mib;
        let free = self.memory_mib.saturating_sub(used.memory_mib);
        if needed > free {
            return Err(Shortage { resource: Resource::MemoryMib, needed, free });
        }
        let needed = u64::from(spec.resources.vcpus);
        let free = (u64::from(self.cpus) * CPU_OVERCOMMIT).saturating_sub(used.vcpus);
        if needed > free {
            return Err(Shortage { resource: Resource::Vcpus, needed, free });
        }
        Ok(())
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
}

impl std::fmt::Display for Resource {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(match self {
            Self::MemoryMib => "MiB of memory",
            Self::Vcpus => "vcpus",
        })
    }
}
