//! The composition root: every adapter is made here and handed to those who need it.

use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::confined::Confinement;
use blixard_core::ports::consensus::Consensus;
use blixard_core::ports::nix::RootError;
use blixard_core::ports::units::UnitError;
use blixard_core::ports::{Clock, Entropy};
use blixard_core::state::Role;
use blixard_core::unit::HostLayout;
use blixard_host::probe::NetworkProbe;
use blixard_host::{Host, console};
use blixard_network::IpNetworks;
use blixard_nix::{NixCli, NixCliOptions};
use blixard_proto::Hello;
use blixard_proto::v1::host_service_server::HostServiceServer;
use blixard_raft::{NodeStopped, OpenError, RaftNode, RaftOptions};
use blixard_server::roots::BuildsInFlight;
use blixard_server::{Builder, ProposeFailure, Replica, Server, bootstrap, leader, roots, services};
use blixard_systemd::{ConfinementOptions, Journalctl, Systemd, SystemdConfinement};
use blixard_types::DaemonId;
use futures_util::StreamExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tonic::service::InterceptorLayer;
use tonic::service::interceptor::InterceptedService;

use crate::config::Config;
use crate::identity::{FIRST_NODE, IdentityError, node_name, prepare_data_dir};
use crate::incoming::{incoming, make_room};
use crate::local::LocalNode;
use crate::socket::{Admission, SocketError, admit_root, listen};
use crate::system::{KernelEntropy, SystemClock};
use crate::{facts, notify};

/// Why the daemon did not start, or why it ended.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// Who this node is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
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
    /// The roots.
    #[error(transparent)]
    Roots(#[from] RootError),
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

/// Runs the daemon until it is told to end.
pub(crate) async fn run(config: Config) -> Result<(), RunError> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    make_room();
    prepare_data_dir(&config.storage.data_dir)?;
    let replica = Arc::new(Replica::default());
    let raft = open_log(&config, &replica).await?;
    let ended = tokio::select! {
        ended = serve(&config, &raft, replica) => ended,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
    };
    tracing::info!("ending; guests go on");
    raft.shutdown().await;
    ended
}

async fn open_log(config: &Config, replica: &Arc<Replica>) -> Result<RaftNode, RunError> {
    let machine = Arc::clone(replica);
    let raft = RaftNode::open(RaftOptions::new(FIRST_NODE, &config.storage.data_dir), machine).await?;
    raft.initialize_single().await?;
    let mut standings = raft.standings();
    while let Some(standing) = standings.next().await {
        if standing.leads() {
            raft.recovered().await?;
            return Ok(raft);
        }
        if let Some(reason) = standing.stopped {
            return Err(NodeStopped { reason }.into());
        }
    }
    Err(NodeStopped { reason: "it ended before it led".to_owned() }.into())
}

/// Everything that runs at once. The first part to end, ends the daemon.
async fn serve(config: &Config, raft: &RaftNode, replica: Arc<Replica>) -> Result<(), RunError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let entropy: Arc<dyn Entropy> = Arc::new(KernelEntropy);
    let systemd = Arc::new(Systemd::connect().await?);
    let confinement: Arc<dyn Confinement> = Arc::new(confinement(config, &systemd));
    let nix = Arc::new(NixCli::new(nix_options(config), &confinement));
    let builder = Builder { inbox: nix.clone(), evaluator: nix.clone(), store: nix.clone() };
    let server = Server {
        node: FIRST_NODE,
        version: env!("CARGO_PKG_VERSION"),
        replica,
        consensus: Arc::new(raft.clone()),
        clock: Arc::clone(&clock),
        entropy: Arc::clone(&entropy),
        builder: config.node.roles.contains(&Role::Builder).then_some(builder),
    };
    bootstrap::found_cluster(&server, &node_name(config.node.name.clone())?, &config.node.roles).await?;

    let local = LocalNode { node: FIRST_NODE, socket: config.api.socket.clone() };
    let builds = BuildsInFlight::default();
    let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
    let (listener, admission) = listen(&config.api.socket, &config.api.group)?;
    parts.spawn(api(server.clone(), builds.clone(), local.clone(), listener, admission));
    if config.node.roles.contains(&Role::Host) {
        let host = Host {
            hello: Hello {
                node: FIRST_NODE,
                daemon: DaemonId(entropy.id()),
                boot: facts::boot_id()?,
                facts: facts::facts(),
            },
            layout: HostLayout {
                state_dir: config.host.state_dir.display().to_string(),
                runtime_dir: config.host.runtime_dir.display().to_string(),
                bridge: config.host.bridge.clone(),
            },
            servers: Arc::new(local),
            units: systemd,
            networks: Arc::new(IpNetworks::new(&config.host.ip_command)),
            store: nix,
            probe: Arc::new(NetworkProbe),
            clock,
        };
        parts.spawn(async { Ok(blixard_host::run(host).await?) });
    }
    parts.spawn(run_until_stopped(leader::run(server.clone())));
    parts.spawn(async move {
        roots::run(server, builds).await;
        // A node that is no builder has no roots to keep, and that is no reason to end.
        std::future::pending().await
    });
    notify::ready();
    tracing::info!(socket = %config.api.socket.display(), "ready");
    match parts.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
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

/// The leader's duties end only with the consensus node.
async fn run_until_stopped(duties: impl Future<Output = ()>) -> Result<(), RunError> {
    duties.await;
    Err(NodeStopped { reason: "the journal says why".to_owned() }.into())
}

async fn api(
    server: Server,
    builds: BuildsInFlight,
    local: LocalNode,
    listener: tokio::net::UnixListener,
    admission: Admission,
) -> Result<(), RunError> {
    let services = services(&server, builds, Arc::new(local));
    let host: InterceptedService<HostServiceServer<_>, _> =
        InterceptedService::new(services.host, admit_root as fn(_) -> _);
    tonic::transport::Server::builder()
        .layer(InterceptorLayer::new(move |request| admission.admit(request)))
        .add_service(services.vm)
        .add_service(services.deploy)
        .add_service(services.cluster)
        .add_service(host)
        .add_service(console::service(Arc::new(Journalctl::new("journalctl"))))
        .serve_with_incoming(incoming(listener))
        .await?;
    Ok(())
}
