//! Who asks: the middleware of every call that changes something.
//!
//! ```text
//! this node's socket ─ kernel ─▶ uid here │ another node ─ certificate ─▶ that node, or the user that it tells of
//! ```

use blixard_core::command::{Command, Outcome};
use blixard_core::principal::Principal;
use blixard_core::state::{ClusterState, Role};
use blixard_proto::principal::told_principal;
use blixard_types::{NodeId, RequestId};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use crate::{CallingNode, Server, status};

/// The user that calls over this node's own socket, as the kernel says. In the extensions of every request that comes
/// that way, and of no other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LocalUser(pub u32);

impl Server {
    /// What is asked, and by whom. A node speaks for its own users; a server also for whose call it passes on.
    pub(crate) fn asked<T>(&self, request: Request<T>) -> Result<(T, Option<Principal>), Status> {
        let is_server = |node| self.is_server(node);
        let by = who(self.node, request.extensions(), request.metadata(), is_server)?;
        Ok((request.into_inner(), by))
    }

    /// Proposes what somebody asks for, under the id of the call.
    pub(crate) async fn ask_for(
        &self,
        (request, by): (RequestId, Option<Principal>),
        command: Command,
    ) -> Result<Outcome, Status> {
        let proposed = self.proposer().by(by).propose(request, command).await;
        proposed.map_err(|failure| status::propose(&failure))
    }

    /// Whether a node has the role server, as far as is known here.
    pub(crate) fn is_server(&self, node: NodeId) -> bool {
        let is_server = |state: &ClusterState| {
            state.nodes.get(&node).is_some_and(|node| node.roles.contains(&Role::Server))
        };
        self.replica.read(is_server)
    }
}

fn who(
    here: NodeId,
    extensions: &Extensions,
    metadata: &MetadataMap,
    is_server: impl Fn(NodeId) -> bool,
) -> Result<Option<Principal>, Status> {
    let Some(&CallingNode(caller)) = extensions.get() else {
        let local = extensions.get().map(|&LocalUser(uid)| Principal::User { node: here, uid });
        return Ok(local);
    };
    let told = told_principal(metadata)?.unwrap_or(Principal::Node { node: caller });
    if told.node() == Some(caller) || is_server(caller) {
        return Ok(Some(told));
    }
    Err(Status::permission_denied("a node speaks for its own users alone"))
}

#[cfg(test)]
mod tests {
    use blixard_proto::principal::{PRINCIPAL, principal_value};

    use super::*;

    const HERE: NodeId = NodeId(1);
    const SERVER: NodeId = NodeId(2);
    const HOST: NodeId = NodeId(3);

    fn user(node: NodeId, uid: u32) -> Principal {
        Principal::User { node, uid }
    }

    /// Who that is for a server, if it comes over this from somebody who tells of a user.
    fn seen(
        caller: Option<NodeId>,
        local: Option<u32>,
        told: Option<Principal>,
    ) -> Result<Option<Principal>, tonic::Code> {
        let (mut extensions, mut metadata) = (Extensions::default(), MetadataMap::new());
        if let Some(node) = caller {
            extensions.insert(CallingNode(node));
        }
        if let Some(uid) = local {
            extensions.insert(LocalUser(uid));
        }
        if let Some(value) = told.and_then(principal_value) {
            metadata.insert(PRINCIPAL, value);
        }
        who(HERE, &extensions, &metadata, |node| node == SERVER).map_err(|status| status.code())
    }

    #[test]
    fn a_local_user_is_who_the_kernel_says_whatever_the_call_says() {
        assert_eq!(seen(None, Some(1000), None), Ok(Some(user(HERE, 1000))));
        assert_eq!(seen(None, Some(1000), Some(user(HOST, 0))), Ok(Some(user(HERE, 1000))));
    }

    #[test]
    fn a_host_speaks_for_its_own_users_and_a_server_for_all() {
        assert_eq!(seen(Some(HOST), None, None), Ok(Some(Principal::Node { node: HOST })));
        assert_eq!(seen(Some(HOST), None, Some(user(HOST, 7))), Ok(Some(user(HOST, 7))));
        for other in [HERE, SERVER] {
            assert_eq!(seen(Some(HOST), None, Some(user(other, 0))), Err(tonic::Code::PermissionDenied));
        }
        assert_eq!(seen(Some(SERVER), None, Some(user(HOST, 7))), Ok(Some(user(HOST, 7))));
        // What is said of the socket does not count on the wire.
        assert_eq!(seen(Some(HOST), Some(0), None), Ok(Some(Principal::Node { node: HOST })));
    }
}
