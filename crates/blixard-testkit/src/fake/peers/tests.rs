//! The hub keeps the contract.

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{PeerAddress, SharedPeerEndpoint, SharedPeerTransport};
use blixard_types::NodeId;

use super::PeerHub;
use super::contract::{self, Ground};

struct OnHub(PeerHub);

impl Ground for OnHub {
    fn plug(
        &self,
        endpoint: SharedPeerEndpoint,
    ) -> BoxFuture<'_, anyhow::Result<(SharedPeerTransport, PeerAddress)>> {
        self.0.plug(NodeId(2), endpoint);
        let peer = PeerAddress { node: NodeId(2), address: String::new() };
        Box::pin(std::future::ready(Ok((self.0.transport(NodeId(1)), peer))))
    }

    fn nowhere(&self) -> PeerAddress {
        PeerAddress { node: NodeId(9), address: String::new() }
    }
}

#[tokio::test]
async fn the_hub_keeps_the_contract_of_peers() {
    contract::check(&OnHub(PeerHub::default())).await.unwrap();
}
