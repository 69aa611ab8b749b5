//! The way of this node's own host agent to the leader and to closures, and of the API to consoles on any node.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use blixard_closure::{FetchLimits, PeerAccess};
use blixard_core::ports::BoxFuture;
use blixard_core::ports::consensus::SharedConsensus;
use blixard_host::{AccessError, ServerAccess};
use blixard_proto::v1::console_service_client::ConsoleServiceClient;
use blixard_proto::v1::host_service_client::HostServiceClient;
use blixard_server::ConsoleAccess;
use blixard_types::NodeId;
use tonic::Status;
use tonic::transport::{Channel, Endpoint};

use super::Mesh;
use crate::local::LocalNode;

/// Local calls by the socket, others over TLS.
#[derive(Clone)]
pub(crate) struct ClusterAccess {
    pub(crate) local: LocalNode,
    pub(crate) log: SharedConsensus,
    pub(crate) mesh: Mesh,
}

impl ServerAccess for ClusterAccess {
    /// Grants are the leader's. It is asked anew each time, so that a lost leader is followed.
    fn connect(&self) -> BoxFuture<'_, Result<HostServiceClient<Channel>, AccessError>> {
        match self.log.standing().leader {
            Some(leader) if leader != self.local.node => {
                let client = HostServiceClient::new(self.mesh.channel_to(leader));
                Box::pin(std::future::ready(Ok(client)))
            }
            Some(_) => self.local.connect(),
            None => {
                let reason = "no leader is known".to_owned();
                Box::pin(std::future::ready(Err(AccessError { reason })))
            }
        }
    }
}

impl ConsoleAccess for ClusterAccess {
    fn of(&self, node: NodeId) -> BoxFuture<'_, Result<ConsoleServiceClient<Channel>, Status>> {
        if node == self.local.node {
            return self.local.of(node);
        }
        let client = ConsoleServiceClient::new(self.mesh.channel_to(node));
        Box::pin(std::future::ready(Ok(client)))
    }
}

/// The way to the closures of other nodes: connections of their own, so that bulk holds up nothing else,
/// least of all a heartbeat, and as wide as the memory for them allows.
pub(crate) struct ClosureAccess {
    node: NodeId,
    mesh: Mesh,
    window: u32,
    channels: Mutex<BTreeMap<NodeId, Channel>>,
}

impl ClosureAccess {
    pub(crate) fn new(node: NodeId, mesh: Mesh, limits: FetchLimits) -> Self {
        Self { node, mesh, window: limits.window(), channels: Mutex::default() }
    }

    fn channel_to(&self, node: NodeId) -> Channel {
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        let dial = || self.mesh.dial_with(node, None, |endpoint| windowed(endpoint, self.window));
        channels.entry(node).or_insert_with(dial).clone()
    }
}

fn windowed(endpoint: Endpoint, window: u32) -> Endpoint {
    endpoint.initial_stream_window_size(window).initial_connection_window_size(window)
}

impl PeerAccess for ClosureAccess {
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, String>> {
        let reached = if node == self.node {
            Err("this node has no more than its store".to_owned())
        } else {
            Ok(self.channel_to(node))
        };
        Box::pin(std::future::ready(reached))
    }
}
