//! Claims: what a runner fixes at evaluation and only one vm of the cluster can have.
//!
//! They are unique in the cluster and not only on a host, so that any vm can be placed on any host. A vm has
//! the claims of the generation it should run, and for as long as a run has not ended also of the one that runs.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::Claim;
use blixard_types::{Spec, VmId};

use super::Rejection;
use crate::state::{ClusterState, Deletion, Vm};

impl ClusterState {
    /// What vms of these specs claim must belong to no vm that keeps it.
    pub(super) fn check_claims(&self, defined: &BTreeMap<&VmId, &Spec>) -> Result<(), Rejection> {
        let mut owners: BTreeMap<Claim, &VmId> = BTreeMap::new();
        for (id, vm) in &self.vms {
            let target = if defined.contains_key(id) { None } else { self.wanted_spec(vm) };
            let specs = target.into_iter().chain(self.running_spec(vm));
            owners.extend(specs.flat_map(Spec::claims).map(|claim| (claim, id)));
        }
        for (&id, spec) in defined {
            let claims: BTreeSet<Claim> = spec.claims();
            if let Some((claim, owner)) = claims.iter().find_map(|claim| {
                let owner = *owners.get(claim).filter(|owner| **owner != id)?;
                Some((claim, owner))
            }) {
                let (vm, claim, owner) = (id.clone(), claim.to_string(), owner.clone());
                return Err(Rejection::Claimed { vm, claim, owner });
            }
            owners.extend(claims.into_iter().map(|claim| (claim, id)));
        }
        Ok(())
    }

    fn wanted_spec(&self, vm: &Vm) -> Option<&Spec> {
        self.target_spec(vm).filter(|_| vm.deletion == Deletion::Keep)
    }

    /// The spec of the run that has not ended. Before a host has spoken of its placement, nothing runs but
    /// what is wanted.
    fn running_spec(&self, vm: &Vm) -> Option<&Spec> {
        vm.run.host()?;
        match vm.run.generation() {
            Some(generation) => self.specs.get(&vm.generations.get(&generation)?.spec),
            None => self.target_spec(vm),
        }
    }
}

#[cfg(test)]
mod tests;
