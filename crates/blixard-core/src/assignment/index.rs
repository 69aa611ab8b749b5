//! Which vms may concern a host, and which have a closure, kept in step with the state.
//!
//! All of it follows from the state; it is kept only so that what a host is granted is made without a look at every
//! vm. A vm comes to concern a host only by being placed there, and to have a closure only by a new generation; both
//! are told by events, so nothing that concerns a host is ever left out. Where events are forgotten all is read anew.
//! The test `an_index_that_follows_grants_like_one_made_anew` holds it to that.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{ClosureRef, NodeId, Revision, Sha256Hash, VmId};

use crate::state::{ClusterState, Subject};

/// What is known of a state's vms.
#[derive(Debug, Default)]
pub struct Index {
    /// The newest change that it knows.
    seen: Revision,
    hosts: BTreeMap<NodeId, BTreeSet<VmId>>,
    /// By the digest of the closure.
    closures: BTreeMap<Sha256Hash, BTreeSet<VmId>>,
    vms: BTreeMap<VmId, Known>,
}

/// What was last seen of a vm.
#[derive(Debug, Default, PartialEq, Eq)]
struct Known {
    hosts: BTreeSet<NodeId>,
    closures: BTreeSet<Sha256Hash>,
}

/// The hosts that may be granted something else since the index was last asked to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Touched {
    /// These.
    Hosts(BTreeSet<NodeId>),
    /// Any.
    All,
}

impl Index {
    /// One that knows this state.
    #[must_use]
    pub fn of(state: &ClusterState) -> Self {
        let mut index = Self::default();
        index.read_anew(state);
        index
    }

    /// Comes to know what has changed.
    pub fn follow(&mut self, state: &ClusterState) -> Touched {
        let revision = state.applied.revision();
        let events = state.events_after(self.seen).ok().filter(|_| revision >= self.seen);
        let Some(events) = events else {
            self.read_anew(state);
            return Touched::All;
        };
        let mut touched = BTreeSet::new();
        for event in events {
            match event.kind.subject() {
                Subject::Vm(id) => self.look_at(state, id, &mut touched),
                Subject::Node(node) => drop(touched.insert(node)),
                Subject::Everything => {
                    self.read_anew(state);
                    return Touched::All;
                }
                Subject::Nothing => {}
            }
        }
        self.seen = revision;
        Touched::Hosts(touched)
    }

    /// The vms that may concern a host.
    pub(super) fn vms_of(&self, host: NodeId) -> impl Iterator<Item = &VmId> {
        self.hosts.get(&host).into_iter().flatten()
    }

    /// The vms that may have a closure.
    pub(super) fn vms_with(&self, closure: &ClosureRef) -> impl Iterator<Item = &VmId> {
        self.closures.get(&closure.closure_digest).into_iter().flatten()
    }

    fn read_anew(&mut self, state: &ClusterState) {
        *self = Self { seen: state.applied.revision(), ..Self::default() };
        for id in state.vms.keys().chain(state.volumes.keys()) {
            self.look_at(state, id, &mut BTreeSet::new());
        }
    }

    /// Whom it has concerned, and whom it concerns now, are touched.
    fn look_at(&mut self, state: &ClusterState, id: &VmId, touched: &mut BTreeSet<NodeId>) {
        let (before, now) = (self.vms.remove(id).unwrap_or_default(), Known::of(state, id));
        touched.extend(before.hosts.iter().chain(&now.hosts));
        exchange(&mut self.hosts, id, &before.hosts, &now.hosts);
        exchange(&mut self.closures, id, &before.closures, &now.closures);
        if now != Known::default() {
            self.vms.insert(id.clone(), now);
        }
    }
}

impl Known {
    fn of(state: &ClusterState, id: &VmId) -> Self {
        let volumes = state.volumes.get(id).into_iter().flat_map(BTreeMap::values);
        let mut known = Self { hosts: volumes.map(|volume| volume.node).collect(), ..Self::default() };
        if let Some(vm) = state.vms.get(id) {
            known.hosts.extend([vm.run.host(), vm.last_host, vm.came_from].into_iter().flatten());
            known.closures = vm.generations.values().map(|one| one.closure.closure_digest).collect();
        }
        known
    }
}

/// Takes a vm from where it was and puts it where it is.
fn exchange<K: Ord + Copy>(
    of: &mut BTreeMap<K, BTreeSet<VmId>>,
    id: &VmId,
    before: &BTreeSet<K>,
    now: &BTreeSet<K>,
) {
    for key in before.difference(now) {
        if let Some(vms) = of.get_mut(key) {
            vms.remove(id);
            if vms.is_empty() {
                of.remove(key);
            }
        }
    }
    for &key in now.difference(before) {
        of.entry(key).or_default().insert(id.clone());
    }
}
