//! What the scheduler has to know of a vm's generation, found once for all vms that are alike.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::{Constraint, Hypervisor, KvmUse, LABEL_VM, Strategy, VolumeKind};
use blixard_types::{Spec, TenantName, VmId, VolumeName};

use crate::state::{Generation, Usage};

/// What a generation asks of a host. Generations with equal requirements share one order of the hosts.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Requirement {
    pub(super) system: String,
    pub(super) tenant: TenantName,
    pub(super) hypervisor: Hypervisor,
    pub(super) kvm: Kvm,
    pub(super) constraints: Vec<Constraint>,
    pub(super) strategy: Strategy,
    pub(super) shared: BTreeSet<VolumeName>,
}

impl Requirement {
    pub(super) fn of(generation: &Generation, spec: &Spec) -> Self {
        let placement = &spec.placement;
        Self {
            system: generation.system.clone(),
            tenant: spec.tenant.clone(),
            hypervisor: spec.hypervisor,
            kvm: if spec.kvm == KvmUse::Required { Kvm::Needed } else { Kvm::NotNeeded },
            constraints: placement.constraints.clone(),
            strategy: placement.strategy,
            shared: spec.volumes_of(VolumeKind::Shared).map(|(name, _)| name).collect(),
        }
    }
}

/// The vms that an affinity speaks of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Peers {
    /// The one of this name.
    Named(VmId),
    /// Those with a label of this value.
    Labelled(String, String),
}

fn peers(labels: &BTreeMap<String, String>) -> Vec<Peers> {
    let peers = |(key, value): (&String, &String)| match value.parse() {
        Ok(vm) if key == LABEL_VM => Peers::Named(vm),
        _ => Peers::Labelled(key.clone(), value.clone()),
    };
    labels.iter().map(peers).collect()
}

/// Whether a host without KVM will do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kvm {
    Needed,
    NotNeeded,
}

/// A generation as the scheduler sees it.
#[derive(Debug)]
pub(super) struct Shape {
    pub(super) requirement: Requirement,
    pub(super) takes: Usage,
    pub(super) priority: i32,
    pub(super) affinity: Vec<Peers>,
    pub(super) anti_affinity: Vec<Peers>,
    pub(super) labels: BTreeMap<String, String>,
}

impl Shape {
    pub(super) fn of(generation: &Generation, spec: &Spec) -> Self {
        let placement = &spec.placement;
        Self {
            requirement: Requirement::of(generation, spec),
            takes: Usage::of(spec),
            priority: placement.priority,
            affinity: peers(&placement.affinity),
            anti_affinity: peers(&placement.anti_affinity),
            labels: spec.labels.clone(),
        }
    }
}
