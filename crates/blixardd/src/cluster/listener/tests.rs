//! Real sockets: members come in whatever strangers do.

use std::sync::Mutex;

use blixard_core::ports::{Clock as _, UnixMillis};
use blixard_pki::{Authority, Credentials, NodeKey, PeerRefusal, Subject, joining_client};
use blixard_types::{CertificateSerial, ClusterId};
use tokio::io::AsyncReadExt as _;

use super::*;
use crate::system::SystemClock;

const CLUSTER: ClusterId = ClusterId([7; 16]);

/// Lets all in but these.
#[derive(Debug, Default)]
struct Gate(Mutex<Vec<NodeId>>);

impl PeerGate for Gate {
    fn admits(&self, peer: &PeerIdentity) -> Result<(), PeerRefusal> {
        let removed = self.0.lock().unwrap().contains(&peer.node);
        if removed { Err(PeerRefusal::Removed(peer.node)) } else { Ok(()) }
    }

    fn counts(&self, peer: &PeerIdentity) -> bool {
        self.admits(peer).is_ok()
    }
}

fn now() -> UnixMillis {
    SystemClock.wall()
}

fn node(authority: &Authority, id: u64) -> MutualTls {
    let key = NodeKey::generate().unwrap();
    let subject = Subject { node: NodeId(id), cluster: CLUSTER, serial: CertificateSerial(id) };
    let certificate = authority.issue(&key.signing_request().unwrap(), subject, now()).unwrap();
    let credentials = Credentials::new(&key, &certificate, authority.root()).unwrap();
    MutualTls::new(authority.root(), &credentials, Arc::new(Gate::default())).unwrap()
}

/// A server that listens, and what comes of it.
struct Bed {
    authority: Authority,
    address: SocketAddr,
    incoming: Incoming,
    accept: tokio::task::JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.accept.abort();
    }
}

#[expect(clippy::disallowed_methods, reason = "the bed holds the handle, and ends it")]
async fn bed() -> Bed {
    let authority = Authority::create(CLUSTER, now()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (incoming, accept) = incoming(listener, node(&authority, 1), Arc::new(Gate::default()));
    Bed { authority, address, incoming, accept: tokio::spawn(accept) }
}

impl Bed {
    /// Node 2 comes in.
    async fn a_member_comes_in(&mut self) {
        let tls = node(&self.authority, 2);
        let stream = TcpStream::connect(self.address).await.unwrap();
        let shaken = tls.connect(stream, NodeId(1));
        let (shaken, arrived) = tokio::join!(shaken, self.incoming.members.next());
        shaken.unwrap();
        let PeerInfo(peer) = arrived.unwrap().unwrap().connect_info();
        assert_eq!(peer.unwrap().node, NodeId(2));
    }
}

#[tokio::test]
async fn connections_that_say_nothing_keep_no_member_out() {
    let mut bed = bed().await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES.each + 10 {
        silent.push(TcpStream::connect(bed.address).await.unwrap());
    }
    bed.a_member_comes_in().await;
    // Those that were there longest have made room.
    assert_eq!(silent[0].read(&mut [0; 1]).await.unwrap_or_default(), 0);
}

#[tokio::test]
async fn strangers_keep_no_member_out_and_no_stranger_either() {
    let mut bed = bed().await;
    let mut strangers = Vec::new();
    for _ in 0..STRANGERS.all + 10 {
        let stream = TcpStream::connect(bed.address).await.unwrap();
        let shaken = joining_client(bed.authority.root().fingerprint(), stream);
        let (shaken, arrived) = tokio::join!(shaken, bed.incoming.strangers.next());
        strangers.push((shaken.unwrap(), arrived.unwrap().unwrap()));
    }
    bed.a_member_comes_in().await;
    let (_, first) = &mut strangers[0];
    assert!(first.read(&mut [0; 1]).await.is_err(), "the first has had to make room");
}
