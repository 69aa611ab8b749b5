//! Looking around on the host for what was made for vms: roots, and interfaces.
//!
//! Owns: when that is done. Refuses to know: what of it may go, which the plan says by the newest grant. Units
//! need no such look, since systemd tells of them; directories are looked for once, when the daemon starts,
//! because those that stay are meant to.

use std::collections::BTreeSet;
use std::time::Duration;

use blixard_core::ports::nix::RootError;
use blixard_core::roots::generation_of;
use blixard_types::{GenerationNumber, VmId, chain};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::Agent;
use crate::Host;

/// Pause between two looks. What somebody has put there, or what could not be removed, lies there that long.
const EVERY: Duration = Duration::from_secs(30);

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Found {
    rooted: BTreeSet<(VmId, GenerationNumber)>,
    /// The vms that have interfaces.
    networked: BTreeSet<VmId>,
}

/// Looks once.
pub(super) async fn look(host: &Host) -> Result<Found, RootError> {
    let roots = host.store.roots().await?;
    let rooted = roots.iter().filter_map(|(name, _)| generation_of(name)).collect();
    let networked = host.networks.vms().await.unwrap_or_else(|error| {
        tracing::warn!(error = chain(&error), "cannot look for interfaces of vms");
        BTreeSet::new()
    });
    Ok(Found { rooted, networked })
}

/// The looks, one after another.
pub(super) struct Sweep {
    at: Instant,
    running: JoinSet<Result<Found, RootError>>,
}

impl Default for Sweep {
    fn default() -> Self {
        Self { at: Instant::now() + EVERY, running: JoinSet::new() }
    }
}

impl Sweep {
    /// What the next look finds. Waiting may be given up at any time, and begun again.
    pub(super) async fn next(&mut self, host: &Host) -> Found {
        loop {
            if self.running.is_empty() {
                tokio::time::sleep_until(self.at).await;
                self.at = Instant::now() + EVERY;
                let host = host.clone();
                self.running.spawn(async move { look(&host).await });
            }
            match self.running.join_next().await {
                Some(Ok(Ok(found))) => return found,
                Some(Ok(Err(error))) => tracing::warn!(error = chain(&error), "cannot look for roots of vms"),
                Some(Err(error)) => tracing::error!(%error, "a look around on the host panicked"),
                None => {}
            }
        }
    }
}

impl Agent {
    /// What was found may be gone by now: then it is removed once more, which does nothing.
    pub(super) fn take_in_found(&mut self, found: Found) {
        self.rooted.extend(found.rooted);
        self.homes.extend(found.networked);
    }
}
