//! The way to the console service of a node.

use blixard_proto::v1::console_service_client::ConsoleServiceClient;
use blixard_types::NodeId;
use futures_util::future::BoxFuture;
use tonic::Status;
use tonic::transport::Channel;

/// Connects to the console service of any node of the cluster.
pub trait ConsoleAccess: Send + Sync + 'static {
    /// A client of that node.
    fn of(&self, node: NodeId) -> BoxFuture<'_, Result<ConsoleServiceClient<Channel>, Status>>;
}
