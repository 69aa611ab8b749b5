//! The effects: one function for each action of the plan, run beside the agent.

use std::collections::BTreeSet;
use std::error::Error;
use std::fmt::Write as _;
use std::time::Duration;

use blixard_core::assignment::RunIntent;
use blixard_core::ports::nix::RootName;
use blixard_core::reconcile::{Ended, StopCause};
use blixard_core::unit::run_unit;
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, VmId};

use crate::Host;

/// Pause before a stop that did not work is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// The folder of the host's roots, below Blixard's.
const ROOTS: &str = "vms";

/// What an action came to.
#[derive(Debug)]
pub(crate) enum Done {
    /// The unit runs.
    Started { vm: VmId, epoch: Epoch, generation: GenerationNumber },
    /// The run has ended, or never began, and no process of it is left.
    Ended { vm: VmId, ended: Ended },
    /// No process is left, as was asked.
    Stopped { vm: VmId },
    /// It did not work and may have left something: look, and plan anew.
    Unknown { vm: VmId },
    /// Checks: all passed, or why one did not.
    Probed { vm: VmId, outcome: Result<(), String> },
    /// Roots were dropped.
    Cleaned { vm: VmId, dropped: Vec<GenerationNumber> },
}

/// Fetches, roots and starts one generation.
pub(crate) async fn start(host: Host, vm: VmId, epoch: Epoch, run: RunIntent) -> Done {
    let generation = run.generation;
    let Err(reason) = try_start(&host, &vm, epoch, &run).await else {
        return Done::Started { vm, epoch, generation };
    };
    tracing::warn!(%vm, %epoch, %generation, reason, "could not start");
    // Whatever is left of the attempt goes before anyone is told that nothing runs. If that cannot be
    // made sure of, the outcome is unknown, and what is then seen decides.
    match host.units.stop(RunUnitName::of(&vm)).await {
        Ok(()) => Done::Ended { vm, ended: Ended { epoch, generation, reason } },
        Err(error) => {
            tracing::warn!(%vm, error = chain(&error), "could not clean up after a failed start");
            Done::Unknown { vm }
        }
    }
}

async fn try_start(host: &Host, vm: &VmId, epoch: Epoch, run: &RunIntent) -> Result<(), String> {
    let root = &run.closure.root;
    host.store.add_root(root_name(vm, run.generation), root.clone()).await.map_err(|error| chain(&error))?;
    let missing = host.store.missing(vec![root.clone()]).await.map_err(|error| chain(&error))?;
    if !missing.is_empty() {
        return Err(format!("{root} is not in this host's store"));
    }
    let unit = run_unit(vm, epoch, run, &host.layout);
    host.units.start(unit).await.map_err(|error| chain(&error))?;
    tracing::info!(%vm, %epoch, generation = %run.generation, "started");
    Ok(())
}

/// Stops a unit until no process is left.
pub(crate) async fn stop(host: Host, vm: VmId, cause: StopCause) -> Done {
    if let Err(error) = host.units.stop(RunUnitName::of(&vm)).await {
        tracing::warn!(%vm, error = chain(&error), "could not stop, trying again");
        tokio::time::sleep(RETRY_AFTER).await;
        return Done::Unknown { vm };
    }
    tracing::info!(%vm, cause = describe(&cause), "stopped");
    match cause {
        StopCause::Ended(ended) => Done::Ended { vm, ended },
        StopCause::Orphan | StopCause::Withdrawn | StopCause::Replaced => Done::Stopped { vm },
    }
}

fn describe(cause: &StopCause) -> &str {
    match cause {
        StopCause::Orphan => "nothing is assigned",
        StopCause::Withdrawn => "it should not run",
        StopCause::Replaced => "another generation or placement should run",
        StopCause::Ended(Ended { reason, .. }) => reason,
    }
}

/// Runs the checks of a vm, one after another.
pub(crate) async fn probe(host: Host, vm: VmId, run: RunIntent) -> Done {
    let mut outcome = Ok(());
    for check in run.spec.health.checks {
        if let Err(failure) = host.probe.check(check).await {
            outcome = Err(failure.to_string());
            break;
        }
    }
    Done::Probed { vm, outcome }
}

/// Drops roots; one that cannot be dropped is tried again later.
pub(crate) async fn clean(host: Host, vm: VmId, generations: BTreeSet<GenerationNumber>) -> Done {
    let mut dropped = Vec::new();
    for generation in generations {
        match host.store.remove_root(root_name(&vm, generation)).await {
            Ok(()) => dropped.push(generation),
            Err(error) => tracing::warn!(%vm, %generation, error = chain(&error), "a root stays"),
        }
    }
    Done::Cleaned { vm, dropped }
}

/// The root of a generation on its host.
fn root_name(vm: &VmId, generation: GenerationNumber) -> RootName {
    RootName(format!("{ROOTS}/{}/{}/{generation}", vm.tenant(), vm.name()))
}

/// The vm and generation of a root of ours.
pub(crate) fn rooted(root: &RootName) -> Option<(VmId, GenerationNumber)> {
    let (vm, generation) = root.0.strip_prefix(ROOTS)?.strip_prefix('/')?.rsplit_once('/')?;
    Some((vm.parse().ok()?, GenerationNumber(generation.parse().ok()?)))
}

pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_root_leads_back_to_its_vm_and_generation() {
        let vm: VmId = "tenant/web".parse().unwrap();
        let root = root_name(&vm, GenerationNumber(12));
        assert_eq!(root.0, "vms/tenant/web/12");
        assert_eq!(rooted(&root), Some((vm, GenerationNumber(12))));
        for other in ["builds/00/default/web", "vms/web", "vms/a/b/c/1", "vms/a/b/x", "vms"] {
            assert_eq!(rooted(&RootName(other.to_owned())), None, "{other}");
        }
    }
}
