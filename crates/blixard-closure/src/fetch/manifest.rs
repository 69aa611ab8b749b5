//! The manifest, from the first peer that gives the right one.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::closure::FetchError;
use blixard_core::transfer::PeerFault;
use blixard_proto::v1::closure_service_client::ClosureServiceClient;
use blixard_proto::{ManifestReader, manifest_request};
use blixard_types::{ClosureRef, Manifest, NodeId};
use tokio_stream::StreamExt as _;
use tonic::Status;

use super::PeerAccess;

/// How often all peers are asked, and the pause between.
const ROUNDS: u32 = 3;
const PAUSE: Duration = Duration::from_millis(500);
/// A manifest is some hundred kilobytes; who needs longer is as good as gone.
const LIMIT: Duration = Duration::from_mins(1);

/// The manifest, and the peers that were not caught, those first that have answered.
pub(super) async fn fetch(
    access: &dyn PeerAccess,
    closure: &ClosureRef,
    peers: &[NodeId],
) -> Result<(Arc<Manifest>, Vec<NodeId>), FetchError> {
    let mut faults: BTreeMap<NodeId, PeerFault> = BTreeMap::new();
    for round in 0..ROUNDS {
        if round > 0 {
            tokio::time::sleep(PAUSE * round).await;
        }
        for &peer in peers {
            if matches!(faults.get(&peer), Some(PeerFault::Lied(_))) {
                continue;
            }
            match of_peer(access, closure, peer).await {
                Ok(manifest) => {
                    faults.remove(&peer);
                    return Ok((Arc::new(manifest), order(peers, &faults)));
                }
                Err(fault) => {
                    tracing::warn!(node = %peer, %fault, root = %closure.root, "no manifest from this node");
                    faults.insert(peer, fault);
                }
            }
        }
    }
    Err(FetchError::Peers(faults.into_iter().collect()))
}

fn order(peers: &[NodeId], faults: &BTreeMap<NodeId, PeerFault>) -> Vec<NodeId> {
    let honest = peers.iter().filter(|peer| !matches!(faults.get(peer), Some(PeerFault::Lied(_))));
    let (silent, good): (Vec<NodeId>, Vec<NodeId>) = honest.partition(|peer| faults.contains_key(peer));
    good.into_iter().chain(silent).collect()
}

async fn of_peer(access: &dyn PeerAccess, closure: &ClosureRef, peer: NodeId) -> Result<Manifest, PeerFault> {
    let broken = |status: Status| PeerFault::Broken(status.message().to_owned());
    let read = async {
        let channel = super::connect(access, peer).await?;
        let mut client = ClosureServiceClient::new(channel);
        let parts = client.manifest(manifest_request(closure)).await;
        let mut parts = parts.map_err(broken)?.into_inner();
        let mut reader = ManifestReader::new(closure);
        let lied = |error: blixard_proto::ConvertError| PeerFault::Lied(format!("a manifest: {error}"));
        while let Some(part) = parts.next().await {
            reader.push(part.map_err(broken)?).map_err(lied)?;
        }
        reader.finish().map_err(lied)
    };
    let late = |_| PeerFault::Broken(format!("no manifest within {} s", LIMIT.as_secs()));
    tokio::time::timeout(LIMIT, read).await.map_err(late)?
}
