//! The hosts that will do for vms of one requirement, in order, so that a choice looks at a few of them.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use blixard_types::NodeId;
use blixard_types::spec::Strategy;

use crate::state::{Capacity, Usage};

/// A host's place among others, the best last: points, then room, then the lower number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    points: i32,
    /// Free memory where vms are spread; what lacks to the most that there can be where they are packed.
    room: u64,
    node: Reverse<NodeId>,
}

impl Rank {
    pub(super) fn new(strategy: Strategy, free_mib: u64, node: NodeId) -> Self {
        let room = match strategy {
            Strategy::Spread => free_mib,
            Strategy::Binpack => u64::MAX - free_mib,
        };
        Self { points: 0, room, node: Reverse(node) }
    }

    pub(super) fn node(self) -> NodeId {
        self.node.0
    }

    /// The place with these points.
    pub(super) fn with(self, points: i32) -> Self {
        Self { points, ..self }
    }

    /// The best place without points that a host can have which has this much free.
    fn ceiling(strategy: Strategy, needed_mib: u64) -> Self {
        let room = match strategy {
            Strategy::Spread => u64::MAX,
            Strategy::Binpack => u64::MAX - needed_mib,
        };
        Self { points: 0, room, node: Reverse(NodeId(0)) }
    }
}

/// What a host has and what is taken of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Room {
    pub(super) capacity: Capacity,
    pub(super) used: Usage,
}

impl Room {
    pub(super) fn free_mib(&self) -> u64 {
        self.capacity.memory_mib.saturating_sub(self.used.memory_mib)
    }

    pub(super) fn has(&self, takes: Usage) -> bool {
        self.capacity.fits(self.used, takes).is_ok()
    }
}

/// The order of the hosts for one requirement, by room alone: points are of a few hosts, which are looked at
/// beside it.
#[derive(Debug, Default)]
pub(super) struct Order {
    ranks: BTreeSet<Rank>,
    of: BTreeMap<NodeId, Rank>,
}

impl Order {
    /// Puts a host at its place, or takes it out if it will not do.
    pub(super) fn set(&mut self, node: NodeId, rank: Option<Rank>) {
        let before = match rank {
            Some(rank) => self.of.insert(node, rank),
            None => self.of.remove(&node),
        };
        if before == rank {
            return;
        }
        if let Some(before) = before {
            self.ranks.remove(&before);
        }
        self.ranks.extend(rank);
    }

    pub(super) fn get(&self, node: NodeId) -> Option<Rank> {
        self.of.get(&node).copied()
    }

    /// The best host with room but for those that are looked at beside.
    pub(super) fn best(
        &self,
        strategy: Strategy,
        takes: Usage,
        beside: impl Fn(NodeId) -> bool,
        room: impl Fn(NodeId) -> Option<Room>,
    ) -> Option<Rank> {
        for &rank in self.ranks.range(..=Rank::ceiling(strategy, takes.memory_mib)).rev() {
            let Some(room) = room(rank.node()) else { continue };
            if strategy == Strategy::Spread && room.free_mib() < takes.memory_mib {
                return None;
            }
            if room.has(takes) && !beside(rank.node()) {
                return Some(rank);
            }
        }
        None
    }
}
