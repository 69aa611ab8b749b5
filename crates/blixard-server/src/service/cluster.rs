//! `ClusterService`: the cluster and its nodes.

mod admission;
mod change;
mod status;
mod watch;

use std::sync::Arc;

use blixard_core::ports::members::{Member, MemberRole};
use blixard_proto::node_view;
use blixard_proto::v1::NodeState;
use blixard_proto::v1::cluster_service_server::ClusterService;
use blixard_proto::v1::{CreateTokenRequest, CreateTokenResponse, InitRequest, InitResponse};
use blixard_proto::v1::{DeclareLostRequest, DeclareLostResponse, SetAdmissionRequest, SetAdmissionResponse};
use blixard_proto::v1::{ListNodesRequest, ListNodesResponse, RemoveNodeRequest, RemoveNodeResponse};
use blixard_proto::v1::{
    MemberRole as ShownRole, StatusRequest, StatusResponse, WatchRequest, WatchResponse,
};
use blixard_types::NodeId;
use tonic::{Request, Response, Status};

pub(super) use change::find;

use super::{Answers, answers};
use crate::Server;

/// Answers that may wait for a slow watcher. One that stays behind for longer than events are kept is
/// told so and ended; nothing else waits for it.
const EVENTS_QUEUED: usize = 64;

#[derive(Clone)]
pub struct ClusterApi {
    pub(super) server: Server,
}

fn shown_role(members: &Arc<[Member]>, node: NodeId) -> Option<ShownRole> {
    let member = members.iter().find(|member| member.node == node)?;
    Some(match member.role {
        MemberRole::Learner => ShownRole::Learner,
        MemberRole::Voter => ShownRole::Voter,
    })
}

#[tonic::async_trait]
impl ClusterService for ClusterApi {
    /// Answers from this node's own state, also without a quorum: it is what one asks when the cluster
    /// does not work.
    async fn status(&self, request: Request<StatusRequest>) -> Result<Response<StatusResponse>, Status> {
        Ok(Response::new(self.status_of(request.into_inner()).await))
    }

    async fn list_nodes(
        &self,
        request: Request<ListNodesRequest>,
    ) -> Result<Response<ListNodesResponse>, Status> {
        if !request.into_inner().stale {
            self.server.linearize().await?;
        }
        let standing = self.server.log.standing();
        let response = self.server.replica.read(|state| {
            let nodes = state.nodes.iter().map(|(&id, node)| {
                let mut view = node_view(state, id, node);
                view.member = shown_role(&standing.members, id).map(Into::into);
                // Only a host opens a session; of a server the group knows that it is there.
                if view.member.is_some() && view.state() == NodeState::Joining {
                    view.state = NodeState::Ready.into();
                }
                view.leads = standing.leader == Some(id);
                view
            });
            ListNodesResponse { nodes: nodes.collect(), revision: state.applied.revision().0 }
        });
        Ok(Response::new(response))
    }

    async fn init(&self, _: Request<InitRequest>) -> Result<Response<InitResponse>, Status> {
        self.init_cluster().await.map(Response::new)
    }

    async fn create_token(
        &self,
        request: Request<CreateTokenRequest>,
    ) -> Result<Response<CreateTokenResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        self.make_token(request, by).await.map(Response::new)
    }

    async fn remove_node(
        &self,
        request: Request<RemoveNodeRequest>,
    ) -> Result<Response<RemoveNodeResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        self.take_out(request, by).await.map(Response::new)
    }

    async fn set_admission(
        &self,
        request: Request<SetAdmissionRequest>,
    ) -> Result<Response<SetAdmissionResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        self.admit(request, by).await.map(Response::new)
    }

    async fn declare_lost(
        &self,
        request: Request<DeclareLostRequest>,
    ) -> Result<Response<DeclareLostResponse>, Status> {
        let (request, by) = self.server.asked(request)?;
        self.give_up(request, by).await.map(Response::new)
    }

    type WatchStream = Answers<WatchResponse>;

    async fn watch(&self, request: Request<WatchRequest>) -> Result<Response<Self::WatchStream>, Status> {
        let (server, request) = (self.server.clone(), request.into_inner());
        Ok(Response::new(answers(EVENTS_QUEUED, |outgoing| watch::run(server, request, outgoing))))
    }
}
