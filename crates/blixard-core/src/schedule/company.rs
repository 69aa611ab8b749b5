//! Where the vms are that affinities speak of.

use std::collections::BTreeMap;

use blixard_types::{NodeId, VmId};

use super::shape::Peers;

/// The vms that are on hosts.
#[derive(Debug, Default)]
pub(super) struct Company {
    vms: BTreeMap<VmId, NodeId>,
    /// By label and value, how many are on each host.
    labels: BTreeMap<String, BTreeMap<String, BTreeMap<NodeId, usize>>>,
}

impl Company {
    pub(super) fn add(&mut self, vm: &VmId, node: NodeId, labels: &BTreeMap<String, String>) {
        self.vms.insert(vm.clone(), node);
        for (key, value) in labels {
            let values = self.labels.entry(key.clone()).or_default();
            *values.entry(value.clone()).or_default().entry(node).or_default() += 1;
        }
    }

    pub(super) fn remove(&mut self, vm: &VmId, node: NodeId, labels: &BTreeMap<String, String>) {
        self.vms.remove(vm);
        for (key, value) in labels {
            let Some(values) = self.labels.get_mut(key) else { continue };
            let Some(hosts) = values.get_mut(value) else { continue };
            if let Some(count) = hosts.get_mut(&node) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    hosts.remove(&node);
                }
            }
            if hosts.is_empty() {
                values.remove(value);
            }
            if values.is_empty() {
                self.labels.remove(key);
            }
        }
    }

    /// The hosts that have some of these, and how many.
    pub(super) fn each(&self, peers: &Peers, mut tell: impl FnMut(NodeId, usize)) {
        match peers {
            Peers::Named(vm) => {
                if let Some(&node) = self.vms.get(vm) {
                    tell(node, 1);
                }
            }
            Peers::Labelled(key, value) => {
                let hosts = self.labels.get(key).and_then(|values| values.get(value));
                hosts.into_iter().flatten().for_each(|(&node, &count)| tell(node, count));
            }
        }
    }
}
