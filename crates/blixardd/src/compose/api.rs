//! Who is served what: local callers over the socket, nodes and strangers over TLS.

use std::sync::Arc;

use blixard_closure::ClosureServer;
use blixard_host::console;
use blixard_proto::v1::host_service_server::HostServiceServer;
use blixard_raft::RaftNode;
use blixard_server::{Server, Services, StoreService};
use blixard_systemd::Journalctl;
use blixard_types::NodeAddress;
use tonic::service::InterceptorLayer;
use tonic::service::interceptor::InterceptedService;

use super::RunError;
use crate::cluster::{self, Incoming, StateGate, Tls, calling_node, servers_only};
use crate::incoming::incoming;
use crate::socket::{Admission, admit_root};

/// Serves root, and the members of a group.
pub(super) async fn local(
    services: Services,
    stores: StoreService,
    listener: tokio::net::UnixListener,
    admission: Admission,
) -> Result<(), RunError> {
    let host: InterceptedService<HostServiceServer<_>, _> =
        InterceptedService::new(services.host, admit_root as fn(_) -> _);
    tonic::transport::Server::builder()
        .layer(InterceptorLayer::new(move |request| admission.admit(request)))
        .add_service(services.vm)
        .add_service(services.volume)
        .add_service(services.placement)
        .add_service(services.deploy)
        .add_service(services.cluster)
        .add_service(stores)
        .add_service(host)
        .add_service(console::service(Arc::new(Journalctl::new("journalctl"))))
        .serve_with_incoming(incoming(listener))
        .await?;
    Ok(())
}

/// Serves other nodes, from the moment that this one has a certificate.
pub(super) async fn cluster(
    server: Server,
    (services, stores): (Services, StoreService),
    closures: ClosureServer,
    raft: RaftNode,
    listen: Option<NodeAddress>,
    tls: Tls,
) -> Result<(), RunError> {
    let gate = Arc::new(StateGate(Arc::clone(&server.replica)));
    let made = cluster::await_tls(&server.keyring, gate.clone(), &tls).await?;
    let renewals = cluster::follow_renewals(&server.keyring, &made);
    let Some(address) = listen else {
        renewals.await;
        return Ok(());
    };
    let listener = cluster::listen(&address).await?;
    tracing::info!(%address, "listening for other nodes");
    let (Incoming { members, strangers }, accept) = cluster::incoming(listener, made.clone(), gate);
    let consensus = InterceptedService::new(
        blixard_peer::service(Arc::new(raft)),
        servers_only(Arc::clone(&server.replica)),
    );
    let members = blixard_peer::configure_server(tonic::transport::Server::builder())
        .layer(InterceptorLayer::new(calling_node))
        .add_service(services.vm)
        .add_service(services.volume)
        .add_service(services.placement)
        .add_service(services.deploy)
        .add_service(services.cluster)
        .add_service(services.host)
        .add_service(services.peer)
        .add_service(closures.service())
        .add_service(stores)
        .add_service(consensus)
        .add_service(console::service(Arc::new(Journalctl::new("journalctl"))))
        .serve_with_incoming(members);
    let strangers =
        tonic::transport::Server::builder().add_service(services.join).serve_with_incoming(strangers);
    tokio::select! {
        served = members => served?,
        served = strangers => served?,
        () = accept => {}
        () = renewals => {}
    }
    Ok(())
}
