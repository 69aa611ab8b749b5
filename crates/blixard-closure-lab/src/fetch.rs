//! Fetching, from peers that are named by their addresses.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use blixard_closure::{FetchLimits, Fetcher, ImporterCommand, PeerAccess};
use blixard_core::ports::BoxFuture;
use blixard_core::ports::closure::{ClosureFetcher as _, FetchProgress};
use blixard_core::ports::nix::RootName;
use blixard_types::{ClosureRef, NodeId};
use clap::Args;
use tonic::transport::{Channel, Endpoint};

use crate::store::{MachineClock, peak_memory_kib, store};

/// Where the daemon has its roots.
const ROOTS: &str = "/nix/var/nix/gcroots/blixard";

#[derive(Debug, Args)]
pub(crate) struct FetchArguments {
    /// The closure's reference, as JSON.
    #[arg(long)]
    closure: String,
    /// Peers, numbered from 1 in this order.
    #[arg(long = "peer", required = true)]
    peers: Vec<SocketAddr>,
    /// Bytes a second.
    #[arg(long)]
    rate: Option<u64>,
    /// Memory for what is on its way.
    #[arg(long)]
    memory_mib: Option<u64>,
    /// The root to make once it is there, below gcroots/blixard.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Say each step of the progress.
    #[arg(long)]
    progress: bool,
}

/// Fetches, roots, and says how it went.
pub(crate) async fn run(arguments: FetchArguments) -> anyhow::Result<ExitCode> {
    let closure: ClosureRef = serde_json::from_str(&arguments.closure)?;
    let peers: BTreeMap<NodeId, SocketAddr> = (1..).map(NodeId).zip(arguments.peers).collect();
    let nodes = peers.keys().copied().collect();
    let importer = ImporterCommand(vec![std::env::current_exe()?.into(), "import".into()]);
    let mut limits = FetchLimits { bytes_per_s: arguments.rate, ..FetchLimits::default() };
    if let Some(memory_mib) = arguments.memory_mib {
        limits.memory = memory_mib << 20;
    }
    let peers = Peers { addresses: peers, window: limits.window() };
    let fetcher = Fetcher::new(Arc::new(peers), importer, Arc::new(MachineClock), limits);
    let told = arguments.progress;
    let progress: FetchProgress = Arc::new(move |progress| {
        if told {
            println!("{progress}");
        }
    });
    let path = closure.root.clone();
    match fetcher.fetch(closure, nodes, progress).await {
        Ok(held) => {
            if let Some(root) = arguments.root {
                // As the daemon does it: a link alone does not keep a path from a collection that runs already.
                let name = root.strip_prefix(ROOTS).context("a root of Blixard's")?;
                store().add_root(RootName(name.display().to_string()), path).await?;
            }
            drop(held);
            println!("fetched; peak {} KiB", peak_memory_kib()?);
            Ok(ExitCode::SUCCESS)
        }
        Err(error) => {
            println!("not fetched: {error}");
            Ok(ExitCode::FAILURE)
        }
    }
}

struct Peers {
    addresses: BTreeMap<NodeId, SocketAddr>,
    window: u32,
}

impl PeerAccess for Peers {
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, String>> {
        Box::pin(async move {
            let address = self.addresses.get(&node).ok_or("no such node")?;
            let endpoint =
                Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
            let endpoint =
                endpoint.initial_stream_window_size(self.window).initial_connection_window_size(self.window);
            endpoint.connect().await.map_err(|error| format!("cannot connect to {address}: {error}"))
        })
    }
}
