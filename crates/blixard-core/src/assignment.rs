//! What a host is granted: the whole set of vms it may run, and what it must keep.
//!
//! Which vms may concern a host is the [`Index`]'s to know; what is granted of them is read from the state itself.

mod index;

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{ClosureRef, Epoch, GenerationNumber, NodeId, Spec, VmId, VolumeName};

use crate::state::{ClusterState, Made, Presence, Run, Vm, Volume, VolumeFate};

pub use index::{Index, Touched};

/// Everything a host may run or must stop, at one revision. What is not in it has no business there.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AssignmentSet {
    /// The vms placed on the host.
    pub assignments: BTreeMap<VmId, Assignment>,
    /// The generations whose roots the host keeps, running or not.
    pub retained: BTreeMap<VmId, BTreeSet<GenerationNumber>>,
    /// The vms whose files the host removes, with their last placement, which is over.
    pub discarded: BTreeMap<VmId, Epoch>,
    /// The volumes that the host removes, with the placements that they were made for.
    pub deleted_volumes: BTreeMap<VmId, BTreeMap<VolumeName, Epoch>>,
}

impl AssignmentSet {
    /// Whether there is something to do about this vm.
    #[must_use]
    pub fn speaks_of(&self, vm: &VmId) -> bool {
        self.assignments.contains_key(vm)
            || self.discarded.contains_key(vm)
            || self.deleted_volumes.contains_key(vm)
    }
}

/// A vm that is placed on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// The placement.
    pub epoch: Epoch,
    /// What the host does with it.
    pub intent: Intent,
}

/// What a host does with a vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Intent {
    /// Runs it.
    Run(Box<RunIntent>),
    /// Stops it and says so; that ends the epoch.
    Stop,
}

/// What exactly is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunIntent {
    /// The generation.
    pub generation: GenerationNumber,
    /// Its runner's closure.
    pub closure: ClosureRef,
    /// Its spec.
    pub spec: Spec,
    /// The nodes that have the closure, the likeliest first.
    pub sources: Vec<NodeId>,
    /// Its local volumes, all of which are on the host, or are made there now.
    pub volumes: BTreeMap<VolumeName, VolumeLife>,
}

/// Which life of a volume is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct VolumeLife {
    /// The placement that it was made for, or is made for.
    pub epoch: Epoch,
    /// Whether it was: then an image that is missing is not made again.
    pub made: Made,
}

/// What the state grants a host.
#[must_use]
pub fn assignments_of(state: &ClusterState, host: NodeId) -> AssignmentSet {
    Index::of(state).assignments(state, host)
}

impl Index {
    /// What the state, which is the one that was last followed, grants a host.
    #[must_use]
    pub fn assignments(&self, state: &ClusterState, host: NodeId) -> AssignmentSet {
        let mut set = AssignmentSet::default();
        for id in self.vms_of(host) {
            let volumes = state.volumes.get(id).into_iter().flatten();
            let deleted = volumes.filter(|(_, of)| of.fate == VolumeFate::Delete && of.node == host);
            let deleted: BTreeMap<_, _> = deleted.map(|(name, of)| (name.clone(), of.life)).collect();
            if !deleted.is_empty() {
                set.deleted_volumes.insert(id.clone(), deleted);
            }
            let Some(vm) = state.vms.get(id) else { continue };
            if [vm.last_host, vm.came_from].contains(&Some(host)) {
                set.retained.insert(id.clone(), vm.generations.keys().copied().collect());
            }
            if vm.discards() == Some(host) {
                set.discarded.insert(id.clone(), vm.last_epoch);
            }
            if let Run::Placed { node, epoch, .. } = vm.run
                && node == host
            {
                let intent = self.intent(state, (id, vm), host);
                set.assignments.insert(id.clone(), Assignment { epoch, intent });
            }
        }
        set
    }

    fn intent(&self, state: &ClusterState, (id, vm): (&VmId, &Vm), host: NodeId) -> Intent {
        let run = vm.target_generation().zip(state.target_spec(vm)).filter(|_| vm.wanted_there());
        let run = run.filter(|(_, spec)| state.has_volumes(id, spec, host));
        run.map_or(Intent::Stop, |(generation, spec)| {
            let (generation, closure) = (vm.target, generation.closure.clone());
            let sources = self.sources(state, &closure, host);
            let volumes = volumes(state, id, spec);
            Intent::Run(Box::new(RunIntent { generation, closure, spec: spec.clone(), sources, volumes }))
        })
    }

    /// The nodes that have, or had, a closure, and are there, the likeliest first: who has built one keeps it for as
    /// long as the generation is kept; who runs it, or ran it last, does likewise, and whom its vm has left does until
    /// it runs elsewhere.
    fn sources(&self, state: &ClusterState, closure: &ClosureRef, host: NodeId) -> Vec<NodeId> {
        let (mut builders, mut hosts) = (Vec::new(), Vec::new());
        for vm in self.vms_with(closure).filter_map(|id| state.vms.get(id)) {
            for generation in vm.generations.values().filter(|generation| generation.closure == *closure) {
                builders.extend(generation.builder);
                hosts.extend([vm.last_host, vm.came_from].into_iter().flatten());
            }
        }
        let mut found = BTreeSet::new();
        let others = builders.into_iter().chain(hosts).filter(|&node| node != host);
        let mut sources: Vec<_> =
            others.filter(|node| state.nodes.contains_key(node) && found.insert(*node)).collect();
        // Asking one that is gone takes a while.
        sources.sort_by_key(|node| state.nodes.get(node).is_some_and(|node| node.presence == Presence::Lost));
        sources
    }
}

fn volumes(state: &ClusterState, id: &VmId, spec: &Spec) -> BTreeMap<VolumeName, VolumeLife> {
    let life = |record: &Volume| VolumeLife { epoch: record.life, made: record.made };
    let recorded = state.local_volumes(id, spec);
    recorded.filter_map(|(name, _, record)| Some((name, life(record?)))).collect()
}

#[cfg(test)]
mod tests;
