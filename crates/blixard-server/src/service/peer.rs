//! `PeerService`: what nodes ask of a server, over mutual TLS; and who asks.

use blixard_core::command::{Command, MembershipCommand, Outcome};
use blixard_core::directory::Directory;
use blixard_core::ports::consensus::{LinearizeError, ProposeError};
use blixard_core::principal::Principal;
use blixard_pki::{SigningRequest, Subject};
use blixard_proto::v1::peer_service_server::PeerService;
use blixard_proto::v1::propose_response::{Applied, OutcomeUnknown, Result as Proposed};
use blixard_proto::v1::read_index_response::{NoQuorum, Result as Read};
use blixard_proto::v1::{AnnounceRequest, AnnounceResponse};
use blixard_proto::v1::{AuthorityRequest, AuthorityResponse, NotLeader, ProposeRequest, ProposeResponse};
use blixard_proto::v1::{DirectoryRequest, DirectoryResponse, LeaderRequest, LeaderResponse};
use blixard_proto::v1::{ReadIndexRequest, ReadIndexResponse, RenewRequest, RenewResponse};
use blixard_proto::{decode_envelope, directory_to, encode_envelope, node_address, node_name};
use blixard_types::{CertificateSerial, NodeId};
use tonic::{Request, Response, Status};

use crate::{Server, status};

/// The node that calls, as its certificate says. In the extensions of every request that comes over
/// mutual TLS, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallingNode(pub NodeId);

/// The certificate that it has shown. Beside [`CallingNode`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShownCertificate(pub CertificateSerial);

#[derive(Clone)]
pub struct PeerApi {
    pub(super) server: Server,
}

fn caller<T>(request: &Request<T>) -> Result<NodeId, Status> {
    let caller = request.extensions().get::<CallingNode>().map(|CallingNode(node)| *node);
    caller.ok_or_else(|| Status::unauthenticated("this service is for nodes of the cluster"))
}

impl PeerApi {
    fn server_calls<T>(&self, request: &Request<T>) -> Result<NodeId, Status> {
        let caller = caller(request)?;
        if self.server.is_server(caller) {
            Ok(caller)
        } else {
            Err(Status::permission_denied("this service is for servers"))
        }
    }
}

#[tonic::async_trait]
impl PeerService for PeerApi {
    async fn propose(&self, request: Request<ProposeRequest>) -> Result<Response<ProposeResponse>, Status> {
        self.server_calls(&request)?;
        let mut envelope = decode_envelope(&request.into_inner().command)?;
        // Time is the leader's, so that it does not jump with who was asked.
        envelope.at = self.server.clock.wall();
        let log = &self.server.log;
        let result = match log.propose(encode_envelope(&envelope)?).await {
            // The command's own place, not what the log says that it has applied: that may be older still.
            Ok(applied) => Proposed::Applied(Applied {
                outcome: applied.outcome.into(),
                index: applied.position.index,
                term: applied.position.term,
            }),
            Err(ProposeError::NotLeader { leader }) => {
                Proposed::NotLeader(NotLeader { leader: leader.map(|leader| leader.0) })
            }
            Err(ProposeError::OutcomeUnknown | ProposeError::NoQuorum | ProposeError::Stopped { .. }) => {
                Proposed::OutcomeUnknown(OutcomeUnknown {})
            }
            Err(error @ (ProposeError::TooLarge { .. } | ProposeError::Refused { .. })) => {
                return Err(Status::invalid_argument(error.to_string()));
            }
        };
        Ok(Response::new(ProposeResponse { result: Some(result) }))
    }

    async fn read_index(
        &self,
        request: Request<ReadIndexRequest>,
    ) -> Result<Response<ReadIndexResponse>, Status> {
        self.server_calls(&request)?;
        let result = match self.server.log.linearize().await {
            Ok(position) => Read::Index(position.index),
            Err(LinearizeError::NotLeader { leader }) => {
                Read::NotLeader(NotLeader { leader: leader.map(|leader| leader.0) })
            }
            Err(LinearizeError::NoQuorum | LinearizeError::Stopped { .. }) => Read::NoQuorum(NoQuorum {}),
        };
        Ok(Response::new(ReadIndexResponse { result: Some(result) }))
    }

    async fn renew(&self, request: Request<RenewRequest>) -> Result<Response<RenewResponse>, Status> {
        let node = caller(&request)?;
        let shown = request.extensions().get().map(|&ShownCertificate(serial)| serial);
        let signing = SigningRequest(request.into_inner().signing_request.to_vec());
        let certificate = certify(&self.server, node, shown, &signing).await?;
        tracing::info!(%node, "has renewed its certificate");
        Ok(Response::new(RenewResponse { certificate: certificate.into() }))
    }

    async fn authority(
        &self,
        request: Request<AuthorityRequest>,
    ) -> Result<Response<AuthorityResponse>, Status> {
        self.server.linearize().await?;
        let node = self.server_calls(&request)?;
        let authority = self.server.keyring.authority().ok_or_else(no_key)?;
        tracing::info!(%node, "has been given the authority's key");
        Ok(Response::new(AuthorityResponse { key: authority.key_pem() }))
    }

    async fn leader(&self, _: Request<LeaderRequest>) -> Result<Response<LeaderResponse>, Status> {
        let standing = self.server.log.standing();
        let leader = standing.leader.map(|leader| leader.0);
        Ok(Response::new(LeaderResponse { term: standing.term, leader }))
    }

    async fn directory(
        &self,
        request: Request<DirectoryRequest>,
    ) -> Result<Response<DirectoryResponse>, Status> {
        // Who was removed is not to be let in because the server that was asked has not heard of it.
        let current = self.server.consensus.linearize_by_lease().await;
        current.map_err(|error| status::linearize(&error))?;
        let (directory, digest) = directory_to(&self.server.replica.read(Directory::of));
        let directory = (request.into_inner().known != digest.0.as_slice()).then_some(directory);
        Ok(Response::new(DirectoryResponse { directory, digest: digest.0.to_vec().into() }))
    }

    async fn announce(
        &self,
        request: Request<AnnounceRequest>,
    ) -> Result<Response<AnnounceResponse>, Status> {
        let node = caller(&request)?;
        let AnnounceRequest { name, address } = request.into_inner();
        let name = node_name(&name)?;
        let address = address.as_deref().map(node_address).transpose()?;
        self.server.linearize().await?;
        // Its roles were its token's to give, and are not its own to change.
        let roles = self.server.replica.read(|state| state.nodes.get(&node).map(|node| node.roles.clone()));
        let roles = roles.ok_or_else(|| Status::not_found(format!("there is no node {node}")))?;
        let moved =
            address.map(|address| Command::Membership(MembershipCommand::SetAddress { node, address }));
        let proposer = self.server.proposer().by(Some(Principal::Node { node }));
        for command in [Some(Command::RegisterNode { node, name, roles }), moved].into_iter().flatten() {
            let proposed = proposer.propose(proposer.fresh_request(), command).await;
            proposed.map_err(|failure| status::propose(&failure))?;
        }
        Ok(Response::new(AnnounceResponse {}))
    }
}

/// A server that has joined a moment ago.
pub(crate) fn no_key() -> Status {
    Status::unavailable("this server does not have the authority's key yet: ask another")
}

/// Counts a certificate for a member, which has shown that one, and issues it (DER).
pub(crate) async fn certify(
    server: &Server,
    node: NodeId,
    shown: Option<CertificateSerial>,
    request: &SigningRequest,
) -> Result<Vec<u8>, Status> {
    // Each one that is counted pushes another out: none is counted that cannot be issued.
    server.keyring.authority().ok_or_else(no_key)?;
    let proposer = server.proposer();
    let command = Command::Membership(MembershipCommand::CertifyNode { node, shown });
    let outcome = proposer.propose(proposer.fresh_request(), command).await;
    issue(server, &outcome.map_err(|failure| status::propose(&failure))?, request)
}

/// Issues the certificate that was counted.
pub(super) fn issue(server: &Server, outcome: &Outcome, request: &SigningRequest) -> Result<Vec<u8>, Status> {
    let Outcome::Certified { node, serial, .. } = outcome else {
        return Err(Status::internal("the certificate was not counted"));
    };
    let cluster = server.replica.read(|state| state.identity).ok_or_else(no_key)?.cluster;
    let subject = Subject { node: *node, cluster, serial: *serial };
    let authority = server.keyring.authority().ok_or_else(no_key)?;
    let issued = authority.issue(request, subject, server.clock.wall());
    issued.map_err(|error| Status::invalid_argument(blixard_types::chain(&error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::leader::leases::tests::bench::Bench;

    #[tokio::test(start_paused = true)]
    async fn no_certificate_is_counted_that_this_server_cannot_issue() {
        let bench = Bench::elected(None);
        let signing = SigningRequest(Vec::new());
        let refused = certify(&bench.server, NodeId(2), None, &signing).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable);
        assert_eq!(bench.elsewhere.commands(), [], "another server may issue it");
    }
}
