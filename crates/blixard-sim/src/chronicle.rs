//! All that has happened, also what servers have forgotten by now.
//!
//! Written by whoever drives the simulation, after every moment, from the state that has come furthest; what watchers
//! and clients were told is compared with it. Events are part of the state, and states are compared by themselves.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_proto::event_view;
use blixard_proto::v1::Event;
use blixard_server::Replica;
use blixard_types::{NodeId, Revision};

use crate::server::value_in;

/// A chronicle; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Chronicle(Arc<Mutex<Inner>>);

#[derive(Debug, Default)]
struct Inner {
    up_to: Revision,
    events: Vec<Event>,
    /// More has happened in one moment than servers keep.
    lost: bool,
}

impl Chronicle {
    /// Writes down what a server knows besides.
    pub(crate) fn look(&self, replica: &Replica) {
        let mut inner = self.lock();
        replica.read(|state| {
            let newest = state.applied.revision();
            if newest <= inner.up_to {
                return;
            }
            match state.events_after(inner.up_to) {
                Ok(events) => inner.events.extend(events.map(|event| event_view(state, event))),
                Err(_) => inner.lost = true,
            }
            inner.up_to = newest;
        });
    }

    /// What has happened, in order; none if that is not known.
    pub(crate) fn events(&self) -> Option<Vec<Event>> {
        let inner = self.lock();
        (!inner.lost).then(|| inner.events.clone())
    }

    /// The highest number of a node that has spoken.
    pub(crate) fn joined(&self) -> u64 {
        let inner = self.lock();
        let spoken = inner.events.iter().filter(|event| event.kind == "session-opened");
        spoken.filter_map(|event| event.node).max().unwrap_or_default()
    }

    /// The nodes that were removed.
    pub(crate) fn removed(&self) -> BTreeSet<NodeId> {
        let inner = self.lock();
        let removed = inner.events.iter().filter(|event| event.kind == "node-removed");
        removed.filter_map(|event| event.node.map(NodeId)).collect()
    }

    /// How often something of a kind has happened.
    pub(crate) fn count(&self, kind: &str) -> usize {
        self.lock().events.iter().filter(|event| event.kind == kind).count()
    }

    /// The values that were written, in order.
    pub(crate) fn values_written(&self) -> Option<Vec<u64>> {
        let value =
            |event: &Event| (event.kind == "node-registered").then(|| value_in(&event.detail)).flatten();
        self.events().map(|events| events.iter().filter_map(value).collect())
    }

    /// The nodes that there were at a revision, with their names.
    pub(crate) fn nodes_at(&self, revision: u64) -> BTreeSet<(u64, String)> {
        let mut nodes = std::collections::BTreeMap::new();
        for event in self.lock().events.iter().filter(|event| event.revision <= revision) {
            let Some(node) = event.node else { continue };
            match event.kind.as_str() {
                "node-registered" => drop(nodes.insert(node, event.detail.clone())),
                "node-removed" => drop(nodes.remove(&node)),
                _ => {}
            }
        }
        nodes.into_iter().collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
