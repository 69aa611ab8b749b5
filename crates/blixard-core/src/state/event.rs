//! The newest changes, as part of the state, so that any server can serve a watcher.

use std::collections::VecDeque;

use blixard_types::{Epoch, GenerationNumber, Incarnation, NodeId, NodeName, Revision, VmId, VolumeName};
use serde::{Deserialize, Serialize};

use super::{Admission, Desired, Phase, Preemption, Roles};
use crate::lease::LeaseTimes;
use crate::ports::UnixMillis;
use crate::principal::Principal;

/// Events kept. A watcher further behind lists anew.
pub const EVENTS_KEPT: usize = 1000;

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Event {
    /// The change it belongs to.
    pub revision: Revision,
    /// When the leader proposed that.
    pub at: UnixMillis,
    /// Who asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// What.
    pub kind: EventKind,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
#[expect(missing_docs, reason = "the fields are those of the commands that make the events")]
pub enum EventKind {
    /// A node was added or changed.
    NodeRegistered { node: NodeId, name: NodeName },
    /// A node is to go.
    NodeLeaving { node: NodeId, name: NodeName },
    /// A node is gone.
    NodeRemoved { node: NodeId, name: NodeName },
    /// A machine may join.
    TokenCreated { roles: Roles, expires: UnixMillis },
    /// A daemon started on a node.
    SessionOpened { node: NodeId },
    /// A vm has a new generation.
    GenerationAdded { vm: VmId, generation: GenerationNumber },
    /// A vm returns to a generation that was healthy, from one that never was.
    Returned { vm: VmId, from: GenerationNumber, to: GenerationNumber, reason: String },
    /// Another builder has built a generation again, and has it from now on.
    Rebuilt { vm: VmId, generation: GenerationNumber, node: NodeId },
    /// A vm was started or stopped by someone.
    DesiredSet { vm: VmId, desired: Desired },
    /// A vm is to be stopped and placed anew.
    RestartRequested { vm: VmId },
    /// A vm is to leave its host for another one.
    MoveRequested { vm: VmId, node: NodeId },
    /// A vm was placed.
    Placed { vm: VmId, node: NodeId, epoch: Epoch },
    /// A host makes a generation ready, and the one before it runs on.
    Preparing { vm: VmId, epoch: Epoch, generation: GenerationNumber, trouble: Option<String> },
    /// A placement has come further.
    PhaseReached { vm: VmId, epoch: Epoch, phase: Phase },
    /// A host has stopped a vm.
    Stopped { vm: VmId, epoch: Epoch },
    /// A task has run to its end.
    Succeeded { vm: VmId, epoch: Epoch },
    /// A vm has failed.
    Failed { vm: VmId, epoch: Epoch, reason: String },
    /// A vm's host was lost.
    HostLost { vm: VmId, epoch: Epoch },
    /// A person says that a node is off.
    NodeDeclaredLost { node: NodeId },
    /// A node was given up.
    NodeLost { node: NodeId },
    /// A node that was lost is back.
    NodeBack { node: NodeId },
    /// A node holds a lease.
    NodeFenced { node: NodeId },
    /// Whether vms are placed on a node has changed.
    AdmissionSet { node: NodeId, admission: Admission },
    /// Leases last for another time.
    LeaseTimesSet { times: LeaseTimes },
    /// Vms are moved to where they are better placed.
    RebalanceBegun { moves: u64 },
    /// No more are.
    RebalanceEnded,
    /// Whether vms make room for others has changed.
    PreemptionSet { preemption: Preemption },
    /// A vm is stopped for another one to have its room.
    Preempted { vm: VmId, by: VmId },
    /// The cluster was recovered or restored.
    IncarnationBegun { incarnation: Incarnation },
    /// A vm is to go.
    DeletionRequested { vm: VmId },
    /// A vm is gone.
    Deleted { vm: VmId },
    /// A volume is to be removed.
    VolumeDeletionRequested { vm: VmId, volume: VolumeName, node: NodeId },
    /// A volume is removed.
    VolumeDeleted { vm: VmId, volume: VolumeName, node: NodeId },
    /// A volume was given up.
    VolumeForgotten { vm: VmId, volume: VolumeName, node: NodeId },
}

/// What an event is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject<'a> {
    Vm(&'a VmId),
    Node(NodeId),
    Everything,
    Nothing,
}

impl EventKind {
    /// What it is about.
    pub(crate) fn subject(&self) -> Subject<'_> {
        match self {
            Self::NodeRegistered { node, .. }
            | Self::NodeLeaving { node, .. }
            | Self::NodeRemoved { node, .. }
            | Self::SessionOpened { node }
            | Self::NodeDeclaredLost { node }
            | Self::NodeLost { node }
            | Self::NodeBack { node }
            | Self::NodeFenced { node }
            | Self::AdmissionSet { node, .. } => Subject::Node(*node),
            Self::GenerationAdded { vm, .. }
            | Self::Returned { vm, .. }
            | Self::DesiredSet { vm, .. }
            | Self::RestartRequested { vm }
            | Self::MoveRequested { vm, .. }
            | Self::Preempted { vm, .. }
            | Self::Placed { vm, .. }
            | Self::Rebuilt { vm, .. }
            | Self::Preparing { vm, .. }
            | Self::PhaseReached { vm, .. }
            | Self::Stopped { vm, .. }
            | Self::Failed { vm, .. }
            | Self::Succeeded { vm, .. }
            | Self::HostLost { vm, .. }
            | Self::DeletionRequested { vm }
            | Self::Deleted { vm }
            | Self::VolumeDeletionRequested { vm, .. }
            | Self::VolumeDeleted { vm, .. }
            | Self::VolumeForgotten { vm, .. } => Subject::Vm(vm),
            Self::IncarnationBegun { .. } => Subject::Everything,
            Self::TokenCreated { .. }
            | Self::LeaseTimesSet { .. }
            | Self::RebalanceBegun { .. }
            | Self::RebalanceEnded
            | Self::PreemptionSet { .. } => Subject::Nothing,
        }
    }

    /// Whether this is somebody's wish for a vm.
    fn asks(&self, wanted: &VmId) -> bool {
        match self {
            Self::GenerationAdded { vm, .. }
            | Self::DesiredSet { vm, .. }
            | Self::RestartRequested { vm }
            | Self::DeletionRequested { vm } => vm == wanted,
            _ => false,
        }
    }
}

/// Events after the revision that was asked for are forgotten: list anew, then watch from there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("events before revision {oldest} are forgotten")]
pub struct Compacted {
    /// The oldest revision that can be watched from.
    pub oldest: Revision,
}

/// The newest events, oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EventLog(VecDeque<Event>);

impl EventLog {
    /// Adds one, and gives back the oldest when there are too many.
    pub(crate) fn push(&mut self, event: Event) -> Option<Event> {
        let forgotten = if self.0.len() == EVENTS_KEPT { self.0.pop_front() } else { None };
        self.0.push_back(event);
        forgotten
    }

    /// The events, oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Event> + ExactSizeIterator {
        self.0.iter()
    }

    /// What somebody asked of a vm last, among the events that are kept.
    pub fn last_asked(&self, vm: &VmId) -> Option<&Event> {
        self.iter().rev().find(|event| event.by.is_some() && event.kind.asks(vm))
    }
}
