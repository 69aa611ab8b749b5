//! What a vm is attached to: interfaces, volumes, shares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::VolumeName;

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
    /// The file system that is made on it when it is made; none if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fs_type: Option<FileSystem>,
    /// The label of that file system.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 16))]
    pub label: Option<String>,
}

/// A file system that a host makes on a new volume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each is the name of a file system")]
pub enum FileSystem {
    Ext2,
    Ext3,
    Ext4,
    Xfs,
    Btrfs,
    Vfat,
}

impl FileSystem {
    /// Its name, as in a spec and in that of the program that makes it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ext2 => "ext2",
            Self::Ext3 => "ext3",
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Vfat => "vfat",
        }
    }
}

impl FileSystem {
    /// Most bytes of a label (mkfs.fat(8), mkfs.xfs(8), mke2fs(8); btrfs takes more).
    #[must_use]
    pub const fn label_max(self) -> usize {
        match self {
            Self::Vfat => 11,
            Self::Xfs => 12,
            Self::Ext2 | Self::Ext3 | Self::Ext4 | Self::Btrfs => 16,
        }
    }
}

impl Volume {
    /// Its name; none if it is not one, which no checked spec has.
    #[must_use]
    pub fn volume_name(&self) -> Option<VolumeName> {
        self.name.parse().ok()
    }
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
