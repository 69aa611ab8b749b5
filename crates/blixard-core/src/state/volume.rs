//! Local volumes: which host has them, and how large they are.
//!
//! ```text
//!        Place                Report(Running)            Delete                 Report(VolumeGone)
//! none ─────────▶ Promised ───────────────────▶ Made ───────────▶ (to be deleted) ───────────▶ none
//!                     └───────────────── Forget, from any of them, while it is not in use ──────▲
//! ```
//!
//! A volume outlives the placements of its vm, and the vm itself. As long as its record is there it is on that
//! host and on no other, and a vm that wants it is placed there or waits. Ephemeral volumes belong to a
//! placement, shared ones to whoever runs the hosts: neither has a record.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::VolumeKind;
use blixard_types::{Epoch, NodeId, Spec, VmId, VolumeName};
use serde::{Deserialize, Serialize};

use super::{ClusterState, Run, Unplaced, Usage, Vm};

/// The local volumes of all vms, those of vms that are gone included.
pub type Volumes = BTreeMap<VmId, BTreeMap<VolumeName, Volume>>;

/// A local volume.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Volume {
    /// The host that has it.
    pub node: NodeId,
    /// The placement that it was made for: what tells its image from any other of its name.
    pub life: Epoch,
    /// Its size in MiB, which never shrinks.
    pub size_mib: u64,
    /// Its image, relative to the vm's directory.
    pub image: String,
    /// Whether there is something in it.
    pub made: Made,
    /// Whether it is to go.
    pub fate: VolumeFate,
}

/// Whether a volume's image was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Made {
    /// Its host makes it when it starts the vm.
    Promised,
    /// The vm has run with it: if the image is missing, data is lost, and no empty one takes its place.
    Made,
}

/// Whether a volume is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VolumeFate {
    /// It stays.
    #[default]
    Keep,
    /// Its host removes it, and says so.
    Delete,
}

/// Why a vm may be on one host only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// That host.
    pub node: NodeId,
    /// The volumes that are there.
    pub volumes: BTreeSet<VolumeName>,
    /// What holds it there.
    pub hold: Hold,
}

/// What holds a vm on a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// Its volumes are there.
    Has,
    /// It was lost, and may still write to what all hosts see.
    MayWrite,
}

impl ClusterState {
    /// The volumes of a vm.
    pub fn volumes_of(&self, vm: &VmId) -> impl Iterator<Item = (&VolumeName, &Volume)> {
        self.volumes.get(vm).into_iter().flatten()
    }

    /// The records of the local volumes that a spec names, with the size it wants, and those that have none yet.
    pub(crate) fn local_volumes<'a>(
        &'a self,
        vm: &'a VmId,
        spec: &'a Spec,
    ) -> impl Iterator<Item = (VolumeName, &'a blixard_types::spec::Volume, Option<&'a Volume>)> {
        let recorded = self.volumes.get(vm);
        spec.volumes_of(VolumeKind::Local).map(move |(name, wanted)| {
            let record = recorded.and_then(|recorded| recorded.get(&name));
            (name, wanted, record)
        })
    }

    /// The one host that a vm of this spec may be placed on; `None` if any will do.
    pub fn pin(&self, id: &VmId, vm: &Vm, spec: &Spec) -> Option<Pin> {
        let recorded =
            self.local_volumes(id, spec).filter_map(|(name, _, record)| Some((name, record?.node)));
        let recorded: Vec<(VolumeName, NodeId)> = recorded.collect();
        if let Some(&(_, node)) = recorded.first() {
            let volumes = recorded.into_iter().filter(|(_, on)| *on == node).map(|(name, _)| name).collect();
            return Some(Pin { node, volumes, hold: Hold::Has });
        }
        let (node, volumes) = self.may_be_written(vm, spec)?;
        Some(Pin { node, volumes, hold: Hold::MayWrite })
    }

    /// The shared volumes of a spec that the vm's lost host may still write to: what was killed with its lease may
    /// have left writes on their way to a storage that does not fence.
    pub(crate) fn may_be_written(&self, vm: &Vm, spec: &Spec) -> Option<(NodeId, BTreeSet<VolumeName>)> {
        let Run::Unplaced { why: Unplaced::Lost { node } } = vm.run else { return None };
        let open = |name: &VolumeName| {
            let session = self.nodes.get(&node).and_then(|node| node.session.as_ref());
            session.is_none_or(|session| session.facts.shared.get(name) != Some(&SharedStorage::Fenced))
        };
        let volumes: BTreeSet<_> =
            spec.volumes_of(VolumeKind::Shared).map(|(name, _)| name).filter(open).collect();
        (!volumes.is_empty()).then_some((node, volumes))
    }

    /// A volume of a spec that is being deleted.
    pub fn going_volume(&self, id: &VmId, spec: &Spec) -> Option<VolumeName> {
        self.local_volumes(id, spec)
            .find(|(_, _, record)| record.is_some_and(|record| record.fate == VolumeFate::Delete))
            .map(|(name, ..)| name)
    }

    /// What a vm of this spec would take of a host beside what is counted there already.
    pub fn needs(&self, id: &VmId, spec: &Spec) -> Usage {
        let new = self.local_volumes(id, spec).filter(|(_, _, record)| record.is_none());
        let new_mib = new.map(|(_, wanted, _)| wanted.size_mib).sum();
        Usage::of(spec).and(Usage { disk_mib: new_mib, ..Usage::default() })
    }

    /// Whether a host has all the local volumes of a spec: a vm that is there without them has to go to where they
    /// are, or has to be placed anew for them to be made.
    pub fn has_volumes(&self, id: &VmId, spec: &Spec, host: NodeId) -> bool {
        let there = |record: &Volume| record.node == host && record.fate == VolumeFate::Keep;
        self.local_volumes(id, spec).all(|(_, _, record)| record.is_some_and(there))
    }

    /// Whether a vm that is on a host has this volume, or will have it.
    pub fn uses(&self, id: &VmId, name: &VolumeName) -> bool {
        let Some(vm) = self.vms.get(id) else { return false };
        let names = |spec: &Spec| spec.volumes.iter().any(|volume| volume.name == name.as_str());
        let running =
            vm.run.generation().and_then(|number| self.specs.get(&vm.generations.get(&number)?.spec));
        vm.run.host().is_some() && running.into_iter().chain(self.target_spec(vm)).any(names)
    }
}

/// Whether a storage that all hosts see takes writes of a host that is lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SharedStorage {
    /// Whoever runs it says that it does not.
    Fenced,
    /// Nobody says so.
    Unfenced,
}
