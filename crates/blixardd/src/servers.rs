//! The servers of the cluster, as a node reaches them that is none itself.
//!
//! Owns: which server is asked, and one clear error when none answers. Refuses to know: what is said to them. They
//! are found in a list that they keep up to date ([`book`]), of which a copy is on disk: a host that is started while
//! some are down finds the others.

mod book;
mod forward;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::directory::{Listed, Sighting, agreed_leader, likely_leader};
use blixard_core::ports::{BoxFuture, Clock};
use blixard_host::{AccessError, ServerAccess};
use blixard_pki::SigningRequest;
use blixard_proto::hint::with_hint;
use blixard_proto::v1::host_service_client::HostServiceClient;
use blixard_proto::v1::peer_service_client::PeerServiceClient;
use blixard_proto::v1::{AnnounceRequest, DirectoryRequest, DirectoryResponse, LeaderRequest, RenewRequest};
use blixard_proto::{ConvertError, directory_from};
use blixard_server::{Keyring, keep_fresh_by};
use blixard_types::{NodeAddress, NodeId, NodeName};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tonic::Status;
use tonic::transport::Channel;

use crate::cluster::Mesh;

pub(crate) use book::{Book, BookError};
pub(crate) use forward::Forwarded;

/// How long a server may take to say who leads. Within a data centre it takes a millisecond.
const ANSWER_LIMIT: Duration = Duration::from_millis(800);
/// Once one has answered, the others are waited for no longer than this, unless a majority agrees before.
const OTHERS_LIMIT: Duration = Duration::from_millis(150);
/// How often the list is compared with the servers'. A node that was removed is refused here by then.
const LIST_EVERY: Duration = Duration::from_secs(5);
/// How long a server may take to send it.
const LIST_LIMIT: Duration = Duration::from_secs(3);
/// How long one may take to issue a certificate.
const RENEWAL_LIMIT: Duration = Duration::from_secs(20);

/// No server could be asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NoServer {
    /// None is known, which cannot be of a node that has joined.
    #[error("no server of the cluster is known")]
    Unknown,
    /// None answers.
    #[error("no server of the cluster answers: {}", .0.iter().map(Unasked::to_string).collect::<Vec<_>>().join("; "))]
    Silent(Vec<Unasked>),
    /// They answer, and none leads.
    #[error("no server of the cluster leads at the moment")]
    NoLeader,
}

impl From<NoServer> for Status {
    fn from(error: NoServer) -> Self {
        let hint = "this node is no server and only passes calls on; `systemctl status blixardd` on the servers says more";
        with_hint(Self::unavailable(error.to_string()), hint)
    }
}

/// A server that says nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{address}: {reason}")]
pub(crate) struct Unasked {
    server: NodeId,
    address: NodeAddress,
    reason: String,
}

/// What the servers say about who leads.
#[derive(Debug, Default)]
struct Survey {
    /// Who has said something, the first first.
    answered: Vec<NodeId>,
    sightings: Vec<Sighting>,
    failures: Vec<Unasked>,
}

/// How this node is configured.
#[derive(Debug)]
pub(crate) struct Here {
    pub(crate) name: NodeName,
    pub(crate) address: Option<NodeAddress>,
}

impl Here {
    /// Whether it is listed so. An address that is configured no more is no reason to forget where it was.
    fn is(&self, listed: &Listed) -> bool {
        let there = self.address.is_none() || self.address == listed.address;
        self.name == listed.name && there
    }
}

/// The way to the servers.
#[derive(Clone)]
pub(crate) struct Servers {
    node: NodeId,
    book: Book,
    mesh: Mesh,
}

impl Servers {
    pub(crate) fn new(node: NodeId, book: Book, mesh: Mesh) -> Self {
        Self { node, book, mesh }
    }

    /// Asks all of them who leads, until a majority agrees or there is nobody left to wait for.
    async fn survey(&self) -> Survey {
        let servers = self.book.servers();
        let asked = servers
            .iter()
            .map(|(node, address)| async move { (*node, address.clone(), self.ask(*node).await) });
        let mut asked: FuturesUnordered<_> = asked.collect();
        let mut survey = Survey::default();
        let mut limit = ANSWER_LIMIT;
        while let Ok(Some((node, address, said))) = tokio::time::timeout(limit, asked.next()).await {
            match said {
                Ok(sighting) => {
                    survey.answered.push(node);
                    survey.sightings.push(sighting);
                    limit = OTHERS_LIMIT;
                }
                Err(reason) => survey.failures.push(Unasked { server: node, address, reason }),
            }
            if agreed_leader(servers.len(), &survey.sightings).is_some() {
                break;
            }
        }
        if survey.answered.is_empty() {
            let told: BTreeSet<_> = survey.failures.iter().map(|failure| failure.server).collect();
            let silent = servers.iter().filter(|(server, _)| !told.contains(server)).cloned();
            let reason = "no answer in time";
            survey.failures.extend(silent.map(|(server, address)| Unasked {
                server,
                address,
                reason: reason.to_owned(),
            }));
        }
        survey
    }

    async fn ask(&self, server: NodeId) -> Result<Sighting, String> {
        let mut client = PeerServiceClient::new(self.mesh.channel_to(server));
        let said = client.leader(LeaderRequest {}).await.map_err(|status| reason(&status))?.into_inner();
        Ok(Sighting { term: said.term, leader: said.leader.map(NodeId) })
    }

    /// The leader.
    async fn leader(&self) -> Result<NodeId, NoServer> {
        let survey = self.survey().await;
        likely_leader(&survey.sightings).ok_or_else(|| survey.why_not())
    }

    /// The leader, or whoever answers if there is none: it knows best what to say then.
    async fn any(&self) -> Result<NodeId, NoServer> {
        let survey = self.survey().await;
        let answers = |leader: &NodeId| survey.answered.contains(leader);
        let leader = likely_leader(&survey.sightings).filter(answers);
        leader.or_else(|| survey.answered.first().copied()).ok_or_else(|| survey.why_not())
    }

    /// Keeps the list as the servers have it, and this node in it as it is configured; never ends.
    pub(crate) async fn follow(self, here: Here) {
        let mut complained = false;
        loop {
            match self.agree(&here).await {
                Ok(()) => complained = false,
                Err(reason) if complained => {
                    tracing::debug!(reason, "the list of nodes is not brought up to date");
                }
                Err(reason) => {
                    complained = true;
                    tracing::warn!(reason, "the list of nodes is not brought up to date");
                }
            }
            tokio::time::sleep(LIST_EVERY).await;
        }
    }

    async fn agree(&self, here: &Here) -> Result<(), String> {
        let server = self.any().await.map_err(|error| error.to_string())?;
        self.update(server).await?;
        let listed = self.book.listed(self.node);
        if listed.is_none_or(|listed| here.is(&listed)) {
            return Ok(());
        }
        let mut client = PeerServiceClient::new(self.mesh.channel_to(server));
        let (name, address) = (here.name.to_string(), here.address.as_ref().map(ToString::to_string));
        let asked = client.announce(AnnounceRequest { name, address });
        let late = |_| "no answer in time".to_owned();
        let announced = tokio::time::timeout(LIST_LIMIT, asked).await.map_err(late)?;
        announced.map_err(|status| reason(&status))?;
        self.update(server).await
    }

    async fn update(&self, server: NodeId) -> Result<(), String> {
        let known = self.book.digest();
        let mut client = PeerServiceClient::new(self.mesh.channel_to(server));
        let asked = client.directory(DirectoryRequest { known: known.into() });
        let late = |_| "no answer in time".to_owned();
        let answer = tokio::time::timeout(LIST_LIMIT, asked).await.map_err(late)?;
        let answer = answer.map_err(|status| reason(&status))?.into_inner();
        let DirectoryResponse { directory: Some(directory), digest } = answer else { return Ok(()) };
        let directory = directory_from(directory).map_err(|error: ConvertError| error.to_string())?;
        self.book.keep(directory, digest.to_vec()).map_err(|error| blixard_types::chain(&error))
    }

    /// Has this node's certificate renewed in time; never ends.
    pub(crate) async fn renew(self, keyring: Arc<Keyring>, clock: Arc<dyn Clock>) {
        let servers = &self;
        let issue = |request: SigningRequest| async move {
            let mut client = PeerServiceClient::new(servers.mesh.channel_to(servers.any().await?));
            let asked = client.renew(RenewRequest { signing_request: request.0.into() });
            let late = |_| Status::deadline_exceeded("no answer in time");
            let answer = tokio::time::timeout(RENEWAL_LIMIT, asked).await.map_err(late)??;
            Ok(answer.into_inner().certificate.to_vec())
        };
        keep_fresh_by(&keyring, clock.as_ref(), issue).await;
    }
}

impl Survey {
    fn why_not(self) -> NoServer {
        match (self.answered.is_empty(), self.failures.is_empty()) {
            (false, _) => NoServer::NoLeader,
            (true, true) => NoServer::Unknown,
            (true, false) => NoServer::Silent(self.failures),
        }
    }
}

/// The innermost cause: what is around it is tonic's.
fn reason(status: &Status) -> String {
    let mut cause: Option<&dyn std::error::Error> = std::error::Error::source(status);
    let mut innermost = None;
    while let Some(error) = cause {
        innermost = Some(error.to_string());
        cause = error.source();
    }
    innermost.unwrap_or_else(|| status.message().to_owned())
}

impl ServerAccess for Servers {
    /// Grants are the leader's. Who that is is asked anew each time, so that a lost leader is followed.
    fn connect(&self) -> BoxFuture<'_, Result<HostServiceClient<Channel>, AccessError>> {
        Box::pin(async {
            let leader = self.leader().await.map_err(|error| AccessError { reason: error.to_string() })?;
            Ok(HostServiceClient::new(self.mesh.channel_to(leader)))
        })
    }
}
