//! The way to this node's own services, over its own socket: on one machine too, host and server speak
//! the same messages.

use std::path::PathBuf;

use blixard_core::ports::BoxFuture;
use blixard_host::{AccessError, ServerAccess};
use blixard_proto::v1::console_service_client::ConsoleServiceClient;
use blixard_proto::v1::host_service_client::HostServiceClient;
use blixard_server::ConsoleAccess;
use blixard_types::NodeId;
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::Status;
use tonic::transport::{Channel, Endpoint, Error, Uri};

/// This node.
#[derive(Debug, Clone)]
pub(crate) struct LocalNode {
    pub(crate) node: NodeId,
    pub(crate) socket: PathBuf,
}

impl LocalNode {
    async fn channel(&self) -> Result<Channel, Error> {
        let socket = self.socket.clone();
        let connect = tower::service_fn(move |_: Uri| {
            let socket = socket.clone();
            async move { UnixStream::connect(socket).await.map(TokioIo::new) }
        });
        // The address is not used: the connector knows where to go.
        Endpoint::from_static("http://localhost").connect_with_connector(connect).await
    }
}

impl ServerAccess for LocalNode {
    fn connect(&self) -> BoxFuture<'_, Result<HostServiceClient<Channel>, AccessError>> {
        Box::pin(async {
            let channel = self.channel().await.map_err(|error| AccessError { reason: error.to_string() })?;
            Ok(HostServiceClient::new(channel))
        })
    }
}

impl ConsoleAccess for LocalNode {
    fn of(&self, node: NodeId) -> BoxFuture<'_, Result<ConsoleServiceClient<Channel>, Status>> {
        Box::pin(async move {
            if node != self.node {
                return Err(Status::unavailable(format!("node {node} cannot be reached from here")));
            }
            let channel = self.channel().await.map_err(|error| Status::unavailable(error.to_string()))?;
            Ok(ConsoleServiceClient::new(channel))
        })
    }
}
