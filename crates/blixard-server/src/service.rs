//! The gRPC services of a server. A handler decodes, asks or proposes, and maps; it decides nothing.

mod cluster;
pub(crate) mod console;
mod deploy;
mod host;
mod join;
mod peer;
mod placement;
mod store;
mod vm;
mod volume;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::nix::{GarbageCollector, NixStore};
use blixard_core::state::ClusterState;
use blixard_proto::v1::cluster_service_server::ClusterServiceServer;
use blixard_proto::v1::deploy_service_server::DeployServiceServer;
use blixard_proto::v1::host_service_server::HostServiceServer;
use blixard_proto::v1::join_service_server::JoinServiceServer;
use blixard_proto::v1::peer_service_server::PeerServiceServer;
use blixard_proto::v1::placement_service_server::PlacementServiceServer;
use blixard_proto::v1::store_service_server::StoreServiceServer;
use blixard_proto::v1::vm_service_server::VmServiceServer;
use blixard_proto::v1::volume_service_server::VolumeServiceServer;
use futures_util::{FutureExt, Stream, StreamExt, stream};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use crate::Server;
use crate::roots::BuildsInFlight;
use crate::service::console::ConsoleAccess;
use crate::status;

pub use peer::{CallingNode, ShownCertificate};
pub(crate) use peer::{certify, no_key};
pub use store::{StoreOfHost, store_of_host};

/// A stream of answers.
type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

/// The services of one server.
#[derive(Clone)]
pub struct Services {
    /// The cluster and its nodes.
    pub cluster: ClusterServiceServer<cluster::ClusterApi>,
    /// Deployments.
    pub deploy: DeployServiceServer<deploy::DeployApi>,
    /// Host agents.
    pub host: HostServiceServer<host::HostApi>,
    /// Machines that would join.
    pub join: JoinServiceServer<join::JoinApi>,
    /// Other nodes.
    pub peer: PeerServiceServer<peer::PeerApi>,
    /// Where vms are that run already.
    pub placement: PlacementServiceServer<placement::PlacementApi>,
    /// Vms.
    pub vm: VmServiceServer<vm::VmApi>,
    /// Volumes.
    pub volume: VolumeServiceServer<volume::VolumeApi>,
}

/// Makes the service of this node's store.
#[must_use]
pub fn store_service<T: NixStore + GarbageCollector>(server: &Server, store: Arc<T>) -> StoreService {
    StoreServiceServer::new(store::StoreApi { server: server.clone(), store: store::OwnStore::new(store) })
}

/// The service of a node's store.
pub type StoreService = StoreServiceServer<store::StoreApi>;

/// Makes the services of a server.
#[must_use]
pub fn services(server: &Server, builds: BuildsInFlight, consoles: Arc<dyn ConsoleAccess>) -> Services {
    let server = server.clone();
    Services {
        cluster: ClusterServiceServer::new(cluster::ClusterApi { server: server.clone() }),
        deploy: DeployServiceServer::new(deploy::DeployApi {
            server: server.clone(),
            builds,
            builders: deploy::BuildersElsewhere::default(),
        }),
        host: HostServiceServer::new(host::HostApi { server: server.clone() }),
        join: JoinServiceServer::new(join::JoinApi { server: server.clone() }),
        peer: PeerServiceServer::new(peer::PeerApi { server: server.clone() }),
        placement: PlacementServiceServer::new(placement::PlacementApi { server: server.clone() }),
        volume: VolumeServiceServer::new(volume::VolumeApi { server: server.clone() }),
        vm: VmServiceServer::new(vm::VmApi { server, consoles }),
    }
}

/// Longest time a call waits for something to happen: as long as anyone gives a drain. Who waits costs next to nothing, and
/// a call whose caller is gone ends.
const WAIT_MAX: Duration = Duration::from_hours(30 * 24);

impl Server {
    /// Waits until the state is as wanted, or the time is over. Whether it got there is for the caller to see.
    async fn wait(&self, wait_ms: u64, arrived: impl Fn(&ClusterState) -> bool) {
        let mut changes = self.replica.changes();
        let there = async {
            loop {
                changes.mark_unchanged();
                if self.replica.read(&arrived) || changes.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(Duration::from_millis(wait_ms).min(WAIT_MAX), there).await;
    }

    /// Makes a read of the local state that follows linearizable.
    pub(crate) async fn linearize(&self) -> Result<(), Status> {
        self.consensus.linearize().await.map(|_| ()).map_err(|error| status::linearize(&error))
    }
}

/// A stream of what `work` sends, which ends with its error if it fails. The work is driven by the
/// reader of the stream and dropped with it: nothing outlives the call.
fn answers<T, F>(capacity: usize, work: impl FnOnce(mpsc::Sender<T>) -> F) -> Answers<T>
where
    T: Send + 'static,
    F: Future<Output = Result<(), Status>> + Send + 'static,
{
    let (sender, receiver) = mpsc::channel(capacity);
    let sent = ReceiverStream::new(receiver).map(Ok);
    let failure = work(sender).into_stream().filter_map(|done| std::future::ready(done.err().map(Err)));
    // What was sent comes before the failure: the receiver is looked at first.
    Box::pin(stream::select_with_strategy(sent, failure, |(): &mut ()| stream::PollNext::Left))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use blixard_core::command::Command;
    use blixard_core::state::Role;

    use super::*;
    use crate::leader::leases::tests::bench::{Bench, settle};

    #[tokio::test(start_paused = true)]
    async fn a_drain_is_waited_for_as_long_as_its_deadline_says() {
        let (is_empty, ended) = (AtomicBool::new(false), AtomicBool::new(false));
        let bench = Bench::elected(None);
        let wait = async {
            bench.server.wait(8 * 3_600_000, |_| is_empty.load(Ordering::Relaxed)).await;
            ended.store(true, Ordering::Relaxed);
        };
        let drained = async {
            tokio::time::advance(Duration::from_hours(3)).await;
            settle().await;
            assert!(!ended.load(Ordering::Relaxed), "it was not waited for");
            is_empty.store(true, Ordering::Relaxed);
            let (node, name) = (blixard_types::NodeId(9), "n9".parse().unwrap());
            bench.log.append(Command::RegisterNode { node, name, roles: [Role::Host].into() });
        };
        tokio::join!(wait, drained);
    }
}
