//! Changes of who belongs to the cluster, as people ask for them.

use blixard_core::apply::MembershipRejection;
use blixard_core::command::{Command, MembershipCommand};
use blixard_core::membership::obstacle;
use blixard_core::principal::Principal;
use blixard_core::state::{ClusterState, Role, Roles};
use blixard_pki::{JoinToken, TokenSecret};
use blixard_proto::hint::with_hint;
use blixard_proto::v1::{CreateTokenRequest, CreateTokenResponse, InitResponse};
use blixard_proto::v1::{RemoveNodeRequest, RemoveNodeResponse};
use blixard_proto::{random_id, roles, roles_to};
use blixard_types::{NodeAddress, NodeId, RequestId};
use tonic::Status;

use super::ClusterApi;
use crate::leader::members::group;
use crate::{keyring, status};

impl ClusterApi {
    pub(super) async fn init_cluster(&self) -> Result<InitResponse, Status> {
        let Some(address) = self.server.address.clone() else {
            let status = Status::failed_precondition("this node does not listen for others");
            let hint = "set `cluster.listen` in /etc/blixard/blixardd.toml and restart blixardd; vms go on";
            return Err(with_hint(status, hint));
        };
        let fingerprint = keyring::found(&self.server, &address).await?;
        Ok(InitResponse { authority: fingerprint.0.to_vec().into(), address: address.to_string() })
    }

    pub(super) async fn make_token(
        &self,
        request: CreateTokenRequest,
        by: Option<Principal>,
    ) -> Result<CreateTokenResponse, Status> {
        let id = RequestId(random_id("request_id", &request.request_id)?);
        let wanted = roles(&request.roles)?;
        let every: Roles = [Role::Server, Role::Host, Role::Builder].into();
        let allowed = if wanted.is_empty() { every } else { wanted };
        let no_authority = || status::rejection(&MembershipRejection::NoAuthority.into());
        self.server.linearize().await?;
        self.may_let_in(&allowed, by)?;
        let (authority, addresses) =
            self.server.replica.read(|state| (state.registry.authority, addresses(state, self.server.node)));
        let fingerprint = authority.ok_or_else(no_authority)?;
        let halves = [self.server.entropy.id(), self.server.entropy.id()].concat();
        let secret = halves.try_into().map(TokenSecret);
        let secret = secret.map_err(|_| Status::internal("two ids are not 32 bytes"))?;
        let (token, ttl_ms) = (secret.hash(), request.ttl_ms);
        let create = MembershipCommand::CreateToken { token, roles: allowed.clone(), ttl_ms };
        self.server.ask_for((id, by), Command::Membership(create)).await?;
        // The same request id with another secret has made nothing: what is shown must be known.
        let expires = self.server.replica.read(|state| Some(state.registry.tokens.get(&token)?.expires));
        let expires =
            expires.ok_or_else(|| Status::already_exists("the request id belongs to another call"))?;
        Ok(CreateTokenResponse {
            token: JoinToken { secret, fingerprint, addresses }.to_string(),
            roles: roles_to(&allowed),
            expires_at_ms: expires.0,
        })
    }

    /// A server holds the authority's key, which a host that is none does not: it lets no servers in.
    fn may_let_in(&self, roles: &Roles, by: Option<Principal>) -> Result<(), Status> {
        let Some(node) = by.and_then(Principal::node).filter(|_| roles.contains(&Role::Server)) else {
            return Ok(());
        };
        if self.server.is_server(node) {
            return Ok(());
        }
        let refused = Status::permission_denied("a token that lets servers in is made on a server");
        Err(with_hint(refused, "say it there, or make one for hosts with `--role host`"))
    }

    pub(super) async fn take_out(
        &self,
        request: RemoveNodeRequest,
        by: Option<Principal>,
    ) -> Result<RemoveNodeResponse, Status> {
        let id = RequestId(random_id("request_id", &request.request_id)?);
        self.server.linearize().await?;
        let node = self.server.replica.read(|state| find(state, &request.node))?;
        let remove = Command::Membership(MembershipCommand::RemoveNode { node });
        self.server.ask_for((id, by), remove).await?;
        let gone = |state: &ClusterState| !state.nodes.contains_key(&node);
        self.server.wait(request.wait_ms, gone).await;
        let obstacle = group(&self.server, 0)
            .and_then(|group| self.server.replica.read(|state| obstacle(state, &group, node)));
        Ok(RemoveNodeResponse {
            gone: self.server.replica.read(gone),
            waiting_on: obstacle.unwrap_or_default().to_owned(),
        })
    }
}

pub(in crate::service) fn find(state: &ClusterState, wanted: &str) -> Result<NodeId, Status> {
    let named = state.nodes.iter().find(|(_, node)| node.name.as_str() == wanted).map(|(&id, _)| id);
    let numbered = state.nodes.keys().copied().find(|id| id.to_string() == wanted);
    match (named, numbered) {
        (Some(named), Some(numbered)) if named != numbered => {
            let text = format!("{wanted} is the name of node {named} and the number of another");
            let hint = "say the name of the one with that number; `node.name` in the other's blixardd.toml gives it another";
            Err(with_hint(Status::failed_precondition(text), hint))
        }
        (Some(node), _) | (None, Some(node)) => Ok(node),
        (None, None) => {
            let status = Status::not_found(format!("there is no node {wanted}"));
            Err(with_hint(status, "`blixard node list` shows the nodes there are"))
        }
    }
}

/// Where servers are reached, this one first.
fn addresses(state: &ClusterState, here: NodeId) -> Vec<NodeAddress> {
    let servers = state.nodes.iter().filter(|(_, node)| node.roles.contains(&Role::Server));
    let mut addresses: Vec<_> =
        servers.filter_map(|(&id, node)| Some((id != here, node.address.clone()?))).collect();
    addresses.sort();
    addresses.into_iter().map(|(_, address)| address).collect()
}

#[cfg(test)]
mod tests {
    use blixard_core::state::{Fence, Node};

    use super::*;

    #[test]
    fn a_node_is_meant_by_its_name_or_its_number_and_by_neither_if_they_are_of_two() {
        let mut state = ClusterState::default();
        for (id, name) in [(1, "3"), (2, "2"), (3, "beta"), (4, "7")] {
            let node = Node::new(name.parse().unwrap(), [Role::Host].into(), Fence::Open);
            state.nodes.insert(NodeId(id), node);
        }
        for (wanted, id) in [("beta", 3), ("1", 1), ("2", 2), ("7", 4), ("4", 4)] {
            assert_eq!(find(&state, wanted).unwrap(), NodeId(id), "{wanted}");
        }
        assert_eq!(find(&state, "3").unwrap_err().code(), tonic::Code::FailedPrecondition);
        for unknown in ["8", "03", "gamma"] {
            assert_eq!(find(&state, unknown).unwrap_err().code(), tonic::Code::NotFound, "{unknown}");
        }
    }
}
