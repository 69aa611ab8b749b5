//! Opening this server's copy of the log.

use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::consensus::Consensus;
use blixard_raft::{NodeStopped, Place, RaftNode, RaftOptions};
use blixard_server::Replica;
use blixard_types::NodeId;
use futures_util::StreamExt;

use super::RunError;
use super::member::LOG_FILES;
use crate::cluster::Mesh;
use crate::config::Config;
use crate::identity::{FIRST_NODE, NodeFile};

/// Whether there is one below a data directory.
pub(super) fn is_below(data_dir: &Path) -> bool {
    data_dir.join(LOG_FILES[0]).exists()
}

/// Opens it. Who has joined waits for nobody: its leader comes to it. Who has founded its cluster and is
/// alone in it leads on return.
pub(super) async fn open(
    config: &Config,
    member: Option<&NodeFile>,
    replica: &Arc<Replica>,
    mesh: &Mesh,
) -> Result<RaftNode, RunError> {
    let node = member.map_or(FIRST_NODE, |member| member.node);
    let machine = Arc::clone(replica);
    let mut options = RaftOptions::new(node, &config.storage.data_dir);
    options.transport = Arc::new(mesh.transport());
    options.place = Place::OwnThread;
    options.elections = config.fencing.elections();
    let raft = RaftNode::open(options, machine).await?;
    if member.is_some() {
        // Alone after a recovery: who was cut off is to be refused from the first handshake on.
        if raft.is_only_voter().await? {
            lead(&raft).await?;
        }
        return Ok(raft);
    }
    if founds_alone(&raft, node).await? {
        lead(&raft).await?;
    }
    Ok(raft)
}

/// Makes sure that this node is in a cluster, of its own if in no other, and says whether it is alone there.
pub(super) async fn founds_alone(raft: &RaftNode, node: NodeId) -> Result<bool, RunError> {
    raft.initialize_single().await?;
    // What is told of a node follows what it does; until then nobody seems to vote.
    let mut standings = raft.standings();
    while let Some(standing) = standings.next().await {
        if let Some(reason) = standing.stopped {
            return Err(NodeStopped { reason }.into());
        }
        if !standing.voters.is_empty() {
            return Ok(is_alone(raft, node));
        }
    }
    Err(NodeStopped { reason: "it ended before it knew who votes".to_owned() }.into())
}

/// Whether this node is the only one that votes.
pub(super) fn is_alone(raft: &RaftNode, node: NodeId) -> bool {
    raft.standing().voters == [node]
}

/// Waits until this node leads and its state covers its log.
pub(super) async fn lead(raft: &RaftNode) -> Result<(), RunError> {
    let mut standings = raft.standings();
    while let Some(standing) = standings.next().await {
        if standing.leads() {
            return Ok(raft.recovered().await?);
        }
        if let Some(reason) = standing.stopped {
            return Err(NodeStopped { reason }.into());
        }
    }
    Err(NodeStopped { reason: "it ended before it led".to_owned() }.into())
}
