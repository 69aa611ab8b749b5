//! `ClusterService`: the cluster and its nodes.

use blixard_core::state::{HealthStatus, Phase, Run};
use blixard_proto::node_view;
use blixard_proto::v1::cluster_service_server::ClusterService;
use blixard_proto::v1::{ListNodesRequest, ListNodesResponse, StatusRequest, StatusResponse};
use tonic::{Request, Response, Status};

use crate::Server;

#[derive(Clone)]
pub struct ClusterApi {
    pub(super) server: Server,
}

#[tonic::async_trait]
impl ClusterService for ClusterApi {
    /// Answers from this node's own state, also without a quorum: it is what one asks when the cluster
    /// does not work.
    async fn status(&self, _: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        let Server { node, version, consensus, .. } = &self.server;
        let standing = consensus.standing();
        let index = |position: Option<blixard_types::LogPosition>| position.map(|position| position.index);
        let healthy = |run: &Run| {
            let Run::Placed { phase: Phase::Running { health, .. }, .. } = run else {
                return false;
            };
            *health == HealthStatus::Healthy
        };
        let response = self.server.replica.read(|state| StatusResponse {
            cluster_id: state.identity.map(|identity| identity.cluster.to_string()).unwrap_or_default(),
            incarnation: state.incarnation().0,
            node: node.0,
            node_name: state.nodes.get(node).map(|node| node.name.to_string()).unwrap_or_default(),
            version: (*version).to_owned(),
            term: standing.term,
            leader: standing.leader.map(|leader| leader.0),
            voters: standing.voters.iter().map(|voter| voter.0).collect(),
            last_log_index: index(standing.last_log).unwrap_or_default(),
            applied_index: index(standing.applied).unwrap_or_default(),
            snapshot_index: index(standing.snapshot),
            vms: state.vms.len() as u64,
            vms_healthy: state.vms.values().filter(|vm| healthy(&vm.run)).count() as u64,
            nodes: state.nodes.len() as u64,
        });
        Ok(Response::new(response))
    }

    async fn list_nodes(&self, _: Request<ListNodesRequest>) -> Result<Response<ListNodesResponse>, Status> {
        self.server.linearize().await?;
        let response = self.server.replica.read(|state| ListNodesResponse {
            nodes: state.nodes.iter().map(|(&id, node)| node_view(state, id, node)).collect(),
            revision: state.applied.revision().0,
        });
        Ok(Response::new(response))
    }
}
