//! Why a vm is on no host, and why a host will not do.

use blixard_types::{VmId, VolumeName};
use serde::{Deserialize, Serialize};

use crate::ports::UnixMillis;
use crate::state::Shortage;

/// Hosts that are named in [`WaitingOn::Host`]; `vm explain` names all.
pub const REFUSALS_SHOWN: usize = 8;

/// Why a vm that should run is on no host.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "waitingOn")]
pub enum WaitingOn {
    /// No host will do.
    #[error("no host will do: {}", list(.refusals, *.others))]
    Host {
        /// Hosts, and why not.
        refusals: Vec<HostRefusal>,
        /// So many more than are named.
        others: usize,
    },
    /// The one host that it may run on.
    #[error("its {} on {host}, which {reason}{}", count(.volumes), cure(.vm, .volumes, .reason))]
    Volume {
        /// The vm.
        vm: VmId,
        /// That host.
        host: String,
        /// Its volumes that are there.
        volumes: Vec<VolumeName>,
        /// Why it will not do now.
        reason: RefusalReason,
    },
    /// Others are stopped for it.
    #[error("{} for it, {} a lower priority", makes_room(.vms), if .vms.len() == 1 { "which has" } else { "which have" })]
    Room {
        /// Those that are stopped.
        vms: Vec<VmId>,
    },
    /// It was stopped for another.
    #[error("it has made room for {by}, which has a higher priority; {then}")]
    Preempted {
        /// The other.
        by: VmId,
        /// What it waits for now.
        then: Box<WaitingOn>,
    },
    /// It failed not long ago.
    #[error("failed {failures} times, tried again later")]
    Backoff {
        /// How often in a row.
        failures: u32,
        /// When it is tried again.
        until: UnixMillis,
    },
    /// It failed too often.
    #[error("failed {failures} times in a row; `blixard vm start` or a new generation tries again")]
    Operator {
        /// How often in a row.
        failures: u32,
    },
}

/// A host that will not do for a vm.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{name}: {reason}")]
pub struct HostRefusal {
    /// The host's name.
    pub name: String,
    /// Why not.
    pub reason: RefusalReason,
}

/// Why a host will not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// It has not the role `host`.
    #[error("does not run vms")]
    Role,
    /// It is to leave the cluster.
    #[error("is leaving the cluster")]
    Leaving,
    /// No daemon has spoken there yet.
    #[error("its daemon has not reported yet")]
    NoSession,
    /// It is lost, or a person says so.
    #[error("is lost")]
    Lost,
    /// It takes no new vms.
    #[error("takes no new vms")]
    Cordoned,
    /// Another host could not be cut off safely.
    #[error("waits for {other} to hold a lease")]
    BesideUnfenced {
        /// That host.
        other: String,
    },
    /// What was granted before the cluster was recovered or restored may still run.
    #[error("waits for leases from before the cluster was recovered or restored to end")]
    Quarantine,
    /// The runner is built for another platform.
    #[error("is {host}, the vm is built for {vm}")]
    System {
        /// The host's platform.
        host: String,
        /// The vm's.
        vm: String,
    },
    /// The vm requires KVM.
    #[error("has no usable KVM, which the vm requires")]
    Kvm,
    /// The host's configuration does not allow the hypervisor.
    #[error("does not allow {hypervisor}")]
    Hypervisor {
        /// The hypervisor.
        hypervisor: String,
    },
    /// The host's configuration does not allow the tenant.
    #[error("takes no vms of the tenant {tenant}")]
    Tenant {
        /// The tenant.
        tenant: String,
    },
    /// A constraint of the vm does not hold.
    #[error("does not meet: {constraint}")]
    Constraint {
        /// The constraint, in words.
        constraint: String,
    },
    /// Too little is free.
    #[error("{0}")]
    Room(Shortage),
    /// The vm's volume is elsewhere.
    #[error("does not have the volume {volume}, which is on {host}")]
    VolumeElsewhere {
        /// The volume.
        volume: VolumeName,
        /// The host that has it.
        host: String,
    },
    /// Its configuration does not name the shared volume.
    #[error("does not have the shared volume {volume}")]
    NotShared {
        /// The volume.
        volume: VolumeName,
    },
    /// The vm was lost with its host.
    #[error("waits until {host}, which is lost, cannot write to the shared volume {volume} any more")]
    MayBeWritten {
        /// The volume.
        volume: VolumeName,
        /// The lost host.
        host: String,
    },
    /// The vm's volume is about to be removed.
    #[error("waits for the volume {volume} to be deleted")]
    VolumeGoing {
        /// The volume.
        volume: VolumeName,
    },
}

impl WaitingOn {
    /// Whether no host will do for it, while it could be placed on one otherwise.
    pub(crate) fn is_for_a_host(&self) -> bool {
        match self {
            Self::Host { .. } | Self::Volume { .. } => true,
            Self::Preempted { then, .. } => then.is_for_a_host(),
            Self::Room { .. } | Self::Backoff { .. } | Self::Operator { .. } => false,
        }
    }
}

fn makes_room(vms: &[VmId]) -> String {
    let names: Vec<String> = vms.iter().map(ToString::to_string).collect();
    format!("{} {} room", names.join(", "), if vms.len() == 1 { "makes" } else { "make" })
}

fn count(volumes: &[VolumeName]) -> String {
    match volumes {
        [one] => format!("volume {one} is"),
        more => {
            let names: Vec<_> = more.iter().map(VolumeName::as_str).collect();
            format!("volumes {} are", names.join(", "))
        }
    }
}

/// What a person can do where waiting may be in vain. Each volume is named: without a name all that the vm has
/// anywhere would be given up.
fn cure(vm: &VmId, volumes: &[VolumeName], reason: &RefusalReason) -> String {
    let forget = |volume: &VolumeName| format!("`blixard volume forget {vm}:{volume}`");
    match reason {
        RefusalReason::Lost => {
            let each: Vec<String> = volumes.iter().map(forget).collect();
            let (gives, them) = if volumes.len() == 1 { ("gives", "it") } else { ("give", "them") };
            format!(": it waits for that host to be back; {} {gives} {them} up", each.join(" and "))
        }
        RefusalReason::VolumeGoing { volume } => {
            format!("; if that host does not come back, {} does not wait for it", forget(volume))
        }
        _ => String::new(),
    }
}

fn list(refusals: &[HostRefusal], others: usize) -> String {
    if refusals.is_empty() {
        return "the cluster has no nodes".to_owned();
    }
    let named = refusals.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
    if others == 0 { named } else { format!("{named}; and {others} more") }
}
