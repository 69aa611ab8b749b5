//! Volumes: promised by a placement, made by its host, grown by a deployment, gone only on somebody's word.

use std::collections::BTreeMap;

use blixard_types::spec::VolumeKind;
use blixard_types::{Epoch, GenerationNumber, NodeId, Spec, VmId, VolumeId, VolumeName};

use super::lifecycle::try_again;
use super::{Moment, Rejection, VolumeRejection as Refused};
use crate::command::{Deploy, Outcome, VmDefinition, VolumeCommand};
use crate::state::{ClusterState, EventKind, Hold, Made, Run, Unplaced, Vm, Volume, VolumeFate};

fn named(vm: &VmId, name: &VolumeName) -> VolumeId {
    VolumeId { vm: vm.clone(), name: name.clone() }
}

impl ClusterState {
    pub(super) fn change_volume(
        &mut self,
        command: &VolumeCommand,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        match command {
            VolumeCommand::Delete { volume, life } => self.delete_volume(volume, *life, moment),
            VolumeCommand::Forget { vm, volume } => self.forget_volumes(vm, volume.as_ref(), moment),
        }
    }

    /// What a deployment says of volumes must leave what is in them as it is.
    pub(super) fn check_volumes(&self, deploy: &Deploy) -> Result<(), Rejection> {
        for VmDefinition { vm, spec, .. } in &deploy.vms {
            let Some(records) = self.volumes.get(vm) else { continue };
            for volume in &spec.volumes {
                let Some(name) = volume.volume_name() else { continue };
                let id = named(vm, &name);
                let same_image = |(other, record): &(&VolumeName, &Volume)| {
                    **other != name && record.image == volume.image
                };
                if let Some((other, _)) = records.iter().find(same_image) {
                    let (image, owner) = (volume.image.clone(), named(vm, other));
                    return Err(Refused::ImageTaken { image, owner }.into());
                }
                let Some(record) = records.get(&name) else { continue };
                if volume.kind != VolumeKind::Local {
                    return Err(Refused::IsLocal { id }.into());
                }
                if volume.size_mib < record.size_mib {
                    let (size_mib, wanted_mib) = (record.size_mib, volume.size_mib);
                    return Err(Refused::Shrinks { id, size_mib, wanted_mib }.into());
                }
                if volume.image != record.image {
                    let image = record.image.clone();
                    return Err(Refused::OtherImage { id, image }.into());
                }
            }
            self.check_together(vm, spec)?;
        }
        Ok(())
    }

    fn check_together(&self, vm: &VmId, spec: &Spec) -> Result<(), Rejection> {
        let recorded =
            self.local_volumes(vm, spec).filter_map(|(name, _, record)| Some((name, record?.node)));
        let mut first: Option<(VolumeName, NodeId)> = None;
        for (name, node) in recorded {
            match &first {
                None => first = Some((name, node)),
                Some((other, elsewhere)) if *elsewhere != node => {
                    let (vm, other, elsewhere) = (vm.clone(), other.clone(), *elsewhere);
                    return Err(Refused::Apart { vm, one: name, node, other, elsewhere }.into());
                }
                Some(_) => {}
            }
        }
        Ok(())
    }

    /// The volumes of a vm grow with its spec. Its host makes them so when it starts it next.
    pub(super) fn grow_volumes(&mut self, vm: &VmId, spec: &Spec) {
        let Some(records) = self.volumes.get_mut(vm) else { return };
        for (name, volume) in spec.volumes_of(VolumeKind::Local) {
            if let Some(record) = records.get_mut(&name) {
                record.size_mib = record.size_mib.max(volume.size_mib);
            }
        }
    }

    /// A vm is placed where its volumes are, and where what it shares is.
    pub(super) fn check_pin(&self, id: &VmId, vm: &Vm, node: NodeId) -> Result<(), Rejection> {
        let spec = self.target_spec(vm).ok_or_else(|| Rejection::UnknownVm { vm: id.clone() })?;
        if let Some(name) = self.going_volume(id, spec) {
            return Err(Refused::Going { id: named(id, &name) }.into());
        }
        let session = self.nodes.get(&node).and_then(|host| host.session.as_ref());
        for (name, _) in spec.volumes_of(VolumeKind::Shared) {
            if session.is_none_or(|session| !session.facts.shared.contains_key(&name)) {
                return Err(Refused::NotShared { node, name }.into());
            }
        }
        let Some(pin) = self.pin(id, vm, spec).filter(|pin| pin.node != node) else { return Ok(()) };
        let host = pin.node;
        let Some(name) = pin.volumes.into_iter().next() else { return Ok(()) };
        Err(match pin.hold {
            Hold::Has => Refused::Elsewhere { id: named(id, &name), host, node }.into(),
            Hold::MayWrite => Refused::MayBeWritten { host, name }.into(),
        })
    }

    /// Whether a lost host may still write to what a vm shares with others.
    pub(super) fn check_written(&self, id: &VmId) -> Result<(), Rejection> {
        let written = self.vms.get(id).and_then(|vm| self.may_be_written(vm, self.target_spec(vm)?));
        match written.and_then(|(host, names)| Some((host, names.into_iter().next()?))) {
            Some((host, name)) => Err(Refused::MayBeWritten { host, name }.into()),
            None => Ok(()),
        }
    }

    /// A placement makes the volumes that there are not yet, on its host and on no other.
    pub(super) fn promise_volumes(&mut self, id: &VmId, node: NodeId, epoch: Epoch) {
        let spec = self.vms.get(id).and_then(|vm| self.target_spec(vm));
        let Some(spec) = spec else { return };
        let new: Vec<(VolumeName, Volume)> = self
            .local_volumes(id, spec)
            .filter(|(_, _, record)| record.is_none())
            .map(|(name, wanted, _)| {
                let (size_mib, image) = (wanted.size_mib, wanted.image.clone());
                let (made, fate) = (Made::Promised, VolumeFate::Keep);
                (name, Volume { node, life: epoch, size_mib, image, made, fate })
            })
            .collect();
        if !new.is_empty() {
            self.volumes.entry(id.clone()).or_default().extend(new);
        }
    }

    /// A host runs a generation: the volumes of it are there.
    pub(super) fn volumes_are_made(&mut self, id: &VmId, node: NodeId, generation: GenerationNumber) {
        let spec = self.vms.get(id).and_then(|vm| vm.generations.get(&generation));
        let Some(spec) = spec.and_then(|generation| self.specs.get(&generation.spec)) else { return };
        let Some(records) = self.volumes.get_mut(id) else { return };
        for (name, _) in spec.volumes_of(VolumeKind::Local) {
            if let Some(record) = records.get_mut(&name).filter(|record| record.node == node) {
                record.made = Made::Made;
            }
        }
    }

    /// Whether a volume may be deleted.
    ///
    /// # Errors
    /// When there is none, or when its vm has to be stopped first.
    pub fn check_volume_deletion(&self, id: &VolumeId) -> Result<&Volume, Rejection> {
        let record = self.volumes.get(&id.vm).and_then(|records| records.get(&id.name));
        let record = record.ok_or_else(|| Refused::Unknown { id: id.clone() })?;
        let placed = self.uses(&id.vm, &id.name);
        let wanted = self.vms.get(&id.vm).filter(|vm| vm.wanted()).and_then(|vm| self.target_spec(vm));
        let wanted = wanted.is_some_and(|spec| spec.volumes.iter().any(|one| one.name == id.name.as_str()));
        if placed || wanted {
            return Err(Refused::InUse { id: id.clone(), placed }.into());
        }
        Ok(record)
    }

    fn delete_volume(
        &mut self,
        id: &VolumeId,
        life: Option<Epoch>,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let record = self.check_volume_deletion(id)?;
        if life.is_some_and(|life| life != record.life) {
            return Err(Refused::Unknown { id: id.clone() }.into());
        }
        if record.fate == VolumeFate::Delete {
            return Ok(Outcome::Unchanged);
        }
        let record = self.volumes.get_mut(&id.vm).and_then(|records| records.get_mut(&id.name));
        if let Some(record) = record {
            record.fate = VolumeFate::Delete;
            let (vm, volume, node) = (id.vm.clone(), id.name.clone(), record.node);
            self.note(moment, EventKind::VolumeDeletionRequested { vm, volume, node });
        }
        Ok(moment.changed())
    }

    /// What a vm that is gone has left elsewhere than where it was last.
    pub(super) fn discard_volumes(&mut self, id: &VmId, moment: Moment) {
        let Some(records) = self.volumes.get_mut(id) else { return };
        let mut going = Vec::new();
        for (name, record) in records.iter_mut().filter(|(_, record)| record.fate == VolumeFate::Keep) {
            record.fate = VolumeFate::Delete;
            going.push((name.clone(), record.node));
        }
        if records.is_empty() {
            self.volumes.remove(id);
        }
        for (volume, node) in going {
            self.note(moment, EventKind::VolumeDeletionRequested { vm: id.clone(), volume, node });
        }
    }

    /// A host has removed a volume as it was told.
    pub(super) fn volume_gone(
        &mut self,
        id: &VmId,
        volume: &VolumeName,
        (node, life): (NodeId, Epoch),
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let record = self.volumes.get(id).and_then(|records| records.get(volume));
        let told =
            |record: &Volume| (record.node, record.life, record.fate) == (node, life, VolumeFate::Delete);
        if !record.is_some_and(told) {
            return Err(Rejection::OtherEpoch { vm: id.clone(), node, epoch: life });
        }
        self.drop_volumes(id, std::slice::from_ref(volume));
        self.note(moment, EventKind::VolumeDeleted { vm: id.clone(), volume: volume.clone(), node });
        Ok(moment.changed())
    }

    fn drop_volumes(&mut self, id: &VmId, names: &[VolumeName]) {
        let Some(records) = self.volumes.get_mut(id) else { return };
        records.retain(|name, _| !names.contains(name));
        if records.is_empty() {
            self.volumes.remove(id);
        }
    }

    /// Its data is given up by a person, so its vm may run again, with a new one. What its host still has of it
    /// is never taken for that: it is of another life.
    fn forget_volumes(
        &mut self,
        id: &VmId,
        only: Option<&VolumeName>,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let given_up = self.to_give_up(id, only)?;
        for (volume, node) in &given_up {
            let (vm, volume, node) = (id.clone(), volume.clone(), *node);
            self.note(moment, EventKind::VolumeForgotten { vm, volume, node });
        }
        let names: Vec<VolumeName> = given_up.into_keys().collect();
        let recorded = |name: &VolumeName| self.volumes_of(id).any(|(known, _)| known == name);
        let shared = names.iter().any(|name| !recorded(name));
        self.drop_volumes(id, &names);
        if let Some(vm) = self.vms.get_mut(id) {
            try_again(vm);
            if shared && matches!(vm.run, Run::Unplaced { why: Unplaced::Lost { .. } }) {
                vm.run = Run::Unplaced { why: Unplaced::Stopped };
            }
        }
        Ok(moment.changed())
    }

    /// The volumes of a vm that would be given up, with their hosts.
    ///
    /// # Errors
    /// When there are none, or when the vm is on a host with one.
    pub fn to_give_up(
        &self,
        id: &VmId,
        only: Option<&VolumeName>,
    ) -> Result<BTreeMap<VolumeName, NodeId>, Rejection> {
        let meant = |name: &VolumeName| only.is_none_or(|only| only == name);
        let recorded = self.volumes_of(id).map(|(name, record)| (name.clone(), record.node));
        let mut found: BTreeMap<_, _> = recorded.filter(|(name, _)| meant(name)).collect();
        let vm = self.vms.get(id);
        let written = vm.and_then(|vm| self.may_be_written(vm, self.target_spec(vm)?));
        if let Some((node, volumes)) = written {
            found.extend(volumes.into_iter().filter(meant).map(|name| (name, node)));
        }
        match only {
            Some(name) if found.is_empty() => return Err(Refused::Unknown { id: named(id, name) }.into()),
            None if vm.is_none() && found.is_empty() => {
                return Err(Rejection::UnknownVm { vm: id.clone() });
            }
            None if found.is_empty() => return Err(Refused::None { vm: id.clone() }.into()),
            _ => {}
        }
        if let Some(name) = found.keys().find(|name| self.uses(id, name)) {
            return Err(Refused::InUse { id: named(id, name), placed: true }.into());
        }
        Ok(found)
    }
}
