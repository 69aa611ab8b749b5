//! Which cluster this node is in: the one it has joined, the one it is told to join, or its own.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::units::UnitManager as _;
use blixard_core::state::{ClusterState, Role};
use blixard_pki::JoinToken;
use blixard_raft::{RaftNode, RaftOptions};
use blixard_server::Replica;
use blixard_systemd::Systemd;
use blixard_types::holder::EPOCHS_DIR;

use super::{RunError, log};
use crate::cluster::Addresses;
use crate::config::Config;
use crate::identity::{FIRST_NODE, IdentityError, NodeFile, node_name};
use crate::join::{Applicant, join};

/// What belongs to a log.
pub(super) const LOG_FILES: [&str; 2] = ["log", "checkpoints"];

/// Joins if that is to be done; none for a node that founds its cluster or has founded it.
pub(super) async fn membership(config: &Config, token: Option<String>) -> Result<Option<NodeFile>, RunError> {
    let data_dir = &config.storage.data_dir;
    if let Some(file) = NodeFile::read(data_dir)? {
        return Ok(Some(file));
    }
    let Some(token) = token_of(config, token)? else {
        if !config.node.roles.contains(&Role::Server) {
            return Err(IdentityError::Homeless.into());
        }
        if !log::is_below(data_dir) {
            no_guests(data_dir).await?;
        }
        return Ok(None);
    };
    let token: JoinToken = token.parse()?;
    give_up_own_cluster(config).await?;
    no_guests(data_dir).await?;
    let applicant = Applicant {
        name: node_name(config.node.name.clone())?,
        roles: config.node.roles.clone(),
        address: config.cluster.address().cloned(),
    };
    let file = join(&token, &applicant, data_dir).await?;
    tracing::info!(node = %file.node, cluster = %file.cluster, "joined");
    Ok(Some(file))
}

/// Guests that run before this node is in a cluster are another's: it would take them for its own, or end them
/// and tell the holder of their lease that nobody waits for it.
async fn no_guests(data_dir: &Path) -> Result<(), RunError> {
    let guests = Systemd::connect().await?.observe().await?;
    if guests.is_empty() {
        return Ok(forget_epochs(Path::new(EPOCHS_DIR))?);
    }
    let guests = guests.into_iter().map(|unit| unit.vm.to_string()).collect();
    Err(IdentityError::Guests { guests, data_dir: data_dir.to_owned() }.into())
}

/// Another cluster's epochs say nothing of this one's, which begin anew.
fn forget_epochs(folder: &Path) -> std::io::Result<()> {
    let marks = match fs::read_dir(folder) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        marks => marks?,
    };
    for mark in marks {
        fs::remove_file(mark?.path())?;
    }
    Ok(())
}

fn token_of(config: &Config, token: Option<String>) -> Result<Option<String>, RunError> {
    let Some(file) = config.cluster.join_file.as_ref().filter(|_| token.is_none()) else {
        return Ok(token);
    };
    let failed = |cause| RunError::TokenFile { file: file.display().to_string(), cause };
    fs::read_to_string(file).map(Some).map_err(failed)
}

/// A daemon that was started before it was told to join has founded a cluster of one. That is put aside,
/// unless somebody uses it.
async fn give_up_own_cluster(config: &Config) -> Result<(), RunError> {
    let data_dir = &config.storage.data_dir;
    if !log::is_below(data_dir) {
        return Ok(());
    }
    let replica = Arc::new(Replica::default());
    let raft = RaftNode::open(RaftOptions::new(FIRST_NODE, data_dir), replica.clone()).await?;
    let in_use = if log::founds_alone(&raft, FIRST_NODE).await? {
        let recovered = log::lead(&raft).await;
        recovered.map(|()| replica.read(is_in_use))
    } else {
        Ok(true)
    };
    raft.shutdown().await;
    if in_use? {
        return Err(IdentityError::InUse(data_dir.clone()).into());
    }
    let aside = data_dir.join(format!("founded-{}", replica.read(cluster_name)));
    fs::create_dir_all(&aside)?;
    for name in LOG_FILES {
        let file = data_dir.join(name);
        if file.exists() {
            fs::rename(&file, aside.join(name))?;
        }
    }
    tracing::info!(aside = %aside.display(), "the empty cluster of one is put aside");
    Ok(())
}

fn is_in_use(state: &ClusterState) -> bool {
    !state.vms.is_empty() || state.nodes.len() > 1 || state.registry.authority.is_some()
}

fn cluster_name(state: &ClusterState) -> String {
    state.identity.map_or_else(|| "unnamed".to_owned(), |identity| identity.cluster.to_string())
}

/// Where nodes are: as the state says; and before there is one, as the servers said that let this node in.
pub(super) fn addresses(member: Option<&NodeFile>, replica: &Arc<Replica>) -> Addresses {
    let first = member.map(|member| member.servers.clone()).unwrap_or_default();
    let replica = Arc::clone(replica);
    Arc::new(move |node| {
        let known = replica.read(|state| state.nodes.get(&node).and_then(|node| node.address.clone()));
        known.or_else(|| first.iter().find(|(id, _)| *id == node).map(|(_, address)| address.clone()))
    })
}
