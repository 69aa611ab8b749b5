//! The spec of a vm: what its flake output says of it besides its closure (schema 1).
//!
//! Owns: the fields, their defaults, their limits, and the JSON schema. Keys are camelCase; sizes are
//! whole MiB, durations whole milliseconds, and the key says which. An unknown key is refused, so that
//! a typing mistake is never a silent default.

mod account;
mod claim;
mod device;
mod health;
mod parse;
mod placement;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use account::{Account, number_in};
pub use claim::Claim;
pub use device::{FileSystem, Interface, InterfaceKind, Share, ShareProtocol, Volume, VolumeKind};
pub use health::{Check, Health};
pub use parse::{SpecError, SpecProblem};
pub use placement::{Constraint, ConstraintOperator, LABEL_NODE, LABEL_VM, OnPartition, Placement, Strategy};

use crate::{Sha256Hash, TenantName, VolumeName};

/// The schema number this program reads and writes.
pub const SPEC_SCHEMA: u32 = 1;

/// What a flake says of a vm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spec {
    /// The schema number: 1.
    #[schemars(range(min = 1, max = 1))]
    pub schema: u32,
    /// The namespace the vm is in.
    #[serde(default)]
    pub tenant: TenantName,
    /// Whether it runs for ever or to completion.
    #[serde(default)]
    pub kind: VmKind,
    /// What it needs of a host.
    pub resources: Resources,
    /// The program its runner starts.
    #[serde(default)]
    pub hypervisor: Hypervisor,
    /// Whether it needs hardware virtualisation.
    #[serde(default)]
    pub kvm: KvmUse,
    /// The runner tells systemd READY=1 when the guest is up.
    #[serde(default)]
    pub notify: bool,
    /// The runner has `bin/microvm-shutdown`.
    #[serde(default)]
    pub can_shutdown: bool,
    /// How long a graceful stop may take.
    #[serde(default = "default_stop_timeout")]
    #[schemars(range(max = 3_600_000))]
    pub stop_timeout_ms: u64,
    /// When it counts as healthy.
    #[serde(default)]
    pub health: Health,
    /// How it is started again after an exit.
    #[serde(default)]
    pub restart: Restart,
    /// Where it may run.
    #[serde(default)]
    pub placement: Placement,
    /// How a new generation replaces the old one.
    #[serde(default)]
    pub update: Update,
    /// The account its hypervisor runs under; root if absent.
    #[serde(default)]
    pub account: Option<Account>,
    /// Its network interfaces.
    #[serde(default)]
    pub interfaces: Vec<Interface>,
    /// Its disks.
    #[serde(default)]
    pub volumes: Vec<Volume>,
    /// Directories of the host that it sees.
    #[serde(default)]
    pub shares: Vec<Share>,
    /// Its vsock context id, if it has one (0 to 2 are reserved).
    #[serde(default)]
    #[schemars(range(min = 3))]
    pub vsock_cid: Option<u32>,
    /// Host devices handed to it, as sysfs names (`0000:01:00.0`).
    #[serde(default)]
    pub devices: Vec<String>,
    /// Secrets by name. Each is a file on the host, below its directory of the tenant's credentials, and is handed over as
    /// a systemd credential: `web/key`. Neither the spec nor anything else of the cluster has its content.
    #[serde(default)]
    pub credentials: BTreeMap<String, String>,
    /// What constraints and affinities of other vms match on.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
}

const fn default_stop_timeout() -> u64 {
    30_000
}

/// Whether a vm runs for ever or to completion.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VmKind {
    /// Restarted on any exit.
    #[default]
    Service,
    /// Runs to completion: it has succeeded once its runner has ended with status 0, and does not run again then.
    Task,
}

/// What a vm needs of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Resources {
    /// Virtual processors.
    #[schemars(range(min = 1, max = 1024))]
    pub vcpus: u32,
    /// Memory of the guest in MiB.
    #[schemars(range(min = 16, max = 16_777_216))]
    pub memory_mib: u64,
    /// Memory of the hypervisor beside the guest's, in MiB.
    #[serde(default = "default_overhead")]
    #[schemars(range(max = 65_536))]
    pub overhead_mib: u64,
}

const fn default_overhead() -> u64 {
    256
}

/// A hypervisor that a runner starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the name of a program")]
pub enum Hypervisor {
    #[default]
    Qemu,
    CloudHypervisor,
    Firecracker,
    Crosvm,
    Kvmtool,
    Stratovirt,
    Alioth,
}

/// Whether a vm needs hardware virtualisation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum KvmUse {
    /// Only a host where it works will do.
    Required,
    /// Used where it works.
    #[default]
    Preferred,
    /// Never used: the guest is emulated.
    Unused,
}

/// How a vm is started again after an exit. A guest's reboot is an exit too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Restart {
    /// Pause before each start; at least a second. That of a task is doubled with each failure in a row, up to five minutes.
    #[schemars(range(min = 1000, max = 3_600_000))]
    pub delay_ms: u64,
    /// This many starts within `withinMs` are made; after that the vm has failed. A task is run this often until it has
    /// failed for good, whenever that was; what was stopped or lost its host does not count.
    #[schemars(range(min = 1, max = 1000))]
    pub burst: u32,
    /// The window in which starts are counted.
    #[schemars(range(min = 1000, max = 86_400_000))]
    pub within_ms: u64,
}

impl Default for Restart {
    fn default() -> Self {
        Self { delay_ms: 1000, burst: 5, within_ms: 120_000 }
    }
}

/// How a new generation replaces the old one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct Update {
    /// Return to the newest generation before that was healthy when the new one does not become so in time, unless the two
    /// have different volumes. Services only.
    pub rollback: bool,
}

impl Default for Update {
    fn default() -> Self {
        Self { rollback: true }
    }
}

impl Hypervisor {
    /// Every hypervisor.
    pub const ALL: [Self; 7] = [
        Self::Qemu,
        Self::CloudHypervisor,
        Self::Firecracker,
        Self::Crosvm,
        Self::Kvmtool,
        Self::Stratovirt,
        Self::Alioth,
    ];

    /// Its name, as in a spec.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Qemu => "qemu",
            Self::CloudHypervisor => "cloud-hypervisor",
            Self::Firecracker => "firecracker",
            Self::Crosvm => "crosvm",
            Self::Kvmtool => "kvmtool",
            Self::Stratovirt => "stratovirt",
            Self::Alioth => "alioth",
        }
    }
}

impl Spec {
    /// A spec with nothing but its resources set.
    #[must_use]
    pub fn minimal(vcpus: u32, memory_mib: u64) -> Self {
        Self {
            schema: SPEC_SCHEMA,
            tenant: TenantName::default(),
            kind: VmKind::default(),
            resources: Resources { vcpus, memory_mib, overhead_mib: default_overhead() },
            hypervisor: Hypervisor::default(),
            kvm: KvmUse::default(),
            notify: false,
            can_shutdown: false,
            stop_timeout_ms: default_stop_timeout(),
            health: Health::default(),
            restart: Restart::default(),
            placement: Placement::default(),
            update: Update::default(),
            account: None,
            interfaces: Vec::new(),
            volumes: Vec::new(),
            shares: Vec::new(),
            vsock_cid: None,
            devices: Vec::new(),
            credentials: BTreeMap::new(),
            labels: BTreeMap::new(),
        }
    }

    /// The one JSON text of this spec: every field of the first schema 1 written, later ones where they say
    /// something, in the order of the schema.
    ///
    /// # Errors
    /// Never: a spec holds nothing that JSON cannot; the result is a `Result` because serde's is.
    pub fn to_canonical_json(&self) -> Result<String, serde_json::Error> {
        serde_json::to_string(self)
    }

    /// Whether a host that is cut off goes on running it.
    pub fn keeps_in_partition(&self) -> bool {
        self.placement.on_partition == OnPartition::Keep
    }

    /// Its volumes of a kind, by name.
    pub fn volumes_of(&self, kind: VolumeKind) -> impl Iterator<Item = (VolumeName, &Volume)> {
        let of_kind = self.volumes.iter().filter(move |volume| volume.kind == kind);
        of_kind.filter_map(|volume| Some((volume.volume_name()?, volume)))
    }

    /// What identifies this spec by content: the hash of its canonical JSON.
    ///
    /// # Errors
    /// As [`Spec::to_canonical_json`].
    pub fn digest(&self) -> Result<Sha256Hash, serde_json::Error> {
        Ok(Sha256Hash::of(self.to_canonical_json()?.as_bytes()))
    }
}

/// The JSON schema of [`Spec`], as committed in `docs/spec-v1.schema.json`.
#[must_use]
pub fn json_schema() -> serde_json::Value {
    schemars::schema_for!(Spec).to_value()
}

#[cfg(test)]
mod tests;
