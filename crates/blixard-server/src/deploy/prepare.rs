//! From a locked flake to vms that can be proposed: evaluated, admitted, built, listed, rooted.

use blixard_core::admission::{AdmissionError, AdmittedVm, admit};
use blixard_core::command::VmDefinition;
use blixard_core::unit::RUN_PROGRAM;
use blixard_proto::hint::with_hint;
use blixard_proto::v1::deploy_event::{Building, Evaluating, Event};
use blixard_types::DeploymentId;
use tonic::Status;

use super::{DeployOrder, Events, sink, tell};
use crate::roots::build_root;
use crate::{Builder, Server, status};

pub(super) async fn prepare(
    server: &Server,
    deployment: DeploymentId,
    order: &DeployOrder,
    events: &Events,
) -> Result<Vec<VmDefinition>, Status> {
    let builder = server.builder.as_ref().ok_or_else(|| {
        with_hint(Status::failed_precondition("this node is no builder"), "ask a node with the role builder")
    })?;
    check_source(builder, order).await?;
    let vms = evaluate(builder, order, events).await?;
    build(builder, &vms, events).await?;
    let mut definitions = Vec::with_capacity(vms.len());
    for vm in vms {
        definitions.push(define(builder, deployment, vm).await?);
    }
    Ok(definitions)
}

/// The source must be in the store as the caller has locked it: what is evaluated is that and nothing
/// else.
async fn check_source(builder: &Builder, order: &DeployOrder) -> Result<(), Status> {
    let path = &order.source.path;
    let found = builder.store.nar_hash(path.clone()).await.map_err(|error| status::nix_command(&error))?;
    match found {
        Some(hash) if hash == order.source.nar_hash => Ok(()),
        Some(hash) => {
            let wanted = order.source.nar_hash;
            let text = format!("the source {path} has the hash {hash} here, it was locked with {wanted}");
            Err(Status::failed_precondition(text))
        }
        None => {
            let text = format!("the source {path} is not in the builder's store");
            Err(with_hint(Status::failed_precondition(text), "run `blixard deploy` on the builder itself"))
        }
    }
}

async fn evaluate(
    builder: &Builder,
    order: &DeployOrder,
    events: &Events,
) -> Result<Vec<AdmittedVm>, Status> {
    tell(events, Event::Evaluating(Evaluating {})).await;
    let (source, selection) = (order.source.clone(), order.selection.clone());
    let evaluated = builder.evaluator.evaluate(source, selection, sink(events)).await;
    let evaluated = evaluated.map_err(|error| status::evaluate(&error))?;
    if evaluated.is_empty() {
        let hint = "a flake for Blixard has outputs `microvms.<name>`; the README shows a first one";
        return Err(with_hint(Status::invalid_argument("the flake's `microvms` is empty"), hint));
    }
    admit(evaluated).map_err(|problems| refused(&problems))
}

fn refused(problems: &[AdmissionError]) -> Status {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let hint = "docs/spec-v1.schema.json describes every key of `blixard`";
    with_hint(Status::invalid_argument(lines.join("\n")), hint)
}

async fn build(builder: &Builder, vms: &[AdmittedVm], events: &Events) -> Result<(), Status> {
    let outs = vms.iter().map(|vm| vm.out.clone()).collect();
    let missing = builder.store.missing(outs).await.map_err(|error| status::nix_command(&error))?;
    if missing.is_empty() {
        return Ok(());
    }
    tell(events, Event::Building(Building { done: 0, expected: missing.len() as u64 })).await;
    let drvs = vms.iter().filter(|vm| missing.contains(&vm.out)).map(|vm| vm.drv.clone()).collect();
    builder.store.build(drvs, sink(events)).await.map_err(|error| status::build(&error))
}

/// Roots what was built, and pins it by content.
async fn define(builder: &Builder, deployment: DeploymentId, vm: AdmittedVm) -> Result<VmDefinition, Status> {
    let AdmittedVm { vm, drv, out, system, spec } = vm;
    let root = build_root(deployment, &vm);
    builder.store.add_root(root, out.clone()).await.map_err(|error| status::root(&error))?;
    if !builder.store.has_file(out.clone(), RUN_PROGRAM).await {
        let text = format!("vm {vm}: {out} has no {RUN_PROGRAM}");
        let hint = "a runner is a derivation whose output holds bin/microvm-run, as microvm.nix makes it";
        return Err(with_hint(Status::invalid_argument(text), hint));
    }
    let manifest = builder.store.closure(out).await.map_err(|error| status::closure(&error))?;
    let closure = manifest.closure_ref().map_err(|error| Status::internal(status::chain(&error)))?;
    Ok(VmDefinition { vm, drv, system, closure, spec })
}
