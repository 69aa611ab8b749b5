//! The builder's garbage collector roots: what was built stays until no kept generation needs it.
//!
//! A root is made before the deployment is proposed, named after the deployment, so that at no moment
//! a reference is in the log whose paths could be collected.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::nix::NixStore;
use blixard_core::roots::build_of;
use blixard_core::state::Vm;
use blixard_types::{DeploymentId, VmId};
use tokio::sync::Notify;

use crate::{Replica, Server};

/// Deployments that are being built here: they have roots, and are not in the state yet.
#[derive(Debug, Clone, Default)]
pub struct BuildsInFlight(Arc<InFlight>);

#[derive(Debug, Default)]
struct InFlight {
    deployments: Mutex<BTreeSet<DeploymentId>>,
    /// One has ended, well or not.
    ended: Notify,
}

/// Keeps the roots of a deployment until it is dropped; after that the state must refer to them.
#[derive(Debug)]
pub struct BuildGuard {
    deployment: DeploymentId,
    builds: BuildsInFlight,
}

impl BuildsInFlight {
    pub(crate) fn begin(&self, deployment: DeploymentId) -> BuildGuard {
        self.deployments().insert(deployment);
        BuildGuard { deployment, builds: self.clone() }
    }

    fn current(&self) -> BTreeSet<DeploymentId> {
        self.deployments().clone()
    }

    fn deployments(&self) -> MutexGuard<'_, BTreeSet<DeploymentId>> {
        self.0.deployments.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for BuildGuard {
    fn drop(&mut self) {
        self.builds.deployments().remove(&self.deployment);
        self.builds.0.ended.notify_one();
    }
}

/// Removes the roots that nothing needs any more, whenever the state or the end of a deployment, which
/// may have been refused, may have made some so.
pub async fn run(server: Server, builds: BuildsInFlight) {
    let Some(builder) = &server.builder else { return };
    let mut changes = server.replica.changes();
    let mut seen = None;
    loop {
        changes.mark_unchanged();
        // Taken before the state is read: a deployment that ends in between is in the state by then.
        let in_flight = builds.current();
        let needed = needed_builds(&server.replica);
        if seen.as_ref() != Some(&needed) {
            sweep(builder.store.as_ref(), &needed, &in_flight).await;
            seen = in_flight.is_empty().then_some(needed);
        }
        tokio::select! {
            changed = changes.changed() => if changed.is_err() {
                return;
            },
            // What a refused deployment has built is needed no more, though the state is as before.
            () = builds.0.ended.notified() => seen = None,
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

async fn sweep(store: &dyn NixStore, needed: &BTreeSet<Build>, in_flight: &BTreeSet<DeploymentId>) {
    let roots = match store.roots().await {
        Ok(roots) => roots,
        Err(error) => {
            tracing::warn!(error = crate::status::chain(&error), "cannot look for roots to remove");
            return;
        }
    };
    for (name, _) in roots {
        let Some(build) = build_of(&name) else { continue };
        if needed.contains(&build) || in_flight.contains(&build.0) {
            continue;
        }
        if let Err(error) = store.remove_root(name).await {
            tracing::warn!(error = crate::status::chain(&error), "a root that nothing needs stays");
        }
    }
}
