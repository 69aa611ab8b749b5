//! A deployment: new generations of vms.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::VolumeKind;
use blixard_types::{Epoch, GenerationNumber, NodeId, Sha256Hash, Spec, VmId};

use super::fence::runs_next;
use super::{Moment, Rejection};
use crate::command::{Deploy, DeployedVm, Outcome, TakeOver, VmChange, VmDefinition};
use crate::signature;
use crate::state::{
    ClusterState, Deletion, Desired, EventKind, Files, GENERATIONS_KEPT, Generation, InPartition, Node,
    Proof, Restart, Role, Run, Unplaced, Usage, Vm,
};

impl ClusterState {
    pub(super) fn deploy(&mut self, deploy: &Deploy, moment: Moment) -> Result<Outcome, Rejection> {
        self.check_builder(deploy)?;
        self.check_deploy(deploy)?;
        self.check_volumes(deploy)?;
        let defined = deploy.vms.iter().map(|one| (&one.vm, &one.spec)).collect();
        self.check_growth(&defined)?;
        self.check_claims(&defined)?;
        let digests = deploy.vms.iter().map(spec_digest).collect::<Result<Vec<_>, _>>()?;
        let vms: Vec<_> = deploy
            .vms
            .iter()
            .zip(digests)
            .map(|(definition, digest)| self.define(deploy, definition, digest, moment))
            .collect();
        self.drop_unused_specs();
        Ok(Outcome::Deployed { revision: moment.revision, vms })
    }

    /// A reference is taken only from a node that builds. As long as no builder has made its key known
    /// (in logs of before there were keys, and at the very beginning) there is nothing to check with.
    fn check_builder(&self, deploy: &Deploy) -> Result<(), Rejection> {
        let builds = |node: &Node| node.roles.contains(&Role::Builder);
        let Some(signature) = &deploy.builder else {
            let keyed = self.nodes.values().any(|node| builds(node) && node.key.is_some());
            return if keyed { Err(Rejection::NotSigned) } else { Ok(()) };
        };
        let node = signature.node;
        let builder = self.nodes.get(&node).ok_or(Rejection::UnknownNode { node })?;
        let key = builder.key.filter(|_| builds(builder)).ok_or(Rejection::NotABuilder { node })?;
        let good = signature::verify(key, &signature::statement(deploy.deployment, &deploy.vms), signature);
        if good { Ok(()) } else { Err(Rejection::BadSignature { node }) }
    }

    fn check_deploy(&self, deploy: &Deploy) -> Result<(), Rejection> {
        if deploy.vms.is_empty() {
            return Err(Rejection::EmptyDeployment);
        }
        let mut seen = BTreeSet::new();
        for VmDefinition { vm, .. } in &deploy.vms {
            if !seen.insert(vm) {
                return Err(Rejection::NamedTwice { vm: vm.clone() });
            }
            let Some(present) = self.vms.get(vm) else { continue };
            if present.deletion == Deletion::Requested {
                return Err(Rejection::BeingDeleted { vm: vm.clone() });
            }
            if present.source != deploy.source && deploy.take_over == TakeOver::Refuse {
                let (owner, source_id) = (present.source.clone(), deploy.source.clone());
                return Err(Rejection::OtherSource { vm: vm.clone(), owner, source_id });
            }
        }
        Ok(())
    }

    /// A placed vm stays where it is, and a volume too, so what is made of them must fit there.
    pub(super) fn check_growth(&self, defined: &BTreeMap<&VmId, &Spec>) -> Result<(), Rejection> {
        for (&id, &spec) in defined {
            let vm = self.vms.get(id);
            let placed = vm.and_then(|vm| Some((vm.run.host()?, self.target_spec(vm).map(Usage::of)?)));
            let recorded = self.local_volumes(id, spec).find_map(|(_, _, record)| Some(record?.node));
            // New ones are made where the others are.
            let new = self.needs(id, spec).without(Usage::of(spec));
            let volumes_grow = self.volumes_grow(id, spec) || new.disk_mib > 0;
            if let Some((node, now)) = placed {
                let then = Usage::of(spec);
                let grows = then.memory_mib > now.memory_mib
                    || then.vcpus > now.vcpus
                    || then.disk_mib > now.disk_mib;
                if grows || volumes_grow && recorded == Some(node) {
                    let made = if recorded == Some(node) { new } else { Usage::default() };
                    self.check_room_then(defined, id, node, then.and(made))?;
                }
            }
            if let Some(node) =
                recorded.filter(|&node| volumes_grow && placed.is_none_or(|(on, _)| on != node))
            {
                self.check_room_then(defined, id, node, new)?;
            }
        }
        Ok(())
    }

    /// Whether a vm that takes this of a host, with its volumes, fits beside the others as they will be then.
    fn check_room_then(
        &self,
        defined: &BTreeMap<&VmId, &Spec>,
        id: &VmId,
        node: NodeId,
        takes: Usage,
    ) -> Result<(), Rejection> {
        let session = self.nodes.get(&node).and_then(|node| node.session.as_ref());
        let Some(session) = session else { return Ok(()) };
        let others = self.vms.iter().filter(|&(other, of)| other != id && of.run.host() == Some(node));
        let used = others
            .filter_map(|(other, of)| defined.get(other).copied().or_else(|| self.target_spec(of)))
            .fold(Usage::default(), Usage::plus);
        let (own_mib, others_mib) = self.volumes_then(defined, id, node);
        let used = used.and(Usage { disk_mib: others_mib, ..Usage::default() });
        let wanted = takes.and(Usage { disk_mib: own_mib, ..Usage::default() });
        let fits = session.facts.capacity().fits(used, wanted);
        fits.map_err(|shortage| Rejection::NoRoom { vm: id.clone(), node, shortage })
    }

    fn volumes_grow(&self, id: &VmId, spec: &Spec) -> bool {
        self.local_volumes(id, spec)
            .any(|(_, wanted, record)| record.is_some_and(|record| wanted.size_mib > record.size_mib))
    }

    /// What the volumes on a host will take once all is defined: those of this vm, and the others.
    fn volumes_then(&self, defined: &BTreeMap<&VmId, &Spec>, id: &VmId, node: NodeId) -> (u64, u64) {
        let (mut own, mut others) = (0, 0);
        for (vm, records) in &self.volumes {
            let wanted: BTreeMap<_, _> = defined
                .get(vm)
                .into_iter()
                .flat_map(|spec| spec.volumes_of(VolumeKind::Local))
                .map(|(name, volume)| (name, volume.size_mib))
                .collect();
            for (name, record) in records.iter().filter(|(_, record)| record.node == node) {
                let then = wanted.get(name).copied().unwrap_or_default().max(record.size_mib);
                *(if vm == id { &mut own } else { &mut others }) += then;
            }
        }
        (own, others)
    }

    fn define(
        &mut self,
        deploy: &Deploy,
        definition: &VmDefinition,
        spec: Sha256Hash,
        moment: Moment,
    ) -> DeployedVm {
        let id = definition.vm.clone();
        let change = if self.vms.contains_key(&id) { VmChange::Changed } else { VmChange::Added };
        let retired = self.retired_epoch;
        let vm = self.vms.entry(id.clone()).or_insert_with(|| new_vm(deploy, retired));
        vm.source = deploy.source.clone();
        let same =
            |generation: &Generation| generation.closure == definition.closure && generation.spec == spec;
        if vm.target_generation().is_some_and(same) {
            // Who builds it now has it, and has signed for it; the builder of before may be gone for good.
            let (generation, by) = (vm.target, deploy.builder.as_ref().map(|signature| signature.node));
            if let Some(known) = vm.generations.get_mut(&generation)
                && let Some(node) = by
                && known.builder != by
            {
                (known.builder, known.deployment) = (by, deploy.deployment);
                self.note(moment, EventKind::Rebuilt { vm: id.clone(), generation, node });
            }
            return DeployedVm { vm: id, generation, change: VmChange::Unchanged };
        }
        let number = vm.generations.last_key_value().map_or(GenerationNumber(1), |(last, _)| last.next());
        let generation = Generation {
            closure: definition.closure.clone(),
            spec,
            drv: definition.drv.clone(),
            system: definition.system.clone(),
            deployment: deploy.deployment,
            builder: deploy.builder.as_ref().map(|signature| signature.node),
            at: moment.at,
            by: moment.by,
            proof: Proof::None,
        };
        runs_next(vm, definition.spec.keeps_in_partition());
        vm.generations.insert(number, generation);
        (vm.target, vm.preparing, vm.returned) = (number, None, None);
        // A new generation is a new try: what failed before says nothing of it.
        vm.forgive();
        // One that still runs keeps its claims, so it is not forgotten.
        let runs = vm.run.generation();
        while vm.generations.len() > GENERATIONS_KEPT
            && let Some(oldest) = vm.generations.keys().copied().find(|&one| Some(one) != runs)
        {
            vm.generations.remove(&oldest);
        }
        self.specs.entry(spec).or_insert_with(|| definition.spec.clone());
        self.grow_volumes(&id, &definition.spec);
        self.note(moment, EventKind::GenerationAdded { vm: id.clone(), generation: number });
        DeployedVm { vm: id, generation: number, change }
    }

    /// Forgets the specs that no kept generation and no evaluation refers to.
    pub(super) fn drop_unused_specs(&mut self) {
        let generations = self.vms.values().flat_map(|vm| vm.generations.values());
        let specs = generations.map(|generation| generation.spec);
        let used: BTreeSet<Sha256Hash> = specs.chain(self.evaluations.specs()).collect();
        self.specs.retain(|digest, _| used.contains(digest));
    }
}

fn spec_digest(definition: &VmDefinition) -> Result<Sha256Hash, Rejection> {
    definition.spec.digest().map_err(|_| Rejection::SpecEncoding { vm: definition.vm.clone() })
}

fn new_vm(deploy: &Deploy, last_epoch: Epoch) -> Vm {
    Vm {
        source: deploy.source.clone(),
        desired: Desired::Running,
        wishes: 0,
        deletion: Deletion::Keep,
        files: Files::Keep,
        restart: Restart::No,
        moves_from: None,
        generations: BTreeMap::new(),
        target: GenerationNumber(0),
        run: Run::Unplaced { why: Unplaced::New },
        last_epoch,
        last_host: None,
        came_from: None,
        preparing: None,
        heard: 0,
        in_partition: InPartition::default(),
        failures: 0,
        failed_on: BTreeSet::new(),
        preempted_by: None,
        returned: None,
    }
}
