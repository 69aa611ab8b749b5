//! `[transfer]`: what closures between nodes may take.

use blixard_closure::{FetchLimits, ServeLimits};
use serde::Deserialize;

/// A number of MiB that is beyond any use.
const MEMORY_MAX_MIB: u64 = 4096;

/// `[transfer]`: what closures between nodes may take.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Transfer {
    /// Bytes a second that are fetched from all nodes together.
    pub(crate) fetch_bytes_per_s: Option<u64>,
    /// Bytes a second that are sent to all nodes together.
    pub(crate) send_bytes_per_s: Option<u64>,
    /// Nodes that one closure is fetched from at once.
    pub(crate) peers_max: usize,
    /// Memory for what is on its way from all of them.
    pub(crate) memory_max_mib: u64,
    /// Streams that are sent to other nodes at once.
    pub(crate) uploads_max: usize,
    /// Of them, streams to one node.
    pub(crate) uploads_per_node_max: usize,
}

impl Default for Transfer {
    fn default() -> Self {
        let (fetch, serve) = (FetchLimits::default(), ServeLimits::default());
        Self {
            fetch_bytes_per_s: fetch.bytes_per_s,
            send_bytes_per_s: serve.bytes_per_s,
            peers_max: fetch.peers,
            memory_max_mib: fetch.memory >> 20,
            uploads_max: serve.uploads,
            uploads_per_node_max: serve.uploads_per_node,
        }
    }
}

impl Transfer {
    /// As who fetches takes it.
    pub(crate) fn fetch(&self) -> FetchLimits {
        let (peers, memory) = (self.peers_max, self.memory_max_mib << 20);
        FetchLimits { bytes_per_s: self.fetch_bytes_per_s, peers, memory }
    }

    /// As who serves takes it.
    pub(crate) fn serve(&self) -> ServeLimits {
        let (uploads, uploads_per_node) = (self.uploads_max, self.uploads_per_node_max);
        ServeLimits { uploads, uploads_per_node, bytes_per_s: self.send_bytes_per_s }
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        let within = |key, value: u64, least: u64, most: u64| {
            let reason = || format!("must be at least {least} and at most {most}, and is {value}");
            (!(least..=most).contains(&value)).then(|| (key, reason()))
        };
        let peers = self.peers_max as u64;
        within("transfer.peers_max", peers, 1, FetchLimits::PEERS_MAX as u64)
            .or_else(|| self.memory_problem(peers))
            .or_else(|| {
                let most = ServeLimits::UPLOADS_MAX as u64;
                within("transfer.uploads_max", self.uploads_max as u64, 1, most)
            })
            .or_else(|| {
                let own = self.uploads_per_node_max as u64;
                within("transfer.uploads_per_node_max", own, 1, self.uploads_max as u64)
            })
            .or_else(|| self.speed_problem())
    }

    fn memory_problem(&self, peers: u64) -> Option<(&'static str, String)> {
        let key = "transfer.memory_max_mib";
        let (memory, for_each) = (self.memory_max_mib, FetchLimits::MEMORY_MIN >> 20);
        let least = for_each * peers;
        if memory < least {
            let reason = format!(
                "{memory} MiB are not enough: each of the {peers} nodes that are asked at once takes \
                 {for_each} MiB, so it must be at least {least}"
            );
            return Some((key, reason));
        }
        (memory > MEMORY_MAX_MIB).then(|| (key, format!("must be at most {MEMORY_MAX_MIB}")))
    }

    fn speed_problem(&self) -> Option<(&'static str, String)> {
        let least = FetchLimits::BYTES_PER_S_MIN;
        if let Some(speed) = self.fetch_bytes_per_s.filter(|speed| *speed < least) {
            let reason = format!("{speed} bytes a second are too few: it must be at least {least}");
            return Some(("transfer.fetch_bytes_per_s", reason));
        }
        let (uploads, least) = (self.uploads_max, ServeLimits::bytes_per_s_min(self.uploads_max));
        self.send_bytes_per_s.filter(|speed| *speed < least).map(|speed| {
            let reason = format!(
                "{speed} bytes a second, shared by {uploads} uploads, let each look dead to who fetches: it \
                 must be at least {least}, or transfer.uploads_max smaller"
            );
            ("transfer.send_bytes_per_s", reason)
        })
    }
}
