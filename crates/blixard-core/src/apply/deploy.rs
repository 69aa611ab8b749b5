//! A deployment: new generations of vms.

use std::collections::BTreeSet;

use blixard_types::{Epoch, GenerationNumber, Sha256Hash};

use super::{Moment, Rejection};
use crate::command::{Deploy, DeployedVm, Outcome, TakeOver, VmChange, VmDefinition};
use crate::state::{
    ClusterState, Deletion, Desired, EventKind, GENERATIONS_KEPT, Generation, Run, Unplaced, Vm,
};

impl ClusterState {
    pub(super) fn deploy(&mut self, deploy: &Deploy, moment: Moment) -> Result<Outcome, Rejection> {
        self.check_deploy(deploy)?;
        let digests = deploy
            .vms
            .iter()
            .map(spec_digest)
            .collect::<Result<Vec<_>, _>>()?;
        let vms: Vec<_> = deploy
            .vms
            .iter()
            .zip(digests)
            .map(|(definition, digest)| self.define(deploy, definition, digest, moment))
            .collect();
        self.drop_unused_specs();
        Ok(Outcome::Deployed {
            revision: moment.revision,
            vms,
        })
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
                return Err(Rejection::OtherSource {
                    vm: vm.clone(),
                    owner,
                    source_id,
                });
            }
        }
        Ok(())
    }

    fn define(
        &mut self,
        deploy: &Deploy,
        definition: &VmDefinition,
        spec: Sha256Hash,
        moment: Moment,
    ) -> DeployedVm {
        let id = definition.vm.clone();
        let change = if self.vms.contains_key(&id) {
            VmChange::Changed
        } else {
            VmChange::Added
        };
        let vm = self.vms.entry(id.clone()).or_insert_with(|| new_vm(deploy));
        vm.source = deploy.source.clone();
        let same =
            |generation: &Generation| generation.closure == definition.closure && generation.spec == spec;
        if vm.target_generation().is_some_and(same) {
            return DeployedVm {
                vm: id,
                generation: vm.target,
                change: VmChange::Unchanged,
            };
        }
        let number = vm
            .generations
            .last_key_value()
            .map_or(GenerationNumber(1), |(last, _)| last.next());
        let generation = Generation {
            closure: definition.closure.clone(),
            spec,
            drv: definition.drv.clone(),
            system: definition.system.clone(),
            deployment: deploy.deployment,
            at: moment.at,
        };
        vm.generations.insert(number, generation);
        vm.target = number;
        // A new generation is a new try: what failed before says nothing of it.
        vm.failures = 0;
        while vm.generations.len() > GENERATIONS_KEPT {
            vm.generations.pop_first();
        }
        self.specs.entry(spec).or_insert_with(|| definition.spec.clone());
        self.note(
            moment,
            EventKind::GenerationAdded {
                vm: id.clone(),
                generation: number,
            },
        );
        DeployedVm {
            vm: id,
            generation: number,
            change,
        }
    }

    /// Forgets the specs that no kept generation refers to.
    pub(super) fn drop_unused_specs(&mut self) {
        let generations = self.vms.values().flat_map(|vm| vm.generations.values());
        let used: BTreeSet<Sha256Hash> = generations.map(|generation| generation.spec).collect();
        self.specs.retain(|digest, _| used.contains(digest));
    }
}

fn spec_digest(definition: &VmDefinition) -> Result<Sha256Hash, Rejection> {
    definition.spec.digest().map_err(|_| Rejection::SpecEncoding {
        vm: definition.vm.clone(),
    })
}

fn new_vm(deploy: &Deploy) -> Vm {
    Vm {
        source: deploy.source.clone(),
        desired: Desired::Running,
        deletion: Deletion::Keep,
        generations: std::collections::BTreeMap::new(),
        target: GenerationNumber(0),
        run: Run::Unplaced { why: Unplaced::New },
        last_epoch: Epoch(0),
        last_host: None,
        failures: 0,
    }
}
