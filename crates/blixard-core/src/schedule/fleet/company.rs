//! The vms on a host, as affinities see them.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::VmId;

use crate::schedule::shape::Peers;

/// The vms on a host.
#[derive(Debug, Default)]
pub(super) struct Company {
    vms: BTreeSet<VmId>,
    /// How many have a label of a value.
    labels: BTreeMap<String, BTreeMap<String, usize>>,
}

impl Company {
    pub(super) fn add(&mut self, vm: &VmId, labels: &BTreeMap<String, String>) {
        self.vms.insert(vm.clone());
        for (key, value) in labels {
            *self.labels.entry(key.clone()).or_default().entry(value.clone()).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, vm: &VmId, labels: &BTreeMap<String, String>) {
        self.vms.remove(vm);
        for (key, value) in labels {
            let Some(values) = self.labels.get_mut(key) else { continue };
            if let Some(count) = values.get_mut(value) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    values.remove(value);
                }
            }
            if values.is_empty() {
                self.labels.remove(key);
            }
        }
    }

    /// How many of the vms here these are.
    pub(super) fn count(&self, peers: &Peers) -> usize {
        match peers {
            Peers::Named(vm) => usize::from(self.vms.contains(vm)),
            Peers::Labelled(key, value) => {
                self.labels.get(key).and_then(|values| values.get(value)).copied().unwrap_or_default()
            }
        }
    }
}
