//! `DeployService`: checks the request and runs the deployment within the call.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::command::TakeOver;
use blixard_core::ports::nix::Selection;
use blixard_core::principal::Principal;
use blixard_core::state::{ClusterState, Departure, Node, Role};
use blixard_proto::hint::with_hint;
use blixard_proto::principal::{PRINCIPAL, principal_value};
use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::deploy_service_server::DeployService;
use blixard_proto::v1::peer_service_client::PeerServiceClient;
use blixard_proto::v1::{DeployEvent, DeployRequest, LeaderRequest, UploadRequest, UploadResponse};
use blixard_proto::{locked_source, random_id};
use blixard_types::{NodeId, NodeName, RequestId};
use futures_util::StreamExt;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, answers};
use crate::deploy::{DeployOrder, Effect, run};
use crate::roots::BuildsInFlight;
use crate::upload;
use crate::{Server, status};

/// Events that may wait for a slow caller; build logs beyond that are dropped, nothing else is.
const EVENTS_QUEUED: usize = 1024;

/// How long another builder may take to say that it is there. Within a data centre it takes a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_secs(3);

#[derive(Clone)]
pub struct DeployApi {
    pub(super) server: Server,
    pub(super) builds: BuildsInFlight,
    pub(super) builders: BuildersElsewhere,
}

/// Who was last passed something on to.
#[derive(Debug, Clone, Default)]
pub(super) struct BuildersElsewhere(Arc<Mutex<Option<NodeId>>>);

impl BuildersElsewhere {
    fn last(&self) -> MutexGuard<'_, Option<NodeId>> {
        // Nothing in here panics half way through a change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[tonic::async_trait]
impl DeployService for DeployApi {
    type DeployStream = Answers<DeployEvent>;

    async fn deploy(&self, request: Request<DeployRequest>) -> Result<Response<Self::DeployStream>, Status> {
        if self.server.builder.is_none() {
            return self.elsewhere(request).await;
        }
        let (request, by) = self.server.asked(request)?;
        let order = order(request, by)?;
        let (server, builds) = (self.server.clone(), self.builds.clone());
        let stream =
            answers(EVENTS_QUEUED, |events| async move { run(&server, &builds, order, &events).await });
        Ok(Response::new(stream))
    }

    type UploadStream = Answers<UploadResponse>;

    async fn upload(
        &self,
        request: Request<Streaming<UploadRequest>>,
    ) -> Result<Response<Self::UploadStream>, Status> {
        let parts = request.into_inner();
        if self.server.builder.is_none() {
            let mut builder = DeployServiceClient::new(self.builder_elsewhere().await?);
            // Who breaks off here breaks off there: the builder misses the end.
            let parts = parts.filter_map(|part| std::future::ready(part.ok()));
            let answers = builder.upload(parts).await?.into_inner();
            return Ok(Response::new(Box::pin(answers)));
        }
        let (server, builds) = (self.server.clone(), self.builds.clone());
        let stream = answers(upload::ANSWERS_QUEUED, |answers| async move {
            upload::run(&server, &builds, parts, &answers).await
        });
        Ok(Response::new(stream))
    }
}

impl DeployApi {
    /// A server that does not build passes the call on to one that does.
    async fn elsewhere(
        &self,
        request: Request<DeployRequest>,
    ) -> Result<Response<Answers<DeployEvent>>, Status> {
        let (request, by) = self.server.asked(request)?;
        let mut request = Request::new(request);
        if let Some(by) = by.and_then(principal_value) {
            request.metadata_mut().insert(PRINCIPAL, by);
        }
        let mut builder = DeployServiceClient::new(self.builder_elsewhere().await?);
        let events = builder.deploy(request).await?.into_inner();
        Ok(Response::new(Box::pin(events)))
    }

    /// The first that answers. The same one for a source and for its deployment, as long as it does.
    async fn builder_elsewhere(&self) -> Result<Channel, Status> {
        self.server.linearize().await?;
        let last = *self.builders.last();
        let builders = self.server.replica.read(|state| builders(state, self.server.node, last));
        let mut silent = Vec::new();
        for (node, name) in builders {
            match self.answering(node).await {
                Ok(channel) => {
                    *self.builders.last() = Some(node);
                    return Ok(channel);
                }
                Err(reason) => silent.push(format!("{name}: {reason}")),
            }
        }
        if silent.is_empty() {
            let status = Status::failed_precondition("no server of the cluster has the role builder");
            return Err(with_hint(status, "add `builder` to `node.roles` in a server's blixardd.toml"));
        }
        let status = Status::unavailable(format!("no builder answers: {}", silent.join("; ")));
        Err(with_hint(status, "`systemctl status blixardd` there says more"))
    }

    async fn answering(&self, node: NodeId) -> Result<Channel, String> {
        let text = |status: Status| status::first_line(&status);
        let channel = self.server.peers.channel(node).await.map_err(text)?;
        let mut asked = PeerServiceClient::new(channel.clone());
        match timeout(ANSWER_LIMIT, asked.leader(LeaderRequest {})).await {
            Ok(answer) => answer.map(|_| channel).map_err(text),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }
}

/// Other servers that build and stay: the one of last time first, then by their numbers.
fn builders(state: &ClusterState, here: NodeId, last: Option<NodeId>) -> Vec<(NodeId, NodeName)> {
    let builds = |(id, node): &(&NodeId, &Node)| {
        let roles = node.roles.is_superset(&[Role::Server, Role::Builder].into());
        **id != here && roles && node.departure == Departure::Stays
    };
    let named = |(&id, node): (&NodeId, &Node)| (id, node.name.clone());
    let mut builders: Vec<_> = state.nodes.iter().filter(builds).map(named).collect();
    builders.sort_by_key(|(id, _)| Some(*id) != last);
    builders
}

fn order(request: DeployRequest, by: Option<Principal>) -> Result<DeployOrder, Status> {
    let source = request.source.ok_or_else(|| Status::invalid_argument("source: is missing"))?;
    let selection = match (request.attributes, request.configurations) {
        (named, configurations) if named.is_empty() && configurations.is_empty() => Selection::All,
        (named, configurations) if configurations.is_empty() => Selection::Named(named),
        (named, configurations) if named.is_empty() => Selection::Configurations(configurations),
        _ => return Err(Status::invalid_argument("attributes and configurations exclude each other")),
    };
    Ok(DeployOrder {
        request: RequestId(random_id("request_id", &request.request_id)?),
        by,
        id: source.id.parse().map_err(|error| Status::invalid_argument(format!("source.id: {error}")))?,
        source: locked_source(&source)?,
        selection,
        take_over: if request.take_over { TakeOver::Allow } else { TakeOver::Refuse },
        effect: if request.dry_run { Effect::DryRun } else { Effect::Real },
    })
}

#[cfg(test)]
mod tests {
    use blixard_core::state::Fence;

    use super::*;

    #[test]
    fn who_was_passed_on_to_last_is_asked_first_and_who_leaves_is_not() {
        let mut state = ClusterState::default();
        let builds = [Role::Server, Role::Builder];
        let roles: [&[Role]; 6] = [&builds, &builds, &builds, &builds, &[Role::Server], &[Role::Builder]];
        for (id, roles) in (1_u64..).zip(roles) {
            let name = format!("n{id}").parse().unwrap();
            let node = Node::new(name, roles.iter().copied().collect(), Fence::Open);
            state.nodes.insert(NodeId(id), node);
        }
        state.nodes.get_mut(&NodeId(2)).unwrap().departure = Departure::Requested;
        let asked = |here: u64, last: Option<u64>| {
            let builders = builders(&state, NodeId(here), last.map(NodeId));
            builders.into_iter().map(|(id, _)| id.0).collect::<Vec<_>>()
        };
        assert_eq!(asked(5, None), [1, 3, 4]);
        assert_eq!(asked(5, Some(4)), [4, 1, 3]);
        assert_eq!(asked(5, Some(2)), [1, 3, 4], "it leaves");
        assert_eq!(asked(1, None), [3, 4]);
    }
}
