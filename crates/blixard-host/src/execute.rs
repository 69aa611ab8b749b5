//! The effects: one function for each action of the plan, run beside the agent.

use std::collections::BTreeSet;
use std::time::Duration;

use blixard_core::assignment::RunIntent;
use blixard_core::ports::UnixMillis;
use blixard_core::ports::nix::{RootName, Sharing};
use blixard_core::ports::units::{Asked, GracefulStop, UnitError};
use blixard_core::reconcile::{Ended, Exit, StopCause};
use blixard_core::roots::{build_of, generation_root};
use blixard_core::unit::{UnitLease, run_unit, taps};
use blixard_core::volume::images;
use blixard_types::holder::LeaseName;
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, StorePath, VmId, VolumeName, chain};

use crate::{Host, home, last_words, over};

/// Pause before a stop that did not work is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What an action came to.
#[derive(Debug)]
pub(crate) enum Done {
    /// The unit runs, or is about to end with the lease that it was started under.
    Started { vm: VmId, epoch: Epoch, generation: GenerationNumber, under: Option<LeaseName> },
    /// The closure is not in the store; nothing was started.
    Lacking { vm: VmId, epoch: Epoch, generation: GenerationNumber },
    /// The closure is in the store, and rooted.
    Fetched { vm: VmId },
    /// The closure of the generation that is to run next is there or not, or could not be had.
    Prepared { vm: VmId, outcome: Result<Rooted, String> },
    /// The run has ended, or never began, and no process of it is left.
    Ended { vm: VmId, ended: Ended },
    /// No process is left, as was asked.
    Stopped { vm: VmId },
    /// It did not work and may have left something: look, and plan anew.
    Unknown { vm: VmId },
    /// Checks: all passed, or why one did not.
    Probed { vm: VmId, outcome: Result<(), String> },
    /// Its files are removed.
    Discarded { vm: VmId, epoch: Epoch },
    /// One of its volumes is removed.
    VolumeDeleted { vm: VmId, volume: VolumeName, life: Epoch },
    /// Roots were dropped, and the directory if it was to go.
    Cleaned { vm: VmId, dropped: Vec<GenerationNumber>, home: bool },
}

/// Roots and starts one generation, under this lease.
pub(crate) async fn start(
    host: Host,
    vm: VmId,
    epoch: Epoch,
    run: RunIntent,
    lease: Option<UnitLease>,
) -> Done {
    let (generation, since) = (run.generation, host.clock.wall());
    match over::is_over(host.files(), &vm, epoch).await {
        Ok(false) => {}
        Ok(true) => {
            // A daemon before this one has ended it, and may have said so.
            return stop(host, vm, StopCause::Ended(Ended::before(epoch)), since).await;
        }
        Err(error) => {
            tracing::warn!(%vm, %epoch, error = chain(&error), "cannot tell whether the epoch is over, trying again");
            tokio::time::sleep(RETRY_AFTER).await;
            return Done::Unknown { vm };
        }
    }
    let failure = match try_start(&host, &vm, epoch, &run, lease.as_ref()).await {
        Ok(Rooted::Yes) => {
            let under = lease.map(|lease| lease.name);
            return Done::Started { vm, epoch, generation, under };
        }
        Ok(Rooted::NotThere) => return Done::Lacking { vm, epoch, generation },
        Err(failure) => failure,
    };
    let Failure { exit, reason } = failure;
    tracing::warn!(%vm, %epoch, %generation, reason, "could not start");
    // Whatever is left of the attempt goes before anyone is told that nothing runs. If that cannot be
    // made sure of, the outcome is unknown, and what is then seen decides.
    match end_epoch(&host, &vm, epoch).await {
        Ok(()) => {
            end_volumes(&host, &vm).await;
            let reason = last_words::added_to(reason, &host, &vm, since).await;
            Done::Ended { vm, ended: Ended { epoch, generation, exit, reason } }
        }
        Err(error) => {
            tracing::warn!(%vm, error, "could not clean up after a failed start");
            Done::Unknown { vm }
        }
    }
}

/// A placement is over: what is ephemeral goes. What cannot go now does at the next start, or the next end.
async fn end_volumes(host: &Host, vm: &VmId) {
    if let Err(error) = host.volumes.end(vm.clone()).await {
        tracing::warn!(%vm, error = chain(&error), "an ephemeral volume stays");
    }
}

/// Ends an epoch: nothing starts at it any more, and nothing of it is left. What cannot be marked is stopped all
/// the same, and not called ended.
async fn end_epoch(host: &Host, vm: &VmId, epoch: Epoch) -> Result<(), String> {
    let marked = over::end(host.files(), vm, epoch).await;
    end(host, vm).await?;
    marked.map_err(|error| {
        let (folder, error) = (&host.layout.epochs_dir, chain(&error));
        format!("cannot write that epoch {epoch} is over, below {folder}: {error}")
    })
}

/// Stops the unit of a vm until no process is left, and then takes its interfaces away.
async fn end(host: &Host, vm: &VmId) -> Result<(), String> {
    host.units.stop(RunUnitName::of(vm)).await.map_err(|error| chain(&error))?;
    host.networks.remove(vm.clone()).await.map_err(|error| chain(&error))
}

/// Why a start has not worked.
struct Failure {
    /// Whose it is.
    exit: Exit,
    reason: String,
}

impl Failure {
    /// Nothing of the vm has been tried yet.
    fn of_host(error: &(dyn std::error::Error + 'static)) -> Self {
        Self { exit: Exit::Hindered, reason: chain(error) }
    }
}

impl From<UnitError> for Failure {
    fn from(error: UnitError) -> Self {
        // A job that ended without success has run something of the vm's.
        let exit = if matches!(error, UnitError::Job { .. }) { Exit::Failed } else { Exit::Hindered };
        Self { exit, reason: chain(&error) }
    }
}

async fn try_start(
    host: &Host,
    vm: &VmId,
    epoch: Epoch,
    run: &RunIntent,
    lease: Option<&UnitLease>,
) -> Result<Rooted, Failure> {
    let kept = keep(host, vm, run).await;
    if kept.map_err(|reason| Failure { exit: Exit::Hindered, reason })? == Rooted::NotThere {
        return Ok(Rooted::NotThere);
    }
    let taps = taps(&run.spec, host.layout.bridge.as_deref());
    host.networks.prepare(vm.clone(), taps).await.map_err(|error| Failure::of_host(&error))?;
    let images = images(epoch, run, &host.layout).map_err(|error| Failure::of_host(&error))?;
    let prepared = host.volumes.prepare(vm.clone(), run.spec.account.clone(), images).await;
    prepared.map_err(|error| Failure::of_host(&error))?;
    let unit = run_unit(vm, epoch, run, &host.layout, lease);
    host.units.start(unit).await?;
    tracing::info!(%vm, %epoch, generation = %run.generation, "started");
    Ok(Rooted::Yes)
}

/// Whether a closure could be rooted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rooted {
    /// It is in the store for as long as the root is there.
    Yes,
    /// It is not in the store.
    NotThere,
}

/// Makes the root of a generation, whose path is then in the store for as long as the root is there.
pub(crate) async fn keep(host: &Host, vm: &VmId, run: &RunIntent) -> Result<Rooted, String> {
    let (root, path) = (generation_root(vm, run.generation), &run.closure.root);
    // It was kept before this daemon, or before a stop: with hundreds of vms a look at all roots for each is long.
    let own = host.store.share_root(root.clone(), path.clone(), root.clone()).await;
    if own.map_err(|error| chain(&error))? == Sharing::Shared {
        return Ok(Rooted::Yes);
    }
    for holder in holders(host, vm, path).await? {
        let shared = host.store.share_root(root.clone(), path.clone(), holder).await;
        if shared.map_err(|error| chain(&error))? == Sharing::Shared {
            return Ok(Rooted::Yes);
        }
    }
    // Asked first, because it is the one failure that can be mended.
    let missing = host.store.missing(vec![path.clone()]).await.map_err(|error| chain(&error))?;
    if !missing.is_empty() {
        return Ok(Rooted::NotThere);
    }
    host.store.add_root(root, path.clone()).await.map_err(|error| chain(&error))?;
    Ok(Rooted::Yes)
}

/// The builder's roots of this path for this vm, if it was built here. They were made before the
/// generation was proposed, and stay for as long as it is kept.
async fn holders(host: &Host, vm: &VmId, path: &StorePath) -> Result<Vec<RootName>, String> {
    let roots = host.store.roots().await.map_err(|error| chain(&error))?;
    let holds = |(root, target): (RootName, StorePath)| {
        let own = target == *path && build_of(&root).is_some_and(|(_, of)| of == *vm);
        own.then_some(root)
    };
    Ok(roots.into_iter().filter_map(holds).collect())
}

/// Asks a guest to shut down, gives it its time, and stops its unit. Should the daemon end meanwhile, the
/// asking goes on in its own unit, and the next daemon begins here again.
pub(crate) async fn shutdown(
    host: Host,
    vm: VmId,
    ask: GracefulStop,
    cause: StopCause,
    since: UnixMillis,
) -> Done {
    tracing::info!(%vm, limit_ms = ask.timeout_ms, cause = describe(&cause), "asking the guest to shut down");
    match host.units.shutdown(ask).await {
        Ok(Asked::Ended) => tracing::info!(%vm, "the guest has shut down"),
        Ok(Asked::Runs { reason }) => tracing::warn!(%vm, reason, "the guest is killed"),
        Err(error) => tracing::warn!(%vm, error = chain(&error), "the guest cannot be asked and is killed"),
    }
    stop(host, vm, cause, since).await
}

/// Stops a vm, which has run since then, until no process and no interface of it is left.
pub(crate) async fn stop(host: Host, vm: VmId, cause: StopCause, since: UnixMillis) -> Done {
    let gone = match &cause {
        StopCause::Ended(ended) => end_epoch(&host, &vm, ended.epoch).await,
        StopCause::Orphan | StopCause::Withdrawn | StopCause::Replaced => end(&host, &vm).await,
    };
    if let Err(error) = gone {
        tracing::warn!(%vm, error, "could not stop, trying again");
        tokio::time::sleep(RETRY_AFTER).await;
        return Done::Unknown { vm };
    }
    tracing::info!(%vm, cause = describe(&cause), "stopped");
    if cause != StopCause::Replaced {
        end_volumes(&host, &vm).await;
    }
    match cause {
        StopCause::Ended(ended) if ended.was_told() || ended.exit == Exit::Succeeded => {
            Done::Ended { vm, ended }
        }
        StopCause::Ended(mut ended) => {
            ended.reason = last_words::added_to(ended.reason, &host, &vm, since).await;
            Done::Ended { vm, ended }
        }
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

/// Removes the files of a vm that goes away.
pub(crate) async fn discard(host: Host, vm: VmId, epoch: Epoch) -> Done {
    if let Err(error) = host.networks.remove(vm.clone()).await {
        tracing::warn!(%vm, error = chain(&error), "the interfaces of a vm that goes away stay");
    }
    let removed = match home::remove(host.files(), &vm).await {
        Ok(()) => host.volumes.forget(vm.clone()).await.map_err(|error| chain(&error)),
        Err(error) => Err(chain(&error)),
    };
    match removed {
        Ok(()) => Done::Discarded { vm, epoch },
        Err(error) => {
            tracing::warn!(%vm, error, "the files of a vm that goes away stay, trying again");
            tokio::time::sleep(RETRY_AFTER).await;
            Done::Unknown { vm }
        }
    }
}

/// Removes a volume of a vm.
pub(crate) async fn delete_volume(host: Host, vm: VmId, volume: VolumeName, life: Epoch) -> Done {
    match host.volumes.delete(vm.clone(), volume.clone(), life).await {
        Ok(()) => Done::VolumeDeleted { vm, volume, life },
        Err(error) => {
            tracing::warn!(%vm, %volume, error = chain(&error), "a volume stays, trying again");
            tokio::time::sleep(RETRY_AFTER).await;
            Done::Unknown { vm }
        }
    }
}

/// Drops roots, one that cannot be dropped is tried again later; and of a vm that is gone what a daemon
/// before this one may have left: its interfaces, and its directory unless its guest has left files there.
pub(crate) async fn clean(host: Host, vm: VmId, litter: Litter) -> Done {
    if litter.home {
        if let Err(error) = host.networks.remove(vm.clone()).await {
            tracing::warn!(%vm, error = chain(&error), "the interfaces of a vm that is gone stay");
        }
        end_volumes(&host, &vm).await;
        home::remove_empty(host.files(), &vm).await;
    }
    let Litter { generations, home } = litter;
    let mut dropped = Vec::new();
    for generation in generations {
        match host.store.remove_root(generation_root(&vm, generation)).await {
            Ok(()) => dropped.push(generation),
            Err(error) => tracing::warn!(%vm, %generation, error = chain(&error), "a root stays"),
        }
    }
    Done::Cleaned { vm, dropped, home }
}

/// What a vm leaves behind on its host.
#[derive(Debug, Default)]
pub(crate) struct Litter {
    /// Generations that nothing needs.
    pub(crate) generations: BTreeSet<GenerationNumber>,
    /// Whether its directory goes, too.
    pub(crate) home: bool,
}
