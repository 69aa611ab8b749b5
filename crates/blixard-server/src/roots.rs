//! The builder's garbage collector roots: what was built stays until no kept generation needs it.
//!
//! A root is made before the deployment is proposed, named after the deployment, so that at no moment
//! a reference is in the log whose paths could be collected.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::ports::consensus::{Consensus, SharedConsensus};
use blixard_core::ports::nix::{NixStore, RootName};
use blixard_core::roots::{build_of, upload_of};
use blixard_core::state::Vm;
use blixard_types::{DeploymentId, UploadId, VmId};
use tokio::sync::{Notify, oneshot};
use tokio::task::JoinSet;

use crate::{Replica, Server};

/// Pause before a majority that is not there is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A call that is repeated comes within this for the last time.
const REPEATED_WITHIN: Duration = Duration::from_secs(38);

/// What has roots here and is not in the state: deployments that are being built, and sources that callers
/// need.
#[derive(Debug, Clone, Default)]
pub struct BuildsInFlight(Arc<InFlight>);

#[derive(Debug, Default)]
struct InFlight {
    work: Mutex<Work>,
    /// Some of it has ended, well or not.
    ended: Notify,
    /// What goes on when its caller has gone away.
    tasks: Mutex<JoinSet<()>>,
}

#[derive(Debug, Clone, Default)]
struct Work {
    deployments: BTreeSet<DeploymentId>,
    uploads: BTreeSet<UploadId>,
}

impl Work {
    fn is_empty(&self) -> bool {
        self.deployments.is_empty() && self.uploads.is_empty()
    }
}

/// Keeps the roots of a deployment until it is dropped; after that the state must refer to them.
#[derive(Debug)]
pub struct BuildGuard {
    deployment: DeploymentId,
    builds: BuildsInFlight,
}

/// Keeps the roots of an upload until it is dropped.
#[derive(Debug)]
pub(crate) struct UploadGuard {
    upload: UploadId,
    builds: BuildsInFlight,
}

impl BuildsInFlight {
    pub(crate) fn begin(&self, deployment: DeploymentId) -> BuildGuard {
        self.work().deployments.insert(deployment);
        BuildGuard { deployment, builds: self.clone() }
    }

    pub(crate) fn begin_upload(&self, upload: UploadId) -> UploadGuard {
        self.work().uploads.insert(upload);
        UploadGuard { upload, builds: self.clone() }
    }

    /// Sees something to its end, also when nobody waits for that any more.
    pub(crate) fn see_through<T: Send + 'static>(
        &self,
        work: impl Future<Output = T> + Send + 'static,
    ) -> oneshot::Receiver<T> {
        let (sender, outcome) = oneshot::channel();
        let mut tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(ended) = tasks.try_join_next() {
            if let Err(error) = ended {
                tracing::error!(%error, "a task of a deployment panicked");
            }
        }
        tasks.spawn(async move {
            // Whoever asked may have gone away.
            let _ = sender.send(work.await);
        });
        outcome
    }

    fn work(&self) -> MutexGuard<'_, Work> {
        self.0.work.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl BuildGuard {
    /// Keeps the roots of a deployment that may be in the log, or on its way there, until it is in the state or
    /// will never be: what was under way when a majority was reached again has arrived a while later.
    pub(crate) fn linger(self, log: SharedConsensus) {
        let builds = self.builds.clone();
        drop(builds.see_through(async move {
            has_caught_up(log.as_ref()).await;
            tokio::time::sleep(REPEATED_WITHIN).await;
            has_caught_up(log.as_ref()).await;
            drop(self);
        }));
    }
}

/// Waits until this server has applied what the cluster had when it was asked.
async fn has_caught_up(log: &dyn Consensus) {
    while log.linearize().await.is_err() {
        tokio::time::sleep(ASK_AGAIN).await;
    }
}

impl Drop for BuildGuard {
    fn drop(&mut self) {
        self.builds.work().deployments.remove(&self.deployment);
        self.builds.0.ended.notify_one();
    }
}

impl Drop for UploadGuard {
    fn drop(&mut self) {
        self.builds.work().uploads.remove(&self.upload);
        self.builds.0.ended.notify_one();
    }
}

/// Removes the roots that nothing needs any more, whenever the state or the end of a deployment, which
/// may have been refused, may have made some so.
pub async fn run(server: Server, builds: BuildsInFlight) {
    let Some(builder) = &server.builder else { return };
    // A replica that has not caught up with the cluster knows of less than is kept.
    has_caught_up(server.consensus.as_ref()).await;
    let mut changes = server.replica.changes();
    let mut seen = None;
    loop {
        changes.mark_unchanged();
        if seen.as_ref() != Some(&needed_builds(&server.replica)) {
            seen = sweep(builder.store.as_ref(), &server.replica, &builds).await;
        }
        tokio::select! {
            biased;
            // What a refused deployment has built is needed no more, though the state is as before.
            () = builds.0.ended.notified() => seen = None,
            changed = changes.changed() => if changed.is_err() {
                return;
            },
        }
    }
}

/// What was built for whom.
type Build = (DeploymentId, VmId);

fn needed_builds(replica: &Replica) -> BTreeSet<Build> {
    let builds_of = |(id, vm): (&VmId, &Vm)| {
        let deployments = vm.generations.values().map(|generation| (generation.deployment, id.clone()));
        deployments.collect::<Vec<_>>()
    };
    replica.read(|state| state.vms.iter().flat_map(builds_of).collect())
}

/// Gives what is needed, if nothing else was in flight.
async fn sweep(store: &dyn NixStore, replica: &Replica, builds: &BuildsInFlight) -> Option<BTreeSet<Build>> {
    let roots = match store.roots().await {
        Ok(roots) => roots,
        Err(error) => {
            tracing::warn!(error = blixard_types::chain(&error), "cannot look for roots to remove");
            return None;
        }
    };
    // In this order: a root that is there was made for what was in flight by then, and what ended before that was
    // looked at is in the state.
    let in_flight = builds.work().clone();
    let needed = needed_builds(replica);
    for (name, _) in roots {
        if !is_litter(&name, &needed, &in_flight) {
            continue;
        }
        if let Err(error) = store.remove_root(name).await {
            tracing::warn!(error = blixard_types::chain(&error), "a root that nothing needs stays");
        }
    }
    in_flight.is_empty().then_some(needed)
}

/// Whether a root is the builder's, and nothing needs it. Others are the host's.
fn is_litter(name: &RootName, needed: &BTreeSet<Build>, in_flight: &Work) -> bool {
    if let Some(upload) = upload_of(name) {
        return !in_flight.uploads.contains(&upload);
    }
    build_of(name).is_some_and(|build| !needed.contains(&build) && !in_flight.deployments.contains(&build.0))
}

#[cfg(test)]
mod tests;
