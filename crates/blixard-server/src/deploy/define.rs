//! From runners in the store to definitions: rooted, and pinned by content.
//!
//! Owns: which of it is there already. Refuses to know: how vms were evaluated and built.
//!
//! A closure is listed once. Its reference is used again for as long as the builder's root that was made
//! before the listing is there: what is rooted cannot be collected, so it cannot have been built anew
//! with other bytes either. Without the root, or after a build, the closure is rooted and listed anew.

use std::collections::{BTreeMap, BTreeSet};

use blixard_core::admission::AdmittedVm;
use blixard_core::command::{DeployedVm, VmChange, VmDefinition};
use blixard_core::ports::nix::RootName;
use blixard_core::roots::build_root;
use blixard_core::state::ClusterState;
use blixard_core::unit::RUN_PROGRAM;
use blixard_proto::hint::with_hint;
use blixard_types::{ClosureRef, DeploymentId, Sha256Hash, StorePath, VmId};
use tonic::Status;

use crate::{Builder, Server, status};

/// Vms that can be proposed.
pub(super) struct Defined {
    pub(super) vms: Vec<VmDefinition>,
    roots: Roots,
}

/// What keeps the runners of a deployment here.
#[derive(Default)]
pub(super) struct Roots {
    /// Those that have no root of this deployment, because they are what the state has already.
    unrooted: Vec<(VmId, StorePath)>,
    /// Those that have one.
    rooted: Vec<(VmId, StorePath)>,
}

/// What the state has of a vm: its target generation.
struct Known {
    deployment: DeploymentId,
    closure: ClosureRef,
    spec: Sha256Hash,
}

pub(super) async fn define(
    server: &Server,
    builder: &Builder,
    deployment: DeploymentId,
    admitted: Vec<AdmittedVm>,
    built: &BTreeSet<StorePath>,
) -> Result<Defined, Status> {
    let known = server.replica.read(|state| known(state, &admitted));
    let roots = builder.store.roots().await.map_err(|error| status::root(&error))?;
    let roots: BTreeMap<RootName, StorePath> = roots.into_iter().collect();
    let kept = |vm: &AdmittedVm| {
        let known = known.get(&vm.vm)?;
        let rooted = roots.get(&build_root(known.deployment, &vm.vm)) == Some(&vm.out);
        let same = rooted && known.closure.root == vm.out && !built.contains(&vm.out);
        same.then_some(known)
    };
    let same_spec = |vm: &AdmittedVm, known: &Known| vm.spec.digest().is_ok_and(|own| own == known.spec);
    let (mut closures, mut roots_of, mut new) = (BTreeMap::new(), Roots::default(), Vec::new());
    for vm in &admitted {
        let found = kept(vm);
        if let Some(found) = found {
            closures.insert(vm.out.clone(), found.closure.clone());
        }
        if found.is_some_and(|found| same_spec(vm, found)) {
            roots_of.unrooted.push((vm.vm.clone(), vm.out.clone()));
        } else {
            roots_of.rooted.push((vm.vm.clone(), vm.out.clone()));
            new.push(vm);
        }
    }
    root(builder, roots_of.rooted.iter().map(|(vm, out)| (build_root(deployment, vm), out.clone()))).await?;
    check_runners(builder, &new).await?;
    let unlisted: BTreeSet<StorePath> = new.iter().map(|vm| vm.out.clone()).collect();
    let unlisted = unlisted.into_iter().filter(|out| !closures.contains_key(out)).collect();
    closures.extend(list(builder, unlisted).await?);
    let vms = admitted.into_iter().map(|vm| definition(&closures, vm)).collect::<Result<_, _>>()?;
    Ok(Defined { vms, roots: roots_of })
}

impl Defined {
    pub(super) fn into_parts(self) -> (Vec<VmDefinition>, Roots) {
        (self.vms, self.roots)
    }
}

impl Roots {
    /// Roots under this deployment what was taken for unchanged and has become a generation of its own all the same,
    /// because another deployment came in between: the root it was recognised by keeps the path until then. And under
    /// the deployment that the state names what is unchanged and had lost its root here.
    pub(super) async fn settle(
        self,
        server: &Server,
        deployment: DeploymentId,
        deployed: &[DeployedVm],
    ) -> Result<(), Status> {
        let Some(builder) = &server.builder else { return Ok(()) };
        let made = |vm: &VmId| deployed.iter().any(|one| one.vm == *vm && one.change != VmChange::Unchanged);
        let late = self.unrooted.into_iter().filter(|(vm, _)| made(vm));
        let late = late.map(|(vm, out)| (build_root(deployment, &vm), out));
        let lost = self.rooted.into_iter().filter(|(vm, _)| !made(vm));
        let lost: Vec<_> = server.replica.read(|state| {
            let of = |vm: &VmId| Some(state.vms.get(vm)?.target_generation()?.deployment);
            lost.filter_map(|(vm, out)| Some((build_root(of(&vm)?, &vm), out))).collect()
        });
        root(builder, late.chain(lost)).await
    }
}

fn known(state: &ClusterState, admitted: &[AdmittedVm]) -> BTreeMap<VmId, Known> {
    let of = |vm: &AdmittedVm| {
        let generation = state.vms.get(&vm.vm)?.target_generation()?;
        let (deployment, closure, spec) =
            (generation.deployment, generation.closure.clone(), generation.spec);
        Some((vm.vm.clone(), Known { deployment, closure, spec }))
    };
    admitted.iter().filter_map(of).collect()
}

async fn root(builder: &Builder, roots: impl Iterator<Item = (RootName, StorePath)>) -> Result<(), Status> {
    let roots: Vec<_> = roots.collect();
    if roots.is_empty() {
        return Ok(());
    }
    builder.store.add_roots(roots).await.map_err(|error| status::root(&error))
}

async fn check_runners(builder: &Builder, vms: &[&AdmittedVm]) -> Result<(), Status> {
    for AdmittedVm { vm, out, .. } in vms {
        if let Err(error) = builder.store.check_program(out.clone(), RUN_PROGRAM).await {
            let text = format!("vm {vm}: {out}/{RUN_PROGRAM} {error}");
            let hint = "a runner is a derivation whose output holds the program bin/microvm-run, as microvm.nix makes it";
            return Err(with_hint(Status::invalid_argument(text), hint));
        }
    }
    Ok(())
}

async fn list(builder: &Builder, outs: Vec<StorePath>) -> Result<Vec<(StorePath, ClosureRef)>, Status> {
    if outs.is_empty() {
        return Ok(Vec::new());
    }
    let manifests = builder.store.closures(outs).await.map_err(|error| status::closure(&error))?;
    let reference = |manifest: blixard_types::Manifest| {
        let reference =
            manifest.closure_ref().map_err(|error| Status::internal(blixard_types::chain(&error)))?;
        Ok((reference.root.clone(), reference))
    };
    manifests.into_iter().map(reference).collect()
}

fn definition(closures: &BTreeMap<StorePath, ClosureRef>, vm: AdmittedVm) -> Result<VmDefinition, Status> {
    let AdmittedVm { vm, drv, out, system, spec } = vm;
    let unlisted = || Status::internal(format!("vm {vm}: the closure of {out} was not listed"));
    let closure = closures.get(&out).cloned().ok_or_else(unlisted)?;
    Ok(VmDefinition { vm, drv, system, closure, spec })
}
