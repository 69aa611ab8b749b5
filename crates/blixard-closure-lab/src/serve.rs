//! Serving, over plain TCP.

use std::net::SocketAddr;
use std::sync::Arc;

use blixard_closure::{ClosureServer, ServeLimits};
use blixard_proto::v1::closure_service_server::ClosureServiceServer;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tonic::transport::Server;

use crate::lie::{Liar, Lie};
use crate::store::{MachineClock, peak_memory_kib, store};

#[derive(Debug, Args)]
pub(crate) struct ServeArguments {
    /// Where to listen.
    #[arg(long)]
    listen: SocketAddr,
    /// Bytes a second.
    #[arg(long)]
    rate: Option<u64>,
    /// What to send instead of the truth.
    #[arg(long, value_enum)]
    lie: Option<Lie>,
}

/// Until SIGTERM; then it prints its peak of memory.
pub(crate) async fn run(arguments: ServeArguments) -> anyhow::Result<()> {
    let limits = ServeLimits { bytes_per_s: arguments.rate, ..ServeLimits::default() };
    let honest = ClosureServer::new(store(), Arc::new(MachineClock), limits, |_| None);
    let mut terminate = signal(SignalKind::terminate())?;
    let end = async move {
        terminate.recv().await;
    };
    let server = Server::builder();
    let listen = arguments.listen;
    let served = async {
        match arguments.lie {
            None => serve(server, honest.service(), listen).await,
            Some(lie) => serve(server, ClosureServiceServer::new(Liar { honest, lie }), listen).await,
        }
    };
    tokio::select! {
        served = served => served?,
        () = end => {}
    }
    println!("peak {} KiB", peak_memory_kib()?);
    Ok(())
}

async fn serve<S>(
    mut server: Server,
    service: ClosureServiceServer<S>,
    listen: SocketAddr,
) -> Result<(), tonic::transport::Error>
where
    S: blixard_proto::v1::closure_service_server::ClosureService,
{
    server.add_service(service).serve(listen).await
}
