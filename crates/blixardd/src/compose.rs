//! The composition root: every adapter is made here and handed to those who need it.

mod api;
mod log;
mod member;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use blixard_closure::{ClosureServer, Fetcher, FileSigner, ImporterCommand, SignerError};
use blixard_core::ports::confined::Confinement;
use blixard_core::ports::units::UnitError;
use blixard_core::state::Role;
use blixard_core::unit::HostLayout;
use blixard_host::probe::NetworkProbe;
use blixard_host::{AgentError, Host};
use blixard_network::IpNetworks;
use blixard_nix::{NixCli, NixCliOptions};
use blixard_pki::{FileError, JoinTokenError, KeyFiles};
use blixard_proto::Hello;
use blixard_raft::{NodeStopped, OpenError, RaftNode};
use blixard_server::roots::BuildsInFlight;
use blixard_server::{Builder, Forwarding, Keyring, LeaseDesk, ProposeFailure, Replica, Server};
use blixard_server::{bootstrap, fetch_authority, keep_fresh, leader, roots, services, store_service};
use blixard_systemd::{ConfinementOptions, Journalctl, Systemd, SystemdConfinement, SystemdHolder};
use blixard_types::{DaemonId, NodeId};
use blixard_volume::DiskVolumes;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::cluster::{self, ClosureAccess, ClusterAccess, ClusterError, Mesh};
use crate::config::Config;
use crate::disk::DataDisk;
use crate::identity::{FIRST_NODE, IdentityError, NodeFile, node_name, prepare_data_dir};
use crate::incoming::make_room;
use crate::join::JoinError;
use crate::local::LocalNode;
use crate::socket::{SocketError, listen};
use crate::system::{KernelEntropy, SystemClock};
use crate::{binary_cache, facts, notify};

/// Why the daemon did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Who this node is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The token.
    #[error(transparent)]
    Token(#[from] JoinTokenError),
    /// The file that should hold the token.
    #[error("cannot read the join token from {file} (`cluster.join_file`)")]
    TokenFile {
        /// The file.
        file: String,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// Joining.
    #[error("this machine has not joined the cluster")]
    Join(#[from] JoinError),
    /// Keys and certificates.
    #[error("cannot use the keys of this node")]
    Keys(#[from] FileError),
    /// Other nodes.
    #[error("cannot speak to other nodes")]
    Cluster(#[from] ClusterError),
    /// The log.
    #[error("cannot open the replicated log")]
    Open(#[from] OpenError),
    /// The log, later.
    #[error("the consensus node has stopped")]
    Stopped(#[from] NodeStopped),
    /// The first commands.
    #[error("cannot form a cluster of one")]
    Found(#[from] ProposeFailure),
    /// systemd.
    #[error("cannot use systemd")]
    Systemd(#[from] UnitError),
    /// The node's key.
    #[error(transparent)]
    Key(#[from] SignerError),
    /// The token of the binary cache.
    #[error("cannot use the token in {}", .file.display())]
    CacheToken {
        /// Its file.
        file: PathBuf,
        /// Why.
        #[source]
        cause: std::io::Error,
    },
    /// The binary cache.
    #[error("the binary cache cannot listen on its address")]
    Cache(#[source] std::io::Error),
    /// The host agent.
    #[error(transparent)]
    Agent(#[from] AgentError),
    /// The socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The gRPC server.
    #[error("the API server has ended")]
    Serve(#[from] tonic::transport::Error),
    /// The machine does not tell something that every Linux does.
    #[error("cannot ask the kernel")]
    Kernel(#[from] std::io::Error),
    /// A part of the daemon panicked.
    #[error("a part of the daemon has ended unexpectedly")]
    Part(#[from] tokio::task::JoinError),
}

impl RunError {
    /// Whether starting again cannot help before somebody has done something.
    pub(crate) fn is_final(&self) -> bool {
        match self {
            Self::Token(_) => true,
            Self::Join(error) => error.is_final(),
            Self::Identity(error) => {
                matches!(error, IdentityError::InUse(_) | IdentityError::Homeless)
            }
            _ => false,
        }
    }
}

/// Runs the daemon until it is told to end.
pub(crate) async fn run(config: Config, token: Option<String>) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    make_room();
    prepare_data_dir(&config.storage.data_dir)?;
    let (tls, tls_of_mesh) = watch::channel(None);
    let replica = Arc::new(Replica::default());
    let member = tokio::select! {
        member = member::membership(&config, token) => member?,
        _ = terminate.recv() => return Ok(()),
        _ = interrupt.recv() => return Ok(()),
    };
    let mesh = Mesh::new(tls_of_mesh, member::addresses(member.as_ref(), &replica));
    let raft = log::open(&config, member.as_ref(), &replica, &mesh).await?;
    let ended = tokio::select! {
        ended = serve(&config, &raft, replica, member, mesh, tls) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
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
    tls: crate::cluster::Tls,
) -> Result<(), RunError> {
    let systemd = Arc::new(Systemd::connect().await?);
    let confinement: Arc<dyn Confinement> = Arc::new(confinement(config, &systemd));
    let nix = Arc::new(NixCli::new(nix_options(config), &confinement));
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
    if let Some(cache) = binary_cache::cache(config, &name.to_string(), nix.clone(), signer)? {
        parts.spawn(async { cache.serve().await.map_err(RunError::Cache) });
    }
    if config.node.roles.contains(&Role::Host) {
        let host = make_host(config, node, &server, access, systemd, nix)?;
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

fn make_host(
    config: &Config,
    node: NodeId,
    server: &Server,
    access: ClusterAccess,
    systemd: Arc<Systemd>,
    nix: Arc<NixCli>,
) -> Result<Host, RunError> {
    let closures = fetcher(config, server, &access)?;
    let daemon = DaemonId(server.entropy.id());
    Ok(Host {
        hello: Hello { node, daemon, boot: facts::boot_id()?, facts: facts::facts(config) },
        layout: HostLayout {
            state_dir: config.host.state_dir.display().to_string(),
            runtime_dir: config.host.runtime_dir.display().to_string(),
            bridge: config.host.bridge.clone(),
            lease_program: lease_program(config)?,
            shared: config.host.shared_paths(),
            credentials_dir: config.host.credentials_dir.display().to_string(),
        },
        servers: Arc::new(access),
        holder: Arc::new(SystemdHolder::new(&systemd)),
        units: systemd,
        networks: Arc::new(IpNetworks::new(&config.host.ip_command)),
        volumes: Arc::new(DiskVolumes::new(&config.host.state_dir)),
        store: nix,
        closures,
        journal: Arc::new(Journalctl::new("journalctl")),
        probe: Arc::new(NetworkProbe),
        clock: Arc::clone(&server.clock),
    })
}

/// What executes vms under a lease: it is installed beside this program.
fn lease_program(config: &Config) -> std::io::Result<String> {
    if let Some(program) = &config.host.lease_command {
        return Ok(program.display().to_string());
    }
    let beside = std::env::current_exe()?.with_file_name("blixard-lease");
    Ok(beside.display().to_string())
}

/// Where this node gets closures that others have.
fn fetcher(config: &Config, server: &Server, access: &ClusterAccess) -> Result<Arc<Fetcher>, RunError> {
    let own: OsString = std::env::current_exe()?.into();
    let store: OsString = config.nix.store_command.clone().into();
    let importer = ImporterCommand(vec![own, "import".into(), "--nix-store".into(), store]);
    let limits = config.transfer.fetch();
    let peers = Arc::new(ClosureAccess::new(access, limits));
    Ok(Arc::new(Fetcher::new(peers, importer, Arc::clone(&server.clock), limits)))
}

fn nix_options(config: &Config) -> NixCliOptions {
    NixCliOptions {
        nix: config.nix.command.clone(),
        nix_store: config.nix.store_command.clone(),
        roots: config.nix.gc_roots.clone(),
        uploads: config.storage.data_dir.join("uploads"),
        sources: config.sources.limits(),
        evaluation: config.evaluation.limits(),
        builds: config.builder.limits(),
    }
}

/// Where flakes are evaluated: out of reach of everything that is the daemon's or the vms'.
fn confinement(config: &Config, systemd: &Systemd) -> SystemdConfinement {
    let socket_folder = config.api.socket.parent().map(ToOwned::to_owned);
    let mut hidden =
        vec![config.storage.data_dir.clone(), config.host.state_dir.clone(), config.host.runtime_dir.clone()];
    // A socket right below /run is hidden by itself.
    hidden.push(
        socket_folder.filter(|folder| folder != Path::new("/run")).unwrap_or(config.api.socket.clone()),
    );
    SystemdConfinement::new(systemd, ConfinementOptions { user: config.evaluation.user.clone(), hidden })
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

/// What may end without the daemon ending.
async fn for_ever(work: impl Future<Output = ()>) -> Result<(), RunError> {
    work.await;
    std::future::pending().await
}
