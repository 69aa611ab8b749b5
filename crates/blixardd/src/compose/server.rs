//! A node with the role server, whatever else it is: it holds the log and serves the API.

use std::sync::Arc;

use blixard_closure::{ClosureServer, FileSigner};
use blixard_core::state::Role;
use blixard_nix::NixCli;
use blixard_pki::KeyFiles;
use blixard_raft::{NodeStopped, RaftNode};
use blixard_server::roots::BuildsInFlight;
use blixard_server::{Builder, Forwarding, Keyring, LeaseDesk, Replica, Server};
use blixard_server::{bootstrap, fetch_authority, keep_fresh, leader, roots, services, store_service};
use blixard_systemd::Systemd;
use blixard_types::NodeId;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::agent::{Surroundings, agent};
use super::nix::nix;
use super::{RunError, api, for_ever, log, member};
use crate::binary_cache::BinaryCache;
use crate::cluster::{self, ClusterAccess, Mesh, Tls};
use crate::config::Config;
use crate::disk::DataDisk;
use crate::identity::{FIRST_NODE, IdentityError, NodeFile, node_name};
use crate::local::LocalNode;
use crate::notify;
use crate::servers::Book;
use crate::socket::listen;
use crate::system::{KernelEntropy, SystemClock};

/// Runs it until it is told to end.
pub(super) async fn run(
    config: &Config,
    member: Option<NodeFile>,
    told_to_end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    if Book::is_below(&config.storage.data_dir) {
        return Err(IdentityError::JoinedAsHost.into());
    }
    let (tls, tls_of_mesh) = watch::channel(None);
    let replica = Arc::new(Replica::default());
    let mesh = Mesh::new(tls_of_mesh, member::addresses(config, member.as_ref(), &replica));
    let raft = log::open(config, member.as_ref(), &replica, &mesh).await?;
    let ended = tokio::select! {
        ended = serve(config, &raft, replica, member, mesh, tls) => ended,
        () = told_to_end => Ok(()),
    };
    tracing::info!("ending; guests go on");
    raft.shutdown().await;
    ended
}

/// Everything that runs at once. The first part to end, ends the daemon.
async fn serve(
    config: &Config,
    raft: &RaftNode,
    replica: Arc<Replica>,
    member: Option<NodeFile>,
    mesh: Mesh,
    tls: Tls,
) -> Result<(), RunError> {
    let systemd = Arc::new(Systemd::connect().await?);
    let nix = nix(config, &systemd);
    let node = member.as_ref().map_or(FIRST_NODE, |member| member.node);
    let (leases, asks) = LeaseDesk::new();
    let signer = Arc::new(FileSigner::open(&config.storage.data_dir, &KernelEntropy)?);
    let server = make_server(config, raft, replica, (node, &mesh), &nix, (&signer, leases))?;
    let (name, roles) = (node_name(config.node.name.clone())?, config.node.roles.clone());
    // A cluster of one is whole before it answers; a member of a larger one may have to wait for others.
    if log::is_alone(raft, node) {
        bootstrap::found_cluster(&server, &name, &roles).await?;
        bootstrap::announce_key(&server).await?;
    }
    let local = LocalNode { node, socket: config.api.socket.clone() };
    let access = ClusterAccess { local, log: Arc::clone(&server.log), mesh };
    let builds = BuildsInFlight::default();
    let made = services(&server, builds.clone(), Arc::new(access.clone()));
    let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
    let (listener, admission) = listen(&config.api.socket, &config.api.group)?;
    let stores = store_service(&server, nix.clone());
    parts.spawn(api::local(made.clone(), stores.clone(), listener, admission));
    let serve = config.transfer.serve();
    let closures = ClosureServer::new(nix.clone(), Arc::clone(&server.clock), serve, cluster::caller);
    let listen_on = config.cluster.listen.clone();
    parts.spawn(api::cluster(server.clone(), (made, stores), closures, raft.clone(), listen_on, tls));
    if let Some(cache) = BinaryCache::of(config, name.as_str(), nix.clone(), signer) {
        parts.spawn(for_ever(cache.serve()));
    }
    if config.node.roles.contains(&Role::Host) {
        let (mesh, clock) = (access.mesh.clone(), Arc::clone(&server.clock));
        let servers = Arc::new(access);
        let host = agent(config, Surroundings { node, servers, mesh, systemd, nix, clock })?;
        parts.spawn(async { Ok(blixard_host::run(host).await?) });
    }
    for duty in [
        Box::pin(leader::run(server.clone())) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>,
        Box::pin(leader::members::run(server.clone())),
        Box::pin(leader::leases::run(server.clone(), asks, config.fencing.times())),
        Box::pin(leader::audit::run(server.clone())),
    ] {
        parts.spawn(run_until_stopped(duty));
    }
    parts.spawn(run_until_stopped(stopped(Arc::clone(&server.log))));
    parts.spawn(for_ever(keep_fresh(server.clone())));
    parts.spawn(for_ever(fetch_authority(server.clone())));
    parts.spawn(for_ever(bootstrap::announce(server.clone(), name, roles)));
    // A node that is no builder has no roots to keep, and that is no reason to end.
    parts.spawn(for_ever(roots::run(server, builds)));
    notify::ready();
    tracing::info!(socket = %config.api.socket.display(), "ready");
    match parts.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

fn make_server(
    config: &Config,
    raft: &RaftNode,
    replica: Arc<Replica>,
    (node, mesh): (NodeId, &Mesh),
    nix: &Arc<NixCli>,
    (signer, leases): (&Arc<FileSigner>, LeaseDesk),
) -> Result<Server, RunError> {
    let (inbox, evaluator, store) = (nix.clone(), nix.clone(), nix.clone());
    let builder = Builder { inbox, evaluator, store, signer: signer.clone() };
    let log: Arc<RaftNode> = Arc::new(raft.clone());
    let data_dir = &config.storage.data_dir;
    Ok(Server {
        node,
        version: env!("CARGO_PKG_VERSION"),
        replica,
        consensus: Arc::new(Forwarding::new(log.clone(), Arc::new(mesh.clone()))),
        log: log.clone(),
        membership: log,
        peers: Arc::new(mesh.clone()),
        leases,
        keyring: Arc::new(Keyring::open(KeyFiles::below(data_dir))?),
        address: config.cluster.address().cloned(),
        disk: Arc::new(DataDisk(data_dir.clone())),
        clock: Arc::new(SystemClock),
        entropy: Arc::new(KernelEntropy),
        builder: config.node.roles.contains(&Role::Builder).then_some(builder),
    })
}

/// Duties that end only with the consensus node.
async fn run_until_stopped(duties: impl Future<Output = ()>) -> Result<(), RunError> {
    duties.await;
    Err(NodeStopped { reason: "the journal says why".to_owned() }.into())
}

/// Ends when the consensus node has stopped.
async fn stopped(log: blixard_core::ports::consensus::SharedConsensus) {
    use futures_util::StreamExt as _;
    let mut standings = log.standings();
    while let Some(standing) = standings.next().await {
        if let Some(reason) = standing.stopped {
            tracing::error!(reason, "the consensus node has stopped");
        }
    }
}
