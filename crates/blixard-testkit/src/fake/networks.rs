//! A host's network in memory.
//!
//! Owns: interfaces and bridges as data. Refuses to know: packets. It passes the contract in [`contract`],
//! as the real one does.

pub mod contract;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::BoxFuture;
use blixard_core::ports::networks::{NetworkError, Networks, Tap};
use blixard_types::VmId;

/// Networks in memory. Clones are handles to the same host.
#[derive(Debug, Clone, Default)]
pub struct FakeNetworks {
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    foreign: BTreeSet<String>,
    bridges: BTreeSet<String>,
    taps: BTreeMap<String, (VmId, Tap)>,
}

impl FakeNetworks {
    /// A host with these bridges, and these interfaces that are not ours.
    #[must_use]
    pub fn new(bridges: &[&str], foreign: &[&str]) -> Self {
        let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let state = State { foreign: owned(foreign), bridges: owned(bridges), taps: BTreeMap::new() };
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// The taps that are there, by name.
    #[must_use]
    pub fn taps(&self) -> BTreeMap<String, (VmId, Tap)> {
        self.state().taps.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn check(&self, vm: &VmId, tap: &Tap) -> Result<(), NetworkError> {
        let id = tap.id.clone();
        if self.foreign.contains(&id) || self.bridges.contains(&id) {
            return Err(NetworkError::Foreign { id });
        }
        if let Some((owner, _)) = self.taps.get(&id).filter(|(owner, _)| owner != vm) {
            return Err(NetworkError::Taken { id, vm: owner.clone() });
        }
        match &tap.bridge {
            Some(bridge) if !self.bridges.contains(bridge) => {
                Err(NetworkError::NoBridge { bridge: bridge.clone() })
            }
            Some(_) | None => Ok(()),
        }
    }
}

impl Networks for FakeNetworks {
    fn prepare(&self, vm: VmId, taps: Vec<Tap>) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            let mut state = self.state();
            taps.iter().try_for_each(|tap| state.check(&vm, tap))?;
            state.taps.retain(|_, (owner, _)| *owner != vm);
            state.taps.extend(taps.into_iter().map(|tap| (tap.id.clone(), (vm.clone(), tap))));
            Ok(())
        })
    }

    fn remove(&self, vm: VmId) -> BoxFuture<'_, Result<(), NetworkError>> {
        Box::pin(async move {
            self.state().taps.retain(|_, (owner, _)| *owner != vm);
            Ok(())
        })
    }

    fn vms(&self) -> BoxFuture<'_, Result<BTreeSet<VmId>, NetworkError>> {
        Box::pin(async move { Ok(self.state().taps.values().map(|(owner, _)| owner.clone()).collect()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        let ground = contract::Ground { bridge: "br0".to_owned(), foreign: "other".to_owned() };
        contract::keeps(&FakeNetworks::new(&["br0"], &["other"]), &ground).await.unwrap();
    }
}
