//! What a host is granted: the whole set of vms it may run, and what it must keep.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{ClosureRef, Epoch, GenerationNumber, NodeId, Spec, VmId, VolumeName};

use crate::state::{ClusterState, Generation, Made, Run, Vm, Volume, VolumeFate};

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
    let mut set = AssignmentSet { deleted_volumes: deleted_volumes(state, host), ..AssignmentSet::default() };
    for (id, vm) in &state.vms {
        if [vm.last_host, vm.came_from].contains(&Some(host)) {
            set.retained.insert(id.clone(), vm.generations.keys().copied().collect());
        }
        if vm.discards() == Some(host) {
            set.discarded.insert(id.clone(), vm.last_epoch);
        }
        let Run::Placed { node, epoch, .. } = vm.run else {
            continue;
        };
        if node != host {
            continue;
        }
        let run = vm.target_generation().zip(state.target_spec(vm)).filter(|_| vm.wanted_there());
        let run = run.filter(|(_, spec)| state.has_volumes(id, spec, host));
        let intent = run.map_or(Intent::Stop, |(generation, spec)| {
            let (generation, closure) = (vm.target, generation.closure.clone());
            let sources = sources(state, &closure, host);
            let volumes = volumes(state, id, spec);
            Intent::Run(Box::new(RunIntent { generation, closure, spec: spec.clone(), sources, volumes }))
        });
        set.assignments.insert(id.clone(), Assignment { epoch, intent });
    }
    set
}

fn deleted_volumes(state: &ClusterState, host: NodeId) -> BTreeMap<VmId, BTreeMap<VolumeName, Epoch>> {
    let goes = |volume: &&Volume| volume.node == host && volume.fate == VolumeFate::Delete;
    let mut deleted = BTreeMap::<VmId, BTreeMap<VolumeName, Epoch>>::new();
    for (vm, volumes) in &state.volumes {
        for (name, volume) in volumes.iter().filter(|(_, volume)| goes(volume)) {
            deleted.entry(vm.clone()).or_default().insert(name.clone(), volume.life);
        }
    }
    deleted
}

fn volumes(state: &ClusterState, id: &VmId, spec: &Spec) -> BTreeMap<VolumeName, VolumeLife> {
    let life = |record: &Volume| VolumeLife { epoch: record.life, made: record.made };
    let recorded = state.local_volumes(id, spec);
    recorded.filter_map(|(name, _, record)| Some((name, life(record?)))).collect()
}

/// The nodes that have, or had, a closure: who has built it keeps it for as long as the generation is
/// kept; who runs it, or ran it last, does likewise, and
/// whom it has left does until it runs elsewhere.
fn sources(state: &ClusterState, closure: &ClosureRef, host: NodeId) -> Vec<NodeId> {
    let mut sources = Vec::new();
    let mut add = |node: Option<NodeId>| {
        let other = node.filter(|node| *node != host && !sources.contains(node));
        sources.extend(other.filter(|node| state.nodes.contains_key(node)));
    };
    let of_vms = state.vms.values().flat_map(|vm| vm.generations.values().map(move |one| (vm, one)));
    let same: Vec<(&Vm, &Generation)> = of_vms.filter(|(_, one)| one.closure == *closure).collect();
    for (_, generation) in &same {
        add(generation.builder);
    }
    for (vm, _) in &same {
        add(vm.last_host);
        add(vm.came_from);
    }
    sources
}

#[cfg(test)]
mod tests;
