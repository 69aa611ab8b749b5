//! From a locked flake to vms that can be proposed: evaluated, admitted, built, listed, rooted.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use blixard_core::admission::{AdmissionError, AdmittedVm, admit};
use blixard_core::command::RememberEvaluation;
use blixard_core::ports::nix::{NixProgress, ProgressSink};
use blixard_core::state::EvaluationKey;
use blixard_proto::hint::with_hint;
use blixard_proto::v1::deploy_event::{self, Building, Evaluating, Event};
use blixard_types::{DeploymentId, StorePath};
use tonic::Status;

use super::define::{Defined, define};
use super::recall::{self, Recalled, recall};
use super::{DeployOrder, Events, sink, size, tell};
use crate::{Builder, Server, status};

/// Vms that can be proposed, and what is worth remembering of how they came to be.
pub(super) struct Prepared {
    pub(super) defined: Defined,
    pub(super) memory: Option<RememberEvaluation>,
}

pub(super) async fn prepare(
    server: &Server,
    deployment: DeploymentId,
    order: &DeployOrder,
    events: &Events,
) -> Result<Prepared, Status> {
    let builder = builder(server)?;
    let (Recalled { vms, missing }, memory) = admitted(server, builder, order, events).await?;
    build(builder, &vms, &missing, events).await?;
    let defined = define(server, builder, deployment, vms, &missing).await?;
    Ok(Prepared { defined, memory })
}

pub(crate) fn builder(server: &Server) -> Result<&Builder, Status> {
    server.builder.as_ref().ok_or_else(|| {
        with_hint(Status::failed_precondition("this node is no builder"), "ask a node with the role builder")
    })
}

/// The vms that are asked for, recalled or evaluated, if the log will take them; nothing is built.
pub(super) async fn admitted(
    server: &Server,
    builder: &Builder,
    order: &DeployOrder,
    events: &Events,
) -> Result<(Recalled, Option<RememberEvaluation>), Status> {
    let key = recall::key(builder, order);
    let found = match recall(server, builder, key).await.map_err(|error| status::nix_command(&error))? {
        Some(recalled) => {
            tell(events, Event::Recalled(deploy_event::Recalled {})).await;
            (recalled, None)
        }
        None => evaluate(builder, order, key, events).await?,
    };
    size::check(order, &found.0.vms)?;
    Ok(found)
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
        None => Err(absent("source", path)),
    }
}

async fn check_lock(builder: &Builder, order: &DeployOrder) -> Result<(), Status> {
    let lock = order.source.lock.iter().cloned().collect();
    let missing = builder.store.missing(lock).await.map_err(|error| status::nix_command(&error))?;
    match missing.first() {
        None => Ok(()),
        Some(lock) => Err(absent("lock file", lock)),
    }
}

fn absent(what: &str, path: &StorePath) -> Status {
    let text = format!("the {what} {path} is not in the builder's store");
    with_hint(Status::failed_precondition(text), "run it again: `blixard deploy` uploads what is missing")
}

async fn evaluate(
    builder: &Builder,
    order: &DeployOrder,
    key: EvaluationKey,
    events: &Events,
) -> Result<(Recalled, Option<RememberEvaluation>), Status> {
    check_source(builder, order).await?;
    check_lock(builder, order).await?;
    tell(events, Event::Evaluating(Evaluating {})).await;
    let (source, selection) = (order.source.clone(), order.selection.clone());
    // With inputs that are locked nowhere, the next evaluation may give something else.
    let unlocked = Arc::new(AtomicBool::new(false));
    let (heard, passed_on) = (Arc::clone(&unlocked), sink(events));
    let listening: ProgressSink = Arc::new(move |progress| {
        if matches!(progress, NixProgress::Unlocked { .. }) {
            heard.store(true, Ordering::Relaxed);
        }
        passed_on(progress);
    });
    let evaluated = builder.evaluator.evaluate(source, selection, listening).await;
    let evaluated = evaluated.map_err(|error| status::evaluate(&error))?;
    if evaluated.is_empty() {
        let hint = "a flake for Blixard has outputs `microvms.<name>`; the README shows a first one";
        return Err(with_hint(Status::invalid_argument("the flake's `microvms` is empty"), hint));
    }
    let attributes = evaluated.iter().map(|vm| vm.attribute.clone()).collect();
    let vms = admit(evaluated).map_err(|problems| refused(&problems))?;
    let locked = !unlocked.load(Ordering::Relaxed);
    let memory = if locked { recall::memory(key, attributes, &vms) } else { None };
    let outs = vms.iter().map(|vm| vm.out.clone()).collect();
    let missing = builder.store.missing(outs).await.map_err(|error| status::nix_command(&error))?;
    Ok((Recalled { vms, missing: missing.into_iter().collect() }, memory))
}

fn refused(problems: &[AdmissionError]) -> Status {
    let lines: Vec<String> = problems.iter().map(ToString::to_string).collect();
    let hint = "docs/spec-v1.schema.json describes every key of `blixard`";
    with_hint(Status::invalid_argument(lines.join("\n")), hint)
}

async fn build(
    builder: &Builder,
    vms: &[AdmittedVm],
    missing: &BTreeSet<StorePath>,
    events: &Events,
) -> Result<(), Status> {
    if missing.is_empty() {
        return Ok(());
    }
    tell(events, Event::Building(Building { done: 0, expected: missing.len() as u64 })).await;
    let drvs = vms.iter().filter(|vm| missing.contains(&vm.out)).map(|vm| vm.drv.clone()).collect();
    builder.store.build(drvs, sink(events)).await.map_err(|error| status::build(&error))
}
