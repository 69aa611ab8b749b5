//! Who is welcome, by this node's copy of the state.

use std::sync::Arc;

use blixard_core::state::{PeerStanding, Role};
use blixard_pki::{PeerGate, PeerIdentity, PeerRefusal};
use blixard_server::{CallingNode, Replica};
use tonic::{Request, Status};

/// Asks the state.
#[derive(Debug)]
pub(crate) struct StateGate(pub(crate) Arc<Replica>);

impl PeerGate for StateGate {
    fn admits(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        match self.0.read(|state| state.peer_standing(peer.node, peer.serial)) {
            PeerStanding::Member | PeerStanding::Newer => Ok(()),
            PeerStanding::Removed => Err(PeerRefusal::Removed(peer.node)),
            PeerStanding::Replaced => Err(PeerRefusal::Replaced(peer.node)),
        }
    }

    fn counts(&self, peer: &PeerIdentity) -> bool {
        self.0.read(|state| state.peer_standing(peer.node, peer.serial)) == PeerStanding::Member
    }
}

/// Lets servers in, and nodes that this copy of the state does not know yet: a server that has just
/// joined, or been away, knows few of those that bring it up to date.
pub(crate) fn servers_only(
    replica: Arc<Replica>,
) -> impl Fn(Request<()>) -> Result<Request<()>, Status> + Clone + Send + Sync + 'static {
    move |request| {
        let caller = request.extensions().get::<CallingNode>().copied();
        let CallingNode(caller) = caller.ok_or_else(|| Status::unauthenticated("who calls is not known"))?;
        let server = replica
            .read(|state| state.nodes.get(&caller).is_none_or(|node| node.roles.contains(&Role::Server)));
        if server { Ok(request) } else { Err(Status::permission_denied("this service is for servers")) }
    }
}
