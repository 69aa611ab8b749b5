//! What would be if: trying places for a vm that is somewhere, without its being moved.

use std::collections::BTreeMap;
use std::sync::Arc;

use blixard_types::{NodeId, VmId};

use super::Planner;
use crate::schedule::company::Company;
use crate::schedule::filter::Gate;
use crate::schedule::rebalance::{Share, leaving};
use crate::schedule::shape::Shape;
use crate::state::{ClusterState, Usage};

impl Planner {
    pub(in crate::schedule) fn company(&self) -> &Company {
        &self.company
    }

    pub(in crate::schedule) fn shape_of(&self, id: &VmId) -> Option<Arc<Shape>> {
        self.vms.get(id).map(|known| Arc::clone(&known.shape))
    }

    pub(in crate::schedule) fn host_of(&self, id: &VmId) -> Option<NodeId> {
        self.vms.get(id)?.host
    }

    /// How full the memory of each host is that takes vms.
    pub(in crate::schedule) fn shares(&self) -> BTreeMap<NodeId, Share> {
        let share = |&node: &NodeId| Some((node, self.share_with(node, |used| used)?));
        self.hosts.keys().filter_map(share).collect()
    }

    /// How full a host would be with another use of it.
    pub(in crate::schedule) fn share_with(
        &self,
        node: NodeId,
        change: impl FnOnce(Usage) -> Usage,
    ) -> Option<Share> {
        let host = self.hosts.get(&node)?;
        let capacity = host.capacity?;
        Some(Share::of(change(host.used).memory_mib, capacity.memory_mib))
    }

    /// Whether this has room on a host once so much of it is free.
    pub(in crate::schedule) fn fits_without(&self, node: NodeId, freed: Usage, takes: Usage) -> bool {
        let Some(host) = self.hosts.get(&node) else { return false };
        host.capacity.is_some_and(|capacity| capacity.fits(host.used.without(freed), takes).is_ok())
    }

    /// Asks something while a vm is on no host, and puts it back.
    pub(in crate::schedule) fn aside<T>(&mut self, id: &VmId, ask: impl FnOnce(&mut Self) -> T) -> T {
        let before = self.vms.get(id).and_then(|known| known.host);
        self.leave(id);
        let answer = ask(self);
        if let Some(node) = before {
            self.take(id, node, Usage::default());
        }
        answer
    }

    /// Whether a vm would go to another host if it had to leave its own; then it is there from now on, as far as
    /// this planner is concerned.
    pub(crate) fn would_leave(&mut self, state: &ClusterState, id: &VmId) -> bool {
        let Some((vm, from)) = state.vms.get(id).and_then(|vm| Some((vm, vm.run.host()?))) else {
            return false;
        };
        let vm = leaving(vm, from);
        let chosen = self.aside(id, |planner| planner.choose(state, Gate::of(state), id, &vm));
        let other = chosen.map(|(node, _)| node).filter(|&node| node != from);
        other.inspect(|&node| self.relocate(id, node)).is_some()
    }

    /// Takes a vm to be on another host from now on.
    pub(in crate::schedule) fn relocate(&mut self, id: &VmId, to: NodeId) {
        self.leave(id);
        self.take(id, to, Usage::default());
    }
}
