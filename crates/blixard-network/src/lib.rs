//! The host's network behind the ports: taps of vms, by the program `ip`.
//!
//! Owns: how taps are made, marked, put on bridges and removed. Refuses to know: which vm should run, and
//! addresses and routes, which are the host's configuration.
//!
//! ```text
//! list ─▶ anyone else's? refuse ─▶ remove what this vm has ─▶ each tap: add as `blixard-new` ─▶ mark ─▶ name ─▶ up
//! ```
//! A tap gets its own name only once it is marked, so that a daemon that dies in between leaves nothing
//! that the next one would take for somebody else's.

mod command;
mod link;

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::networks::{NetworkError, Networks, Tap};
use blixard_types::VmId;
use tokio::sync::Mutex;

use command::Ip;
use link::Link;

/// What a tap is called until it is marked.
const UNMARKED: &str = "blixard-new";

/// The host's network, by the program `ip`. Clones share one lock: changes are made one at a time.
#[derive(Debug, Clone)]
pub struct IpNetworks {
    network: Arc<Mutex<Network>>,
}

#[derive(Debug)]
struct Network {
    ip: Ip,
    /// The vms that may have interfaces, once that was looked for. A vm without is the usual one, and would cost a
    /// process each time it starts.
    owners: Option<BTreeSet<VmId>>,
}

impl Network {
    async fn look(&mut self) -> Result<Vec<Link>, NetworkError> {
        self.owners = None;
        let links = self.ip.links().await?;
        self.owners = Some(links.iter().filter_map(Link::vm).cloned().collect());
        Ok(links)
    }

    fn has_none(&self, vm: &VmId) -> bool {
        self.owners.as_ref().is_some_and(|owners| !owners.contains(vm))
    }
}

impl IpNetworks {
    /// Does nothing yet: the program is looked for when it is used, in `PATH` if it has no slash.
    #[must_use]
    pub fn new(program: impl Into<PathBuf>) -> Self {
        let network = Network { ip: Ip::new(program.into()), owners: None };
        Self { network: Arc::new(Mutex::new(network)) }
    }
}

impl Networks for IpNetworks {
    fn prepare(&self, vm: VmId, taps: Vec<Tap>) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            let mut network = self.network.lock().await;
            if taps.is_empty() && network.has_none(&vm) {
                return Ok(());
            }
            let links = network.look().await?;
            check(&links, &vm, &taps)?;
            if let Some(owners) = network.owners.as_mut().filter(|_| !taps.is_empty()) {
                owners.insert(vm.clone());
            }
            for link in links.iter().filter(|link| link.vm() == Some(&vm) || link.name == UNMARKED) {
                network.ip.delete(&link.name).await?;
            }
            for tap in &taps {
                network.ip.make(&vm, tap).await?;
            }
            Ok(())
        })
    }

    fn remove(&self, vm: VmId) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            // What has stopped may have been somebody else's run of this vm, with interfaces that nobody has seen yet.
            let mut network = self.network.lock().await;
            for link in network.look().await?.iter().filter(|link| link.vm() == Some(&vm)) {
                network.ip.delete(&link.name).await?;
            }
            Ok(())
        })
    }

    fn vms(&self) -> BoxFuture<'_, Result<BTreeSet<VmId>, NetworkError>> {
        Box::pin(async move {
            let links = self.network.lock().await.look().await?;
            Ok(links.iter().filter_map(Link::vm).cloned().collect())
        })
    }
}

/// Whether these taps can be made without touching what is not the vm's.
fn check(links: &[Link], vm: &VmId, taps: &[Tap]) -> Result<(), NetworkError> {
    let find = |name: &str| links.iter().find(|link| link.name == name);
    for tap in taps {
        let id = tap.id.clone();
        match find(&id).map(Link::vm) {
            Some(None) => return Err(NetworkError::Foreign { id }),
            Some(Some(owner)) if owner != vm => return Err(NetworkError::Taken { id, vm: owner.clone() }),
            Some(Some(_)) | None => {}
        }
        if let Some(bridge) = &tap.bridge
            && !find(bridge).is_some_and(Link::is_bridge)
        {
            return Err(NetworkError::NoBridge { bridge: bridge.clone() });
        }
    }
    Ok(())
}
