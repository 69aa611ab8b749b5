//! `JoinService`: a machine without a certificate asks to be let in. It alone is served to strangers.

use blixard_core::apply::MembershipRejection;
use blixard_core::command::{AdmitNode, Command, MembershipCommand, Outcome};
use blixard_core::principal::Principal;
use blixard_core::state::Role;
use blixard_pki::{SigningRequest, TokenSecret};
use blixard_proto::hint::with_hint;
use blixard_proto::v1::join_service_server::JoinService;
use blixard_proto::v1::{JoinRequest, JoinResponse, PeerAddress};
use blixard_proto::{node_address, node_name, roles};
use blixard_types::Sha256Hash;
use tonic::{Request, Response, Status};

use super::peer::{issue, no_key};
use crate::{Server, status};

#[derive(Clone)]
pub struct JoinApi {
    pub(super) server: Server,
}

#[tonic::async_trait]
impl JoinService for JoinApi {
    async fn join(&self, request: Request<JoinRequest>) -> Result<Response<JoinResponse>, Status> {
        let request = request.into_inner();
        let secret = request.secret.as_ref().try_into().map(TokenSecret);
        let secret = secret.map_err(|_| Status::invalid_argument("secret: expected 32 bytes"))?;
        let signing = SigningRequest(request.signing_request.to_vec());
        let admit = AdmitNode {
            token: secret.hash(),
            key: Sha256Hash::of(&signing.0),
            name: node_name(&request.name)?,
            roles: roles(&request.roles)?,
            address: request.address.as_deref().map(node_address).transpose()?,
        };
        if admit.name.is_number() {
            let text =
                format!("{} is no name for a node: nodes are spoken of by their numbers, too", admit.name);
            let hint = "set `node.name` in the machine's blixardd.toml";
            return Err(with_hint(Status::invalid_argument(text), hint));
        }
        // Who knows no token writes nothing into the log.
        self.server.linearize().await?;
        let known = self.server.replica.read(|state| state.registry.tokens.contains_key(&admit.token));
        if !known {
            return Err(status::rejection(&MembershipRejection::UnknownToken.into()));
        }
        let authority = self.server.keyring.authority().ok_or_else(no_key)?;
        let proposer = self.server.proposer().by(Some(Principal::TokenHolder));
        let (name, roles) = (admit.name.clone(), admit.roles.clone());
        let command = Command::Membership(MembershipCommand::AdmitNode(admit));
        let outcome = proposer.propose(proposer.fresh_request(), command).await;
        let outcome = outcome.map_err(|failure| status::propose(&failure))?;
        let certificate = issue(&self.server, &outcome, &signing)?;
        let Outcome::Certified { node, .. } = outcome else { return Err(no_key()) };
        tracing::info!(%node, %name, ?roles, "has joined");
        let (cluster_id, servers) = self.server.replica.read(|state| {
            let servers = state.nodes.iter().filter(|(_, node)| node.roles.contains(&Role::Server));
            let address = |(id, node): (&blixard_types::NodeId, &blixard_core::state::Node)| {
                Some(PeerAddress { node: id.0, address: node.address.as_ref()?.to_string() })
            };
            let cluster = state.identity.map(|identity| identity.cluster.0.to_vec()).unwrap_or_default();
            (cluster, servers.filter_map(address).collect())
        });
        Ok(Response::new(JoinResponse {
            node: node.0,
            cluster_id: cluster_id.into(),
            certificate: certificate.into(),
            root: authority.root().der().to_vec().into(),
            servers,
        }))
    }
}
