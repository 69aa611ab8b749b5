//! Volumes as the scheduler sees them: the one host that a vm may be on, and what is taken of disks.

use std::collections::BTreeMap;

use blixard_types::{NodeId, Spec, VmId};

use super::reason::RefusalReason;
use crate::state::{ClusterState, Hold, Pin, Usage, Vm};

/// What a vm's volumes ask of its next host.
#[derive(Debug, Default)]
pub(super) struct Tie {
    /// The one host that will do, if not any.
    pub(super) pin: Option<Pin>,
    /// Why none will, whatever it has.
    going: Option<RefusalReason>,
    /// What its new volumes take.
    pub(super) new: Usage,
}

impl Tie {
    pub(super) fn of(state: &ClusterState, id: &VmId, vm: &Vm) -> Self {
        let Some(spec) = state.target_spec(vm).filter(|spec| !spec.volumes.is_empty()) else {
            return Self::default();
        };
        let going = state.going_volume(id, spec);
        Self {
            pin: state.pin(id, vm, spec),
            going: going.map(|volume| RefusalReason::VolumeGoing { volume }),
            new: new(state, id, spec),
        }
    }

    /// Whether this host is where the volumes are, or may be.
    pub(super) fn admits(&self, state: &ClusterState, node: NodeId) -> Result<(), RefusalReason> {
        if let Some(going) = &self.going {
            return Err(going.clone());
        }
        let Some(pin) = self.pin.as_ref().filter(|pin| pin.node != node) else { return Ok(()) };
        let Some(volume) = pin.volumes.first().cloned() else { return Ok(()) };
        let host = name(state, pin.node);
        Err(match pin.hold {
            Hold::Has => RefusalReason::VolumeElsewhere { volume, host },
            Hold::MayWrite => RefusalReason::MayBeWritten { volume, host },
        })
    }
}

pub(super) fn name(state: &ClusterState, node: NodeId) -> String {
    state.nodes.get(&node).map(|node| node.name.to_string()).unwrap_or_default()
}

fn new(state: &ClusterState, id: &VmId, spec: &Spec) -> Usage {
    state.needs(id, spec).without(Usage::of(spec))
}

/// What the volumes of a vm take, by host; also of one that is gone.
pub(super) fn taken(state: &ClusterState, id: &VmId) -> BTreeMap<NodeId, Usage> {
    let mut taken = BTreeMap::<NodeId, Usage>::new();
    for (_, volume) in state.volumes_of(id) {
        let on = taken.entry(volume.node).or_default();
        *on = on.and(Usage { disk_mib: volume.size_mib, ..Usage::default() });
    }
    taken
}
