//! What was evaluated before is not evaluated again.
//!
//! ```text
//! in the state? ──▶ admitted anew? ──▶ runners in the store, or their derivations? ──▶ recalled
//!       └── no ────────────┴── no ─────────────────────┴── no ──────────────────────▶ evaluate
//! ```
//! Owns: when a remembered evaluation will do, and what of a new one is remembered. Refuses to know: how
//! much is kept; the state decides that.

use std::collections::BTreeSet;

use blixard_core::admission::{AdmittedVm, admit};
use blixard_core::command::{COMMAND_MAX_BYTES, Command, RememberEvaluation};
use blixard_core::ports::nix::{EvaluatedVm, FlakeOutput, NixCommandError};
use blixard_core::state::{ClusterState, EvaluationKey, RememberedVm};
use blixard_types::StorePath;
use serde_json::Value;

use super::DeployOrder;
use crate::{Builder, ProposeFailure, Server};

/// A remembered evaluation that will do.
pub(super) struct Recalled {
    pub(super) vms: Vec<AdmittedVm>,
    /// Runners that have to be built; their derivations are there.
    pub(super) missing: BTreeSet<StorePath>,
}

/// What the order's evaluation depends on.
pub(super) fn key(builder: &Builder, order: &DeployOrder) -> EvaluationKey {
    EvaluationKey::of(&order.source, &order.selection, builder.evaluator.fingerprint())
}

/// What the state remembers of this evaluation, if that can be used on this builder.
pub(super) async fn recall(
    server: &Server,
    builder: &Builder,
    key: EvaluationKey,
) -> Result<Option<Recalled>, NixCommandError> {
    // Through the same door as everything else: what was admitted once need not be so for ever.
    let found = server.replica.read(|state| remembered(state, key));
    let Some(Ok(vms)) = found.map(admit) else { return Ok(None) };
    let outs = vms.iter().map(|vm| vm.out.clone()).collect();
    let missing: BTreeSet<StorePath> = builder.store.missing(outs).await?.into_iter().collect();
    let of_missing = vms.iter().filter(|vm| missing.contains(&vm.out));
    let drvs: Vec<StorePath> = of_missing.map(|vm| vm.drv.clone()).collect();
    let buildable = drvs.is_empty() || builder.store.missing(drvs).await?.is_empty();
    Ok(buildable.then_some(Recalled { vms, missing }))
}

fn remembered(state: &ClusterState, key: EvaluationKey) -> Option<Vec<EvaluatedVm>> {
    let vm = |vm: &RememberedVm| {
        let spec: Value = serde_json::to_value(state.specs.get(&vm.spec)?).ok()?;
        let RememberedVm { attribute, drv, out, system, .. } = vm.clone();
        // Only problems are told by their output, and what has one is not recalled.
        Some(EvaluatedVm { output: FlakeOutput::Microvms, attribute, drv, out, system, spec })
    };
    let vms = state.evaluations.get(key)?.vms.iter().map(vm).collect::<Option<Vec<_>>>()?;
    (!vms.is_empty()).then_some(vms)
}

/// What is remembered of an evaluation: what it gave, with the digests of the specs that were admitted.
pub(super) fn memory(
    key: EvaluationKey,
    attributes: Vec<String>,
    admitted: &[AdmittedVm],
) -> Option<RememberEvaluation> {
    let vm = |(attribute, vm): (String, &AdmittedVm)| {
        let (drv, out, system) = (vm.drv.clone(), vm.out.clone(), vm.system.clone());
        Some(RememberedVm { attribute, drv, out, system, spec: vm.spec.digest().ok()? })
    };
    let vms = attributes.into_iter().zip(admitted).map(vm).collect::<Option<_>>()?;
    Some(RememberEvaluation { key, vms })
}

/// Remembers an evaluation. Without it the next deployment only evaluates again, so no failure here is
/// one of the deployment.
pub(super) async fn remember(server: &Server, evaluation: RememberEvaluation) {
    use blixard_core::ports::consensus::ProposeError::TooLarge;
    let vms = evaluation.vms.len();
    let proposer = server.proposer();
    let proposed = proposer.propose(proposer.fresh_request(), Command::RememberEvaluation(evaluation)).await;
    match proposed {
        Ok(_) => {}
        Err(ProposeFailure::Log(TooLarge { size, .. })) => tracing::info!(
            vms,
            size,
            limit = COMMAND_MAX_BYTES,
            "the evaluation is too large to be remembered: it is made again each time"
        ),
        Err(failure) => tracing::warn!(%failure, "the evaluation is not remembered"),
    }
}
