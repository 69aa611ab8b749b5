//! The cluster's state: what every server holds in memory, equal on all at the same log position.
//!
//! Owns: the shape of the state and questions about it. Changes are made by [`crate::apply`] alone.
//! Only ordered maps are used, so that iterating gives the same order everywhere.

mod evaluation;
mod event;
mod fencing;
mod node;
mod registry;
mod request;
mod vm;
mod volume;

use std::collections::BTreeMap;

use blixard_types::spec::{VmKind, VolumeKind};
use blixard_types::{
    ClusterId, Epoch, Incarnation, LogPosition, NodeId, NodeName, Revision, Sha256Hash, Spec, VmId,
};
use serde::{Deserialize, Serialize};

use crate::rebalance::Rebalancing;
use crate::rules::Rules;

pub use evaluation::{EVALUATIONS_KEPT, EVALUATIONS_MAX_BYTES, Evaluation, EvaluationCache};
pub use evaluation::{EvaluationKey, RememberedVm};
pub(crate) use event::Subject;
pub use event::{Compacted, EVENTS_KEPT, Event, EventKind, EventLog};
pub use fencing::{Admission, Authority, Deadlines, Fence, Fencing, Presence, Quarantine};
pub use node::{
    CPU_OVERCOMMIT, Capacity, DAEMONS_REMEMBERED, Departure, Node, NodeFacts, Resource, Role, Roles, Session,
};
pub use node::{Shortage, Terms};
pub use registry::{CERTIFICATES_KEPT, REMOVED_REMEMBERED, TOKEN_REMEMBERED_MS, TOKEN_TTL_MAX_MS};
pub use registry::{PeerStanding, Registry, RemovedNode, TOKENS_MAX, Token, TokenUse};
pub use request::{REQUESTS_KEPT_MS, REQUESTS_MAX, RequestLog};
pub use vm::{
    Deletion, Desired, GENERATIONS_KEPT, Generation, HealthStatus, InPartition, Phase, Preparing, Proof,
    Restart, Returned, Run,
};
pub use vm::{Files, REASON_MAX_BYTES, SourceId, SourceIdError, Unplaced, Vm, VmReport, cut_reason};
pub use volume::{Hold, Made, Pin, SharedStorage, Volume, VolumeFate, Volumes};

/// Everything that is replicated.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ClusterState {
    /// Who the cluster is; absent before the first command.
    pub identity: Option<Identity>,
    /// The rules by which the next entry is applied.
    #[serde(default, skip_serializing_if = "Rules::are_unnumbered")]
    pub rules: Rules,
    /// The last entry that is part of this state.
    pub applied: LogPosition,
    /// The machines.
    pub nodes: BTreeMap<NodeId, Node>,
    /// Who may join and who has gone.
    #[serde(default)]
    pub registry: Registry,
    /// The vms.
    pub vms: BTreeMap<VmId, Vm>,
    /// The local volumes, also of vms that are gone.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: Volumes,
    /// The highest epoch of the vms that were deleted. A vm that comes back under a name goes on after
    /// it, so that a late report on the one before can never be taken for one on it.
    pub retired_epoch: Epoch,
    /// What holds of leases.
    #[serde(default)]
    pub fencing: Fencing,
    /// The rebalancing that is under way.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rebalancing: Option<Rebalancing>,
    /// Whether vms make room for others of higher priority.
    #[serde(default, skip_serializing_if = "Preemption::is_off")]
    pub preemption: Preemption,
    /// The specs that generations and evaluations refer to, by content.
    pub specs: BTreeMap<Sha256Hash, Spec>,
    /// What the newest evaluations gave.
    #[serde(default)]
    pub evaluations: EvaluationCache,
    /// The outcomes of the newest calls.
    pub requests: RequestLog,
    /// The newest events.
    pub events: EventLog,
    /// The newest revision of which an event has been forgotten: watchers resume from here on.
    #[serde(default)]
    pub events_forgotten: Revision,
}

/// Who a cluster is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Identity {
    /// Its id.
    pub cluster: ClusterId,
    /// How often it was recovered or restored, from 1.
    pub incarnation: Incarnation,
}

/// Whether vms make room for others of higher priority that find none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Preemption {
    /// They do not: who runs, runs.
    #[default]
    Off,
    /// They do, for a vm whose spec says `placement.preempts`.
    On,
}

impl Preemption {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_off(&self) -> bool {
        *self == Self::Off
    }
}

/// What placed vms take of a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Memory of guests and hypervisors, in MiB.
    pub memory_mib: u64,
    /// Virtual processors.
    pub vcpus: u64,
    /// Volumes on the host's own disk, in MiB, at their full size.
    pub disk_mib: u64,
}

impl ClusterState {
    /// The cluster's incarnation; 0 before it has an identity.
    pub fn incarnation(&self) -> Incarnation {
        self.identity.map_or(Incarnation(0), |identity| identity.incarnation)
    }

    /// The spec of a vm's target generation.
    pub fn target_spec(&self, vm: &Vm) -> Option<&Spec> {
        self.specs.get(&vm.target_generation()?.spec)
    }

    /// Whether a vm runs to completion.
    pub fn is_task(&self, vm: &Vm) -> bool {
        self.target_spec(vm).is_some_and(|spec| spec.kind == VmKind::Task)
    }

    /// The node of this name.
    pub fn node_by_name(&self, name: &NodeName) -> Option<(NodeId, &Node)> {
        self.nodes.iter().find(|(_, node)| node.name == *name).map(|(&id, node)| (id, node))
    }

    /// The events after a revision, oldest first.
    ///
    /// # Errors
    /// When some of them are forgotten.
    pub fn events_after(&self, revision: Revision) -> Result<impl Iterator<Item = &Event>, Compacted> {
        if revision < self.events_forgotten {
            return Err(Compacted { oldest: self.events_forgotten });
        }
        // From the newest on: a watcher that keeps up is a few behind, and there are many.
        let after = self.events.iter().rev().take_while(|event| event.revision > revision).count();
        let before = self.events.iter().len().saturating_sub(after);
        Ok(self.events.iter().skip(before))
    }

    /// What the vms that are placed on a host, and the volumes that it has, take of it.
    pub fn usage(&self, host: NodeId) -> Usage {
        let placed = self.vms.values().filter(|vm| vm.run.host() == Some(host));
        let used = placed.filter_map(|vm| self.target_spec(vm)).fold(Usage::default(), Usage::plus);
        let volumes = self.volumes.values().flat_map(BTreeMap::values).filter(|volume| volume.node == host);
        used.and(Usage { disk_mib: volumes.map(|volume| volume.size_mib).sum(), ..Usage::default() })
    }
}

impl Usage {
    /// What a vm of this spec takes while it is placed. Its local volumes stay when it goes, and count by
    /// themselves.
    #[must_use]
    pub fn of(spec: &Spec) -> Self {
        let with_it = spec.volumes.iter().filter(|volume| volume.kind == VolumeKind::Ephemeral);
        Self {
            memory_mib: spec.resources.memory_mib + spec.resources.overhead_mib,
            vcpus: u64::from(spec.resources.vcpus),
            disk_mib: with_it.map(|volume| volume.size_mib).sum(),
        }
    }

    /// What is taken when a vm of this spec is there too.
    #[must_use]
    pub fn plus(self, spec: &Spec) -> Self {
        self.and(Self::of(spec))
    }

    /// What both take.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib + other.memory_mib,
            vcpus: self.vcpus + other.vcpus,
            disk_mib: self.disk_mib + other.disk_mib,
        }
    }

    /// What is left of it without that.
    #[must_use]
    pub fn without(self, other: Self) -> Self {
        Self {
            memory_mib: self.memory_mib.saturating_sub(other.memory_mib),
            vcpus: self.vcpus.saturating_sub(other.vcpus),
            disk_mib: self.disk_mib.saturating_sub(other.disk_mib),
        }
    }
}
