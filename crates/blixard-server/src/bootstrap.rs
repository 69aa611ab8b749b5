//! What a node says of itself: the founder in a cluster of one, and every server of a larger one.

use std::time::Duration;

use blixard_core::apply::Rejection;
use blixard_core::command::{Command, MembershipCommand};
use blixard_core::rules::RULES;
use blixard_core::state::{ClusterState, Node, Roles};
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
        match proposer
            .propose(proposer.fresh_request(), Command::InitCluster { cluster, rules: RULES.newest })
            .await
        {
            Ok(_) => tracing::info!(%cluster, "a new cluster"),
            Err(ProposeFailure::Rejected(Rejection::AlreadyInitialised)) => {}
            Err(failure) => return Err(failure),
        }
    }
    let (node, name, roles) = (server.node, name.clone(), roles.clone());
    proposer.propose(proposer.fresh_request(), Command::RegisterNode { node, name, roles }).await?;
    Ok(())
}

/// Makes known by which key this node signs what it builds. Without that nothing of it is accepted.
///
/// # Errors
/// When the log does not take the command.
pub async fn announce_key(server: &Server) -> Result<(), ProposeFailure> {
    let Some(builder) = &server.builder else { return Ok(()) };
    let (node, key) = (server.node, builder.signer.key());
    let known = |state: &ClusterState| state.nodes.get(&node).is_some_and(|node| node.key == Some(key));
    if server.replica.read(known) {
        return Ok(());
    }
    let proposer = server.proposer();
    proposer.propose(proposer.fresh_request(), Command::SetNodeKey { node, key }).await?;
    Ok(())
}

/// Says which rules this program knows: the cluster goes by newer ones once every server has.
async fn announce_rules(server: &Server) -> Result<(), ProposeFailure> {
    let (node, newest) = (server.node, RULES.newest);
    if server.replica.read(|state| state.knows_rules(node, newest)) {
        return Ok(());
    }
    let proposer = server.proposer();
    proposer.propose(proposer.fresh_request(), Command::KnowRules { node, newest }).await?;
    let active = server.replica.read(|state| state.rules);
    if active < newest {
        tracing::info!(%active, %newest, "newer rules are known here, and wait until every server knows them");
    }
    Ok(())
}

/// Pause before it is said again.
const AGAIN: Duration = Duration::from_secs(2);

/// Says once what is configured here now, if the cluster knows it otherwise: name, roles, address.
pub async fn announce(server: Server, name: NodeName, roles: Roles) {
    loop {
        match attempt(&server, &name, &roles).await {
            Ok(()) => return,
            Err(ProposeFailure::Rejected(rejection)) => {
                tracing::error!(%rejection, "the cluster refuses what is configured here");
                return;
            }
            Err(failure) => tracing::debug!(%failure, "the cluster cannot be told of this node yet"),
        }
        tokio::time::sleep(AGAIN).await;
    }
}

async fn attempt(server: &Server, name: &NodeName, roles: &Roles) -> Result<(), ProposeFailure> {
    let proposer = server.proposer();
    if server.consensus.linearize().await.is_err() {
        return Err(blixard_core::ports::consensus::ProposeError::NoQuorum.into());
    }
    let known = server.replica.read(|state| state.nodes.get(&server.node).cloned());
    // A node that was removed has nothing to say.
    let Some(Node { name: known_name, roles: known_roles, address, .. }) = known else { return Ok(()) };
    let node = server.node;
    if known_name != *name || known_roles != *roles {
        let (name, roles) = (name.clone(), roles.clone());
        proposer.propose(proposer.fresh_request(), Command::RegisterNode { node, name, roles }).await?;
    }
    // Without an authority nobody comes, and `cluster init` says where this node is.
    let authority = server.replica.read(|state| state.registry.authority.is_some());
    if let Some(here) = server.address.clone().filter(|here| authority && address.as_ref() != Some(here)) {
        let command = Command::Membership(MembershipCommand::SetAddress { node, address: here });
        proposer.propose(proposer.fresh_request(), command).await?;
    }
    announce_key(server).await?;
    announce_rules(server).await
}
