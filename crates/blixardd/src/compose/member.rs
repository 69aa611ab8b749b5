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
use blixard_types::NodeName;
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
            new_name(config)?;
            no_guests(data_dir).await?;
            no_roots(&config.nix.gc_roots, data_dir)?;
        }
        return Ok(None);
    };
    let token: JoinToken = token.parse()?;
    let name = new_name(config)?;
    give_up_own_cluster(config).await?;
    no_guests(data_dir).await?;
    let applicant =
        Applicant { name, roles: config.node.roles.clone(), address: config.cluster.address().cloned() };
    let file = join(&token, &applicant, data_dir).await?;
    tracing::info!(node = %file.node, cluster = %file.cluster, "joined");
    Ok(Some(file))
}

/// The name that this node comes with.
fn new_name(config: &Config) -> Result<NodeName, IdentityError> {
    let name = node_name(config.node.name.clone())?;
    if name.is_number() { Err(IdentityError::Number(name)) } else { Ok(name) }
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

/// Closures that are kept for vms, or were built for them, before there is a cluster are another's, whose log is not there.
fn no_roots(roots: &Path, data_dir: &Path) -> Result<(), RunError> {
    let kept =
        ["vms", "builds"].map(|folder| roots.join(folder)).into_iter().find(|folder| has_files(folder));
    match kept {
        Some(roots) => Err(IdentityError::Roots { roots, data_dir: data_dir.to_owned() }.into()),
        None => Ok(()),
    }
}

/// Whether there is anything but folders below it.
fn has_files(folder: &Path) -> bool {
    let below = fs::read_dir(folder).into_iter().flatten().flatten();
    below.into_iter().any(|entry| match entry.file_type() {
        Ok(kind) if kind.is_dir() => has_files(&entry.path()),
        _ => true,
    })
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

/// Where nodes are: as this node's configuration says; else as the state says; and before there is one, as the servers said
/// that let this node in.
pub(super) fn addresses(config: &Config, member: Option<&NodeFile>, replica: &Arc<Replica>) -> Addresses {
    let first = member.map(|member| member.servers.clone()).unwrap_or_default();
    let (peers, replica) = (config.cluster.peers.clone(), Arc::clone(replica));
    Arc::new(move |node| {
        let known = replica.read(|state| {
            let node = state.nodes.get(&node)?;
            peers.get(&node.name).or(node.address.as_ref()).cloned()
        });
        known.or_else(|| first.iter().find(|(id, _)| *id == node).map(|(_, address)| address.clone()))
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use blixard_core::command::{Command, Envelope, MembershipCommand};
    use blixard_core::ports::UnixMillis;
    use blixard_core::ports::consensus::ReplicatedMachine as _;
    use blixard_core::rules::RULES;
    use blixard_proto::encode_envelope;
    use blixard_types::{ClusterId, LogPosition, NodeId, RequestId};

    use super::*;

    #[test]
    fn a_machine_that_keeps_closures_of_vms_founds_no_cluster() {
        let (roots, data_dir) = (tempfile::tempdir().unwrap(), Path::new("/var/lib/blixard"));
        no_roots(roots.path(), data_dir).unwrap();
        // What a vm that is gone, and an upload, leave.
        fs::create_dir_all(roots.path().join("vms/default/web")).unwrap();
        fs::create_dir_all(roots.path().join("uploads/call")).unwrap();
        symlink("/nix/store/x", roots.path().join("uploads/call/x")).unwrap();
        no_roots(roots.path(), data_dir).unwrap();
        for kept in ["vms/default/web/1", "builds/0a/default/web"] {
            let link = roots.path().join(kept);
            fs::create_dir_all(link.parent().unwrap()).unwrap();
            symlink("/nix/store/x", &link).unwrap();
            let refused = no_roots(roots.path(), data_dir).unwrap_err();
            assert!(matches!(refused, RunError::Identity(IdentityError::Roots { .. })), "{kept}");
            fs::remove_file(link).unwrap();
        }
    }

    #[test]
    fn a_server_that_has_moved_is_reached_where_the_configuration_says() {
        let replica = Arc::new(Replica::default());
        let commands = [
            Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest },
            Command::RegisterNode {
                node: NodeId(2),
                name: "beta".parse().unwrap(),
                roles: [Role::Server].into(),
            },
            Command::Membership(MembershipCommand::SetAddress {
                node: NodeId(2),
                address: "old:7440".parse().unwrap(),
            }),
        ];
        for (index, command) in (1_u8..).zip(commands) {
            let (request, at) = (RequestId([index; 16]), UnixMillis(1));
            let entry = encode_envelope(&Envelope { request, at, by: None, command }).unwrap();
            replica.apply(LogPosition { term: 1, index: index.into() }, &entry).unwrap();
        }
        let mut config = Config::default();
        let at =
            |config: &Config, node| addresses(config, None, &replica)(NodeId(node)).map(|at| at.to_string());
        assert_eq!(at(&config, 2).as_deref(), Some("old:7440"));
        config.cluster.peers = [("beta".parse().unwrap(), "10.0.0.12:7440".parse().unwrap())].into();
        assert_eq!(at(&config, 2).as_deref(), Some("10.0.0.12:7440"));
        assert_eq!(at(&config, 3), None);
    }
}
