//! Peers over gRPC keep the contract of the port, and notice silence.

use std::sync::Arc;

use blixard_core::ports::peer::{PeerCall, PeerError, PeerTransport as _};
use blixard_peer::{Channels, GrpcPeers, PlainDialer};
use blixard_testkit::fake::peers::contract::{self, Echo, PATIENCE};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use crate::ground::{OnLoopback, Proxy};

fn peers() -> GrpcPeers {
    GrpcPeers::new(Channels::new(Arc::new(PlainDialer)))
}

#[tokio::test]
async fn peers_over_grpc_keep_the_contract_of_peers() {
    contract::check(&OnLoopback::default()).await.unwrap();
}

#[tokio::test]
async fn a_peer_that_falls_silent_is_noticed_and_talked_to_again_when_it_is_back() {
    let ground = OnLoopback::default();
    let peer = ground.serve(Arc::new(Echo)).await.unwrap();
    let proxy = Proxy::before(&peer).await.unwrap();
    let transport = peers();
    let mut messages = tokio::sync::mpsc::unbounded_channel::<Bytes>();
    let sent = stream::poll_fn(move |context| messages.1.poll_recv(context));
    let mut answers = transport.append(proxy.peer(), sent.boxed()).await.unwrap();
    messages.0.send(Bytes::from_static(b"one")).unwrap();
    assert_eq!(answers.next().await.unwrap().unwrap(), "one");
    transport.call(proxy.peer(), PeerCall::Heartbeat, Bytes::new()).await.unwrap();

    proxy.fall_silent();
    messages.0.send(Bytes::from_static(b"two")).unwrap();

    let broken = tokio::time::timeout(PATIENCE, answers.next()).await.unwrap().unwrap();
    assert!(matches!(broken, Err(PeerError::Broken { .. })), "{broken:?}");

    proxy.speak();
    let again = async {
        while transport.call(proxy.peer(), PeerCall::Heartbeat, Bytes::new()).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, again).await.unwrap();
}
