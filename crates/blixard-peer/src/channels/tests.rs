//! When a peer is tried again. Nothing is connected here.

use super::*;
use crate::PlainDialer;

fn channels() -> (Channels, PeerAddress) {
    let peer = PeerAddress { node: NodeId(2), address: "127.0.0.1:1".to_owned() };
    (Channels::new(Arc::new(PlainDialer)), peer)
}

async fn pass(millis: u64) {
    tokio::time::advance(Duration::from_millis(millis)).await;
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_failed_rests_longer_each_time_up_to_a_bound() {
    let (channels, peer) = channels();
    let link = channels.link(&peer, Lane::Calls).unwrap();
    for delay in [10, 20, 40, 80, 160, 250, 250, 250] {
        link.failed("refused");
        pass(delay - 1).await;
        let resting = channels.link(&peer, Lane::Calls).map(drop);
        let reason = "it failed a moment ago: refused".to_owned();
        assert_eq!(resting, Err(PeerError::Unreachable { node: NodeId(2), reason }), "{delay}");
        pass(1).await;
        channels.link(&peer, Lane::Calls).unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_works_again_starts_anew() {
    let (channels, peer) = channels();
    let link = channels.link(&peer, Lane::Calls).unwrap();
    for _ in 0..10 {
        link.failed("refused");
    }
    link.worked();
    channels.link(&peer, Lane::Calls).unwrap();
    link.failed("refused");
    pass(10).await;
    channels.link(&peer, Lane::Calls).unwrap();
}

#[tokio::test(start_paused = true)]
async fn lanes_rest_apart_and_a_new_address_does_not_rest() {
    let (channels, peer) = channels();
    channels.link(&peer, Lane::Calls).unwrap().failed("refused");
    channels.link(&peer, Lane::Append).unwrap();
    let moved = PeerAddress { address: "127.0.0.1:2".to_owned(), ..peer.clone() };
    channels.link(&moved, Lane::Calls).unwrap();
    channels.forget(peer.node);
    channels.link(&peer, Lane::Calls).unwrap();
}

#[tokio::test]
async fn an_address_that_is_none_is_refused_by_name() {
    let (channels, peer) = channels();
    for address in ["", "no spaces here", "::"] {
        let bad = PeerAddress { address: address.to_owned(), ..peer.clone() };
        let Err(PeerError::Unreachable { reason, .. }) = channels.link(&bad, Lane::Calls) else {
            panic!("{address:?}")
        };
        assert!(reason.contains("host:port"), "{reason}");
    }
}
