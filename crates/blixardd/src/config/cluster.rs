//! `[cluster]`: this node among others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use blixard_types::{NodeAddress, NodeName};
use serde::Deserialize;

/// `[cluster]`: how nodes reach each other. Empty: a cluster of one that does not listen.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Cluster {
    /// Where this node listens for others.
    pub(crate) listen: Option<NodeAddress>,
    /// Where others reach it, if that is not where it listens.
    pub(crate) advertise: Option<NodeAddress>,
    /// Where this node reaches others, by their names, whatever the cluster says: for when most servers have moved at once.
    pub(crate) peers: BTreeMap<NodeName, NodeAddress>,
    /// A file with the token of the cluster to join. Once joined, it is not read any more.
    pub(crate) join_file: Option<PathBuf>,
}

impl Cluster {
    /// Where others reach this node; absent if it does not listen.
    pub(crate) fn address(&self) -> Option<&NodeAddress> {
        self.listen.as_ref().map(|listen| self.advertise.as_ref().unwrap_or(listen))
    }

    /// What the types do not express.
    pub(super) fn problem(&self) -> Option<(&'static str, String)> {
        if self.advertise.is_some() && self.listen.is_none() {
            return Some(("cluster.advertise", "needs `cluster.listen`, or nobody is there".to_owned()));
        }
        if let Some(address) = self.address().filter(|address| address.is_unspecified()) {
            let key = if self.advertise.is_some() { "cluster.advertise" } else { "cluster.listen" };
            let reason = format!(
                "others cannot reach this node at {address}; set cluster.advertise to a name or address of it"
            );
            return Some((key, reason));
        }
        let relative = self.join_file.as_ref().filter(|file| !file.is_absolute());
        relative.map(|file| ("cluster.join_file", format!("{} is not an absolute path", file.display())))
    }
}
