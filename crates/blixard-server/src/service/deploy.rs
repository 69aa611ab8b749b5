//! `DeployService`: checks the request and runs the deployment within the call.

use blixard_core::command::TakeOver;
use blixard_core::ports::nix::Selection;
use blixard_core::principal::Principal;
use blixard_core::state::{Node, Role};
use blixard_proto::hint::with_hint;
use blixard_proto::principal::{PRINCIPAL, principal_value};
use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::deploy_service_server::DeployService;
use blixard_proto::v1::{DeployEvent, DeployRequest, UploadRequest, UploadResponse};
use blixard_proto::{locked_source, random_id};
use blixard_types::RequestId;
use futures_util::StreamExt;
use tonic::transport::Channel;
use tonic::{Request, Response, Status, Streaming};

use super::{Answers, answers};
use crate::Server;
use crate::deploy::{DeployOrder, Effect, run};
use crate::roots::BuildsInFlight;
use crate::upload;

/// Events that may wait for a slow caller; build logs beyond that are dropped, nothing else is.
const EVENTS_QUEUED: usize = 1024;

#[derive(Clone)]
pub struct DeployApi {
    pub(super) server: Server,
    pub(super) builds: BuildsInFlight,
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

    /// The same one for a source and for its deployment.
    async fn builder_elsewhere(&self) -> Result<Channel, Status> {
        self.server.linearize().await?;
        let builds = |node: &Node| node.roles.is_superset(&[Role::Server, Role::Builder].into());
        let here = self.server.node;
        let builder = self.server.replica.read(|state| {
            state.nodes.iter().find(|&(&id, node)| id != here && builds(node)).map(|(&id, _)| id)
        });
        let builder = builder.ok_or_else(|| {
            let status = Status::failed_precondition("no server of the cluster has the role builder");
            with_hint(status, "add `builder` to `node.roles` in a server's blixardd.toml")
        })?;
        self.server.peers.channel(builder).await
    }
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
