//! A host that is no server: it holds no log, runs what it is granted, and passes its users' calls on to a server.

use std::sync::Arc;

use blixard_closure::{ClosureServer, FileSigner};
use blixard_core::ports::Clock;
use blixard_host::console;
use blixard_nix::NixCli;
use blixard_pki::KeyFiles;
use blixard_proto::v1::cluster_service_server::ClusterServiceServer;
use blixard_proto::v1::deploy_service_server::DeployServiceServer;
use blixard_proto::v1::placement_service_server::PlacementServiceServer;
use blixard_proto::v1::store_service_server::StoreServiceServer;
use blixard_proto::v1::vm_service_server::VmServiceServer;
use blixard_proto::v1::volume_service_server::VolumeServiceServer;
use blixard_server::{Keyring, StoreOfHost, store_of_host};
use blixard_systemd::{Journalctl, Systemd};
use blixard_types::NodeAddress;
use futures_util::StreamExt as _;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::service::InterceptorLayer;

use super::agent::{Surroundings, agent};
use super::nix::nix;
use super::{RunError, for_ever, log};
use crate::binary_cache::BinaryCache;
use crate::cluster::{self, Incoming, Mesh, Tls, calling_node};
use crate::config::Config;
use crate::identity::{IdentityError, NodeFile, node_name};
use crate::incoming::incoming;
use crate::notify;
use crate::servers::{Book, Forwarded, Here, Servers};
use crate::socket::{Admission, listen};
use crate::system::{KernelEntropy, SystemClock};

/// Runs it until it is told to end.
pub(super) async fn run(
    config: &Config,
    member: NodeFile,
    told_to_end: impl Future<Output = ()>,
) -> Result<(), RunError> {
    if log::is_below(&config.storage.data_dir) {
        return Err(IdentityError::JoinedAsServer.into());
    }
    if config.cluster.listen.is_none() {
        tracing::warn!(
            "without `cluster.listen` no other node gets closures from here, and `vm logs` shows none of its vms"
        );
    }
    let ended = tokio::select! {
        ended = serve(config, member) => ended,
        () = told_to_end => Ok(()),
    };
    tracing::info!("ending; guests go on");
    ended
}

/// Everything that runs at once. The first part to end, ends the daemon.
async fn serve(config: &Config, member: NodeFile) -> Result<(), RunError> {
    let (data_dir, node) = (&config.storage.data_dir, member.node);
    let (tls, tls_of_mesh) = watch::channel(None);
    let book = Book::open(data_dir, &member)?;
    let (addresses, elsewhere) = (book.clone(), config.cluster.peers.clone());
    let mesh = Mesh::new(tls_of_mesh, Arc::new(move |node| addresses.address(node, &elsewhere)));
    let servers = Servers::new(node, book.clone(), mesh.clone());
    let keyring = Arc::new(Keyring::open(KeyFiles::below(data_dir))?);
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let systemd = Arc::new(Systemd::connect().await?);
    let nix = nix(config, &systemd);
    let mut parts: JoinSet<Result<(), RunError>> = JoinSet::new();
    let (listener, admission) = listen(&config.api.socket, &config.api.group)?;
    parts.spawn(local(servers.clone(), listener, admission));
    let shown = Shown::of(config, &nix, &clock, &book);
    parts.spawn(peers(Arc::clone(&keyring), book, shown, config.cluster.listen.clone(), tls));
    let name = node_name(config.node.name.clone())?;
    let here = Here { name: name.clone(), address: config.cluster.address().cloned() };
    parts.spawn(for_ever(servers.clone().follow(here)));
    parts.spawn(for_ever(servers.clone().renew(keyring, Arc::clone(&clock))));
    let signer = Arc::new(FileSigner::open(data_dir, &KernelEntropy)?);
    if let Some(cache) = BinaryCache::of(config, name.as_str(), nix.clone(), signer) {
        parts.spawn(for_ever(cache.serve()));
    }
    let servers = Arc::new(servers);
    let host = agent(config, Surroundings { node, servers, mesh, systemd, nix, clock })?;
    parts.spawn(async { Ok(blixard_host::run(host).await?) });
    notify::ready();
    tracing::info!(socket = %config.api.socket.display(), "ready, as a host that is no server");
    match parts.join_next().await {
        Some(ended) => ended?,
        None => Ok(()),
    }
}

/// Passes on what root and the members of a group ask.
async fn local(
    servers: Servers,
    listener: tokio::net::UnixListener,
    admission: Admission,
) -> Result<(), RunError> {
    let servers = &servers;
    tonic::transport::Server::builder()
        .layer(InterceptorLayer::new(move |request| admission.admit(request)))
        .add_service(Forwarded::<VmServiceServer<()>>::to(servers))
        .add_service(Forwarded::<VolumeServiceServer<()>>::to(servers))
        .add_service(Forwarded::<PlacementServiceServer<()>>::to(servers))
        .add_service(Forwarded::<DeployServiceServer<()>>::to(servers))
        .add_service(Forwarded::<ClusterServiceServer<()>>::to(servers))
        .add_service(Forwarded::<StoreServiceServer<()>>::to(servers))
        .serve_with_incoming(incoming(listener))
        .await?;
    Ok(())
}

/// What this node has that others may ask for.
struct Shown {
    closures: ClosureServer,
    store: StoreServiceServer<StoreOfHost>,
}

impl Shown {
    fn of(config: &Config, nix: &Arc<NixCli>, clock: &Arc<dyn Clock>, book: &Book) -> Self {
        let (limits, clock) = (config.transfer.serve(), Arc::clone(clock));
        let closures = ClosureServer::new(nix.clone(), clock, limits, cluster::caller);
        let book = book.clone();
        Self { closures, store: store_of_host(nix.clone(), move |node| book.is_server(node)) }
    }
}

/// Serves other nodes, from the moment that it is known who they are.
async fn peers(
    keyring: Arc<Keyring>,
    book: Book,
    shown: Shown,
    listen: Option<NodeAddress>,
    tls: Tls,
) -> Result<(), RunError> {
    let gate = Arc::new(book.clone());
    let made = cluster::await_tls(&keyring, gate.clone(), &tls).await?;
    let renewals = cluster::follow_renewals(&keyring, &made);
    let Some(address) = listen else {
        renewals.await;
        return Ok(());
    };
    book.await_list().await;
    let listener = cluster::listen(&address).await?;
    tracing::info!(%address, "listening for other nodes");
    let (Incoming { members, strangers }, accept) = cluster::incoming(listener, made.clone(), gate);
    let members = blixard_peer::configure_server(tonic::transport::Server::builder())
        .layer(InterceptorLayer::new(calling_node))
        .add_service(shown.closures.service())
        .add_service(shown.store)
        .add_service(console::service(Arc::new(Journalctl::new("journalctl"))))
        .serve_with_incoming(members);
    // Who wants to join does so at a server.
    let strangers = strangers.for_each(|stranger| async { drop(stranger) });
    tokio::select! {
        served = members => served?,
        () = strangers => {}
        () = accept => {}
        () = renewals => {}
    }
    Ok(())
}
