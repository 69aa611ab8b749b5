//! A cluster of one: its identity and its first node.

use blixard_core::apply::Rejection;
use blixard_core::command::Command;
use blixard_core::state::Roles;
use blixard_types::{ClusterId, NodeName};

use crate::{ProposeFailure, Server};

/// Gives the cluster an identity if it has none, and makes this node a member with this name and
/// these roles. Does nothing where all is so already.
///
/// # Errors
/// When the log does not take the commands, or when another node has the name.
pub async fn found_cluster(server: &Server, name: &NodeName, roles: &Roles) -> Result<(), ProposeFailure> {
    let proposer = server.proposer();
    if server.replica.read(|state| state.identity.is_none()) {
        let cluster = ClusterId(server.entropy.id());
        match proposer.propose(proposer.fresh_request(), Command::InitCluster { cluster }).await {
            Ok(_) => tracing::info!(%cluster, "a new cluster"),
            Err(ProposeFailure::Rejected(Rejection::AlreadyInitialised)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let (node, name, roles) = (server.node, name.clone(), roles.clone());
    proposer.propose(proposer.fresh_request(), Command::RegisterNode { node, name, roles }).await?;
    Ok(())
}
