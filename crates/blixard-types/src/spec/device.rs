//! What a vm is attached to: interfaces, volumes, shares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A network interface, fixed by the runner at evaluation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Interface {
    /// How it is attached.
    pub kind: InterfaceKind,
    /// Its name on the host; at most 15 bytes (`IFNAMSIZ` less the final zero).
    #[schemars(length(min = 1, max = 15))]
    pub id: String,
    /// Its hardware address in the guest, `02:00:00:00:00:01`.
    #[schemars(regex(pattern = r"^([0-9a-f]{2}:){5}[0-9a-f]{2}$"))]
    pub mac: String,
    /// The bridge it is put on; the host's configured one if absent.
    #[serde(default)]
    pub bridge: Option<String>,
    /// A tap with a queue for each vcpu, which a hypervisor that opens several needs.
    #[serde(default)]
    pub multi_queue: bool,
}

/// How an interface is attached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum InterfaceKind {
    /// A tap made on the host.
    Tap,
    /// A macvtap on an interface of the host.
    Macvtap,
    /// Inside the hypervisor's process; needs nothing of the host.
    User,
}

/// A disk of a vm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// Its name, unique in the vm.
    #[schemars(length(min = 1, max = 63))]
    pub name: String,
    /// The image file, relative to the vm's state directory.
    pub image: String,
    /// Its size in MiB.
    #[schemars(range(min = 1, max = 1_073_741_824))]
    pub size_mib: u64,
    /// What becomes of it when the vm is placed elsewhere.
    #[serde(default)]
    pub kind: VolumeKind,
}

/// What becomes of a volume when its vm is placed elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeKind {
    /// It stays on its host, and the vm with it.
    #[default]
    Local,
    /// It is made anew for each placement.
    Ephemeral,
    /// Every host sees it.
    Shared,
}

/// A directory of the host that a vm sees.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Share {
    /// The name the guest mounts it by.
    pub tag: String,
    /// The directory on the host.
    pub source: String,
    /// How it is carried.
    pub protocol: ShareProtocol,
}

/// How a share is carried to a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the name of a protocol")]
pub enum ShareProtocol {
    Virtiofs,
    #[serde(rename = "9p")]
    NineP,
}
