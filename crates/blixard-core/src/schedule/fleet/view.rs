//! Reading the state: all of it, or what has changed since.

use std::cmp::Reverse;
use std::sync::Arc;

use blixard_types::{NodeId, VmId};

use super::{Known, Planner, rank};
use crate::schedule::shape::Shape;
use crate::schedule::{filter, volumes};
use crate::state::{ClusterState, Generation, Subject, Vm};

impl Planner {
    /// Comes to know what has changed since it last looked.
    pub(super) fn follow(&mut self, state: &ClusterState) {
        for id in std::mem::take(&mut self.tentative) {
            self.look_at_vm(state, &id);
        }
        let revision = state.applied.revision();
        if revision == self.seen {
            return;
        }
        let Ok(events) = state.events_after(self.seen).map_err(drop) else { return self.read_anew(state) };
        if revision < self.seen {
            return self.read_anew(state);
        }
        for event in events {
            match event.kind.subject() {
                Subject::Vm(id) => self.look_at_vm(state, id),
                Subject::Node(id) => self.look_at_node(state, id),
                Subject::Everything => return self.read_anew(state),
                Subject::Nothing => {}
            }
        }
        self.seen = revision;
        // Of generations that are gone nothing is kept.
        if self.shapes.len() > 2 * state.specs.len() + 16 {
            self.shapes.retain(|_, shapes| shapes.values().any(|shape| Arc::strong_count(shape) > 1));
        }
    }

    pub(super) fn read_anew(&mut self, state: &ClusterState) {
        *self = Self { seen: state.applied.revision(), ..Self::default() };
        for &id in state.nodes.keys() {
            self.look_at_node(state, id);
        }
        for id in state.volumes.keys() {
            self.count_volumes(state, id);
        }
        for (id, vm) in &state.vms {
            self.know(state, id, vm);
        }
    }

    fn look_at_node(&mut self, state: &ClusterState, id: NodeId) {
        let Some(node) = state.nodes.get(&id) else {
            self.hosts.remove(&id);
            self.orders.update(|_, order| order.set(id, None));
            return;
        };
        let session = node.session.as_ref().filter(|_| filter::admits(node).is_ok());
        let host = self.hosts.entry(id).or_default();
        host.capacity = session.map(|session| session.facts.capacity());
        let hosts = &self.hosts;
        self.orders.update(|requirement, order| order.set(id, rank(hosts, state, requirement, id)));
    }

    pub(super) fn look_at_vm(&mut self, state: &ClusterState, id: &VmId) {
        self.forget(id);
        self.count_volumes(state, id);
        if let Some(vm) = state.vms.get(id) {
            self.know(state, id, vm);
        }
    }

    /// Counts what the volumes of a vm take of hosts as it is now.
    fn count_volumes(&mut self, state: &ClusterState, id: &VmId) {
        let taken = volumes::taken(state, id);
        for (node, was) in self.volumes.remove(id).into_iter().flatten() {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.used = host.used.without(was);
            }
        }
        for (&node, &is) in &taken {
            if let Some(host) = self.hosts.get_mut(&node) {
                host.used = host.used.and(is);
            }
        }
        if !taken.is_empty() {
            self.volumes.insert(id.clone(), taken);
        }
    }

    /// Does as if a vm were not there.
    pub(in crate::schedule) fn forget(&mut self, id: &VmId) {
        self.leave(id);
        if let Some(Known { shape, .. }) = self.vms.remove(id) {
            self.pending.remove(&(Reverse(shape.priority), id.clone()));
        }
    }

    fn know(&mut self, state: &ClusterState, id: &VmId, vm: &Vm) {
        let Some(generation) = vm.target_generation() else { return };
        let Some(shape) = self.shape(state, generation) else { return };
        let host = vm.run.host();
        if host.is_none() && vm.wanted() {
            self.pending.insert((Reverse(shape.priority), id.clone()));
        }
        if let Some(node) = host {
            self.company.add(id, node, &shape.labels);
            if let Some(host) = self.hosts.get_mut(&node) {
                host.used = host.used.and(shape.takes);
            }
            self.load_changed(node);
        }
        self.vms.insert(id.clone(), Known { host, shape });
    }

    pub(in crate::schedule) fn shape(
        &mut self,
        state: &ClusterState,
        generation: &Generation,
    ) -> Option<Arc<Shape>> {
        let known = self.shapes.get(&generation.spec).and_then(|shapes| shapes.get(&generation.system));
        if let Some(shape) = known {
            return Some(Arc::clone(shape));
        }
        let shape = Arc::new(Shape::of(generation, state.specs.get(&generation.spec)?));
        let shapes = self.shapes.entry(generation.spec).or_default();
        shapes.insert(generation.system.clone(), Arc::clone(&shape));
        Some(shape)
    }
}
