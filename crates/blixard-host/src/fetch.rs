//! A closure that is not here: fetched from the nodes that have it, and rooted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blixard_core::assignment::RunIntent;
use blixard_core::ports::closure::FetchProgress;
use blixard_core::reconcile::Ended;
use blixard_types::{Epoch, VmId, chain};

use crate::Host;
use crate::execute::{Done, Rooted, keep};

/// Fetches what the store lacks of a generation's closure. Nothing runs meanwhile, and nothing has to
/// be cleaned up when this is given up.
pub(crate) async fn fetch(host: Host, vm: VmId, epoch: Epoch, run: RunIntent) -> Done {
    let generation = run.generation;
    match try_fetch(&host, &vm, &run).await {
        Ok(()) => Done::Fetched { vm },
        Err(reason) => {
            tracing::warn!(%vm, %epoch, %generation, reason, "could not fetch");
            let reason = format!("fetching {}: {reason}", run.closure.root);
            Done::Ended { vm, ended: Ended::hindered(epoch, generation, reason) }
        }
    }
}

/// Roots the closure of the generation that is to run next, and fetches it before where that is asked for. Nothing of
/// what runs is touched.
pub(crate) async fn prepare(host: Host, vm: VmId, run: RunIntent, fetches: bool) -> Done {
    let outcome = match keep(&host, &vm, &run).await {
        Ok(Rooted::NotThere) if fetches => try_fetch(&host, &vm, &run).await.map(|()| Rooted::Yes),
        rooted => rooted,
    };
    let (generation, root) = (run.generation, &run.closure.root);
    if let Ok(Rooted::Yes) = outcome {
        tracing::info!(%vm, %generation, %root, "the next generation is ready");
    }
    let outcome = outcome.map_err(|reason| {
        tracing::warn!(%vm, %generation, reason, "cannot make the next generation ready, trying again");
        format!("{root} cannot be had: {reason}")
    });
    Done::Prepared { vm, outcome }
}

async fn try_fetch(host: &Host, vm: &VmId, run: &RunIntent) -> Result<(), String> {
    let fetched = host.closures.fetch(run.closure.clone(), run.sources.clone(), progress(vm)).await;
    let held = fetched.map_err(|error| chain(&error))?;
    let rooted = keep(host, vm, run).await?;
    drop(held);
    match rooted {
        Rooted::Yes => {
            tracing::info!(%vm, generation = %run.generation, root = %run.closure.root, "fetched");
            Ok(())
        }
        Rooted::NotThere => Err("it was fetched and is not in the store".to_owned()),
    }
}

/// Says each tenth of the way.
fn progress(vm: &VmId) -> FetchProgress {
    let (vm, told) = (vm.clone(), AtomicU64::new(0));
    Arc::new(move |progress| {
        let (bytes, of) = progress.bytes;
        let tenth = bytes * 10 / of.max(1);
        if told.fetch_max(tenth + 1, Ordering::Relaxed) <= tenth {
            tracing::info!(%vm, %progress, "fetching");
        }
    })
}
