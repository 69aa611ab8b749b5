//! How this server is, and how the others say that they are.

use std::time::Duration;

use blixard_core::state::{HealthStatus, Phase, Run};
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::{MemberReport, MemberStatus, StatusRequest, StatusResponse, StorageUse};
use blixard_types::{LogPosition, NodeId};
use futures_util::future::join_all;
use tonic::{Code, Response, Status};

use super::{ClusterApi, shown_role};
use crate::{Server, status};

/// How long a member may take to say how it is.
const PATIENCE: Duration = Duration::from_secs(2);

impl ClusterApi {
    pub(super) async fn status_of(&self, request: StatusRequest) -> StatusResponse {
        let mut response = self.own(request.digest).await;
        if request.members {
            response.members = self.members(&response, request.digest).await;
        }
        response
    }

    async fn own(&self, digest: bool) -> StatusResponse {
        let Server { node, version, replica, log, .. } = &self.server;
        let standing = log.standing();
        let index = |position: Option<LogPosition>| position.map(|position| position.index);
        let healthy = |run: &Run| {
            let Run::Placed { phase: Phase::Running { health, .. }, .. } = run else {
                return false;
            };
            *health == HealthStatus::Healthy
        };
        let mut response = replica.read(|state| StatusResponse {
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
            authority: state.registry.authority.map(|hash| hash.0.to_vec().into()).unwrap_or_default(),
            ..StatusResponse::default()
        });
        if digest {
            let (applied, digest) = replica.digest_now();
            response.applied_index = response.applied_index.max(applied.0);
            response.digest = digest.0.to_vec().into();
        }
        response.storage = self.storage().await;
        response
    }

    async fn storage(&self) -> Option<StorageUse> {
        let used = self.server.membership.storage().await.ok()?;
        Some(StorageUse {
            log_bytes: used.log_bytes,
            checkpoint_bytes: used.checkpoint_bytes,
            log_entries: used.log_entries,
            free_bytes: self.server.disk.free_bytes(),
        })
    }

    /// Every member, this one from what is known, the others from what they say.
    async fn members(&self, own: &StatusResponse, digest: bool) -> Vec<MemberStatus> {
        let standing = self.server.log.standing();
        let asked = standing.members.iter().map(|member| async {
            let answer = if member.node == self.server.node {
                Ok(own.clone())
            } else {
                self.ask(member.node, digest).await
            };
            let (report, unreachable) = match answer {
                Ok(answer) => (Some(report(answer)), String::new()),
                Err(status) => (None, status::first_line(&status)),
            };
            MemberStatus {
                node: member.node.0,
                name: member.name.clone(),
                address: member.address.clone(),
                role: shown_role(&standing.members, member.node).map(Into::into).unwrap_or_default(),
                report,
                unreachable,
            }
        });
        join_all(asked).await
    }

    /// Whether a node's daemon says anything at all.
    pub(super) async fn answers(&self, node: NodeId) -> bool {
        // A node that is no server serves less than this, and says so.
        let says = |status: &Status| status.code() == Code::Unimplemented;
        node == self.server.node || self.ask(node, false).await.map_or_else(|status| says(&status), |_| true)
    }

    async fn ask(&self, node: NodeId, digest: bool) -> Result<StatusResponse, Status> {
        let asked = async {
            let channel = self.server.peers.channel(node).await?;
            let request = StatusRequest { members: false, digest };
            ClusterServiceClient::new(channel).status(request).await
        };
        match tokio::time::timeout(PATIENCE, asked).await {
            Ok(answer) => answer.map(Response::into_inner),
            Err(_) => Err(Status::deadline_exceeded(format!("no answer within {} s", PATIENCE.as_secs()))),
        }
    }
}

fn report(status: StatusResponse) -> MemberReport {
    MemberReport {
        version: status.version,
        term: status.term,
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        storage: status.storage,
        digest: status.digest,
        leader: status.leader,
    }
}
