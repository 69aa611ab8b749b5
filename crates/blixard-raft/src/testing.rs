//! What the tests of this crate share: a machine that remembers, and a disk that forgets.

mod cluster;
mod disk;
mod machine;

use futures_util::StreamExt;

use blixard_core::ports::consensus::{Consensus, Standing};

use crate::RaftNode;

pub(crate) use cluster::{Cluster, Killed, voters};
pub(crate) use disk::{Disk, Keep};
pub(crate) use machine::Recorder;

/// Waits until the node stands as asked.
pub(crate) async fn until(node: &RaftNode, wanted: impl Fn(&Standing) -> bool) -> Standing {
    let mut standings = node.standings();
    while let Some(standing) = standings.next().await {
        if wanted(&standing) {
            return standing;
        }
    }
    panic!("the node stopped: {:?}", node.standing());
}
