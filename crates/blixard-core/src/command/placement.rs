//! Commands about where vms are that run already.

use blixard_types::{Epoch, VmId};

use crate::state::Preemption;

/// What is to change about where vms are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlacementCommand {
    /// Begins a rebalancing, in place of one that is under way.
    Rebalance {
        /// The placements that are to end, in this order.
        moves: Vec<(VmId, Epoch)>,
        /// How many vms may be on their way at a time.
        max_parallel: u32,
    },
    /// Ends a rebalancing; what is on its way goes on.
    EndRebalance,
    /// Whether vms make room for others of higher priority.
    SetPreemption {
        /// Whether they do.
        preemption: Preemption,
    },
    /// Stops a vm, for another one to have its room.
    Preempt {
        /// The vm that is stopped.
        vm: VmId,
        /// Its placement, which ends.
        epoch: Epoch,
        /// The one that has a higher priority and finds no room.
        by: VmId,
    },
}
