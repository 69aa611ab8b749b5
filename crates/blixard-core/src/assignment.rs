//! What a host is granted: the whole set of vms it may run, and what it must keep.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{ClosureRef, Epoch, GenerationNumber, NodeId, Spec, VmId, VolumeName};

use crate::state::{ClusterState, Made, Run, Vm, Volume, VolumeFate};

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
    assigned(state, |node| node == host).remove(&host).unwrap_or_default()
}

/// What the state grants each host. Who is not in it is granted nothing. For many hosts this takes what it takes for
/// one: every vm is looked at once.
#[must_use]
pub fn assignments(state: &ClusterState) -> BTreeMap<NodeId, AssignmentSet> {
    assigned(state, |_| true)
}

fn assigned(state: &ClusterState, asked: impl Fn(NodeId) -> bool) -> BTreeMap<NodeId, AssignmentSet> {
    let holders = Holders::of(state, &asked);
    let mut sets = BTreeMap::<NodeId, AssignmentSet>::new();
    for (vm, volumes) in &state.volumes {
        let gone = volumes.iter().filter(|(_, volume)| volume.fate == VolumeFate::Delete);
        for (name, volume) in gone.filter(|(_, volume)| asked(volume.node)) {
            let set = sets.entry(volume.node).or_default();
            set.deleted_volumes.entry(vm.clone()).or_default().insert(name.clone(), volume.life);
        }
    }
    for (id, vm) in &state.vms {
        for host in [vm.last_host, vm.came_from].into_iter().flatten().filter(|&host| asked(host)) {
            let retained = vm.generations.keys().copied().collect();
            sets.entry(host).or_default().retained.insert(id.clone(), retained);
        }
        if let Some(host) = vm.discards().filter(|&host| asked(host)) {
            sets.entry(host).or_default().discarded.insert(id.clone(), vm.last_epoch);
        }
        let Run::Placed { node, epoch, .. } = vm.run else {
            continue;
        };
        if asked(node) {
            let intent = intent(state, (id, vm), node, &holders);
            sets.entry(node).or_default().assignments.insert(id.clone(), Assignment { epoch, intent });
        }
    }
    sets
}

fn intent(state: &ClusterState, (id, vm): (&VmId, &Vm), host: NodeId, holders: &Holders<'_>) -> Intent {
    let run = vm.target_generation().zip(state.target_spec(vm)).filter(|_| vm.wanted_there());
    let run = run.filter(|(_, spec)| state.has_volumes(id, spec, host));
    run.map_or(Intent::Stop, |(generation, spec)| {
        let (generation, closure) = (vm.target, generation.closure.clone());
        let sources = holders.sources(state, &closure, host);
        let volumes = volumes(state, id, spec);
        Intent::Run(Box::new(RunIntent { generation, closure, spec: spec.clone(), sources, volumes }))
    })
}

fn volumes(state: &ClusterState, id: &VmId, spec: &Spec) -> BTreeMap<VolumeName, VolumeLife> {
    let life = |record: &Volume| VolumeLife { epoch: record.life, made: record.made };
    let recorded = state.local_volumes(id, spec);
    recorded.filter_map(|(name, _, record)| Some((name, life(record?)))).collect()
}

/// The nodes that have, or had, the closures that are asked for: who has built one keeps it for as long as the
/// generation is kept; who runs it, or ran it last, does likewise, and whom its vm has left does until it runs elsewhere.
struct Holders<'a>(BTreeMap<&'a ClosureRef, Held>);

#[derive(Default)]
struct Held {
    builders: Vec<NodeId>,
    hosts: Vec<NodeId>,
}

impl<'a> Holders<'a> {
    fn of(state: &'a ClusterState, asked: impl Fn(NodeId) -> bool) -> Self {
        let placed = state.vms.values().filter(|vm| vm.run.host().is_some_and(&asked));
        let targets = placed.filter_map(Vm::target_generation).map(|one| (&one.closure, Held::default()));
        let mut held: BTreeMap<&ClosureRef, Held> = targets.collect();
        for vm in state.vms.values() {
            for generation in vm.generations.values() {
                if let Some(held) = held.get_mut(&generation.closure) {
                    held.builders.extend(generation.builder);
                    held.hosts.extend([vm.last_host, vm.came_from].into_iter().flatten());
                }
            }
        }
        Self(held)
    }

    /// Those that are there, the likeliest first.
    fn sources(&self, state: &ClusterState, closure: &ClosureRef, host: NodeId) -> Vec<NodeId> {
        let mut sources = Vec::new();
        let held = self.0.get(closure);
        for &node in held.iter().flat_map(|held| held.builders.iter().chain(&held.hosts)) {
            if node != host && !sources.contains(&node) && state.nodes.contains_key(&node) {
                sources.push(node);
            }
        }
        sources
    }
}

#[cfg(test)]
mod tests;
