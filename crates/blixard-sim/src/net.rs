//! The network between nodes: bytes that come late, get lost, pass one way only, or not at all.
//!
//! Owns what a connection is to its two ends: messages arrive whole and in order, and once one of them
//! is lost nothing arrives after it; both ends notice after a while, as TCP's do. A node that is down
//! refuses at once. Refuses to know what the bytes mean; it keeps a digest of all that was
//! delivered, by which two runs are compared.

mod carry;
mod serve;
mod stream;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{
    Incoming, Outgoing, PeerAddress, PeerCall, PeerError, PeerTransport, SharedPeerTransport,
};
use blixard_types::NodeId;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::{mpsc, oneshot};

use crate::dice::Dice;
use carry::{Connection, Stamped, pumped, received};
pub(crate) use serve::serve;
pub(crate) use stream::End;

/// The network; clones are the same one.
#[derive(Debug, Clone)]
pub struct Net(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    inboxes: BTreeMap<NodeId, mpsc::UnboundedSender<Parcel>>,
    links: BTreeMap<(NodeId, NodeId), Link>,
    dice: Dice,
    digest: u64,
    delivered: u64,
}

/// One direction between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// Nothing passes.
    pub cut: bool,
    /// The shortest and the longest a message takes, in milliseconds.
    pub delay: (u64, u64),
    /// How many of a thousand messages are lost.
    pub loses: u64,
}

impl Default for Link {
    fn default() -> Self {
        Self { cut: false, delay: (1, 5), loses: 0 }
    }
}

/// What is asked of a node.
enum Parcel {
    Call { from: NodeId, call: PeerCall, message: Stamped, answer: oneshot::Sender<Answer> },
    Append { messages: Incoming, answers: mpsc::UnboundedSender<Stamped>, back: Connection },
    Snapshot { from: NodeId, pieces: Incoming, answer: oneshot::Sender<Answer> },
    Stream { end: End },
}

/// An answer on its way, or lost.
type Answer = Option<Result<Stamped, PeerError>>;

impl Net {
    /// A network whose delays and losses follow from the dice.
    pub fn new(dice: Dice) -> Self {
        let (inboxes, links) = (BTreeMap::new(), BTreeMap::new());
        Self(Arc::new(Mutex::new(Inner { inboxes, links, dice, digest: 0, delivered: 0 })))
    }

    /// Peers as this node reaches them.
    pub fn transport(&self, from: NodeId) -> SharedPeerTransport {
        Arc::new(NetTransport { net: self.clone(), from })
    }

    /// Changes one direction.
    pub fn change(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Link)) {
        change(self.lock().links.entry((from, to)).or_default());
    }

    /// Makes every link whole.
    pub fn heal(&self) {
        self.lock().links.clear();
    }

    /// Whether a node is up and what one says reaches it, and the other way.
    pub(crate) fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        self.inbox(from, &PeerAddress { node: to, address: String::new() }).is_ok()
    }

    /// How many messages were delivered, and a digest of them and of when.
    pub fn digest(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.delivered, inner.digest)
    }

    /// Takes a node off the network.
    pub(crate) fn unplug(&self, node: NodeId) {
        self.lock().inboxes.remove(&node);
    }

    fn plug(&self, node: NodeId) -> mpsc::UnboundedReceiver<Parcel> {
        // Bounded by what the peers send at once: each waits for answers, or fills a bounded stream.
        let (inbox, parcels) = mpsc::unbounded_channel();
        self.lock().inboxes.insert(node, inbox);
        parcels
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Stamps a message with when it arrives; none if it is lost.
    fn send(&self, from: NodeId, to: NodeId, message: Bytes) -> Option<Stamped> {
        let inner = self.lock();
        let link = inner.links.get(&(from, to)).copied().unwrap_or_default();
        let delay = inner.dice.millis(link.delay.0, link.delay.1);
        let lost = link.cut || inner.dice.chance(link.loses);
        (!lost).then(|| Stamped { message, at: now() + delay })
    }

    /// Waits for a message to arrive; it does not if the link is cut by then.
    async fn arrive(&self, from: NodeId, to: NodeId, stamped: Stamped) -> Option<Bytes> {
        tokio::time::sleep(stamped.at.saturating_sub(now())).await;
        let mut inner = self.lock();
        if inner.links.get(&(from, to)).is_some_and(|link| link.cut) {
            return None;
        }
        inner.delivered += 1;
        let at = u64::try_from(now().as_micros()).unwrap_or(u64::MAX);
        let mut digest = inner.digest ^ from.0 ^ (to.0 << 8) ^ at;
        for byte in &stamped.message {
            digest = (digest ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
        inner.digest = digest;
        Some(stamped.message)
    }

    /// How long an end takes to notice that nothing comes any more.
    async fn silence(&self) {
        let wait = self.lock().dice.millis(200, 600);
        tokio::time::sleep(wait).await;
    }

    fn inbox(&self, from: NodeId, peer: &PeerAddress) -> Result<mpsc::UnboundedSender<Parcel>, PeerError> {
        let inner = self.lock();
        let cut = |from, to| inner.links.get(&(from, to)).is_some_and(|link| link.cut);
        let reason = if cut(from, peer.node) || cut(peer.node, from) {
            "the link is cut"
        } else {
            match inner.inboxes.get(&peer.node) {
                Some(inbox) => return Ok(inbox.clone()),
                None => "nobody listens",
            }
        };
        Err(PeerError::Unreachable { node: peer.node, reason: reason.to_owned() })
    }
}

/// The time of the simulation.
fn now() -> Duration {
    turmoil::sim_elapsed().unwrap_or_default()
}

fn broken(node: NodeId) -> PeerError {
    PeerError::Broken { node, reason: "nothing comes any more".to_owned() }
}

#[derive(Debug)]
struct NetTransport {
    net: Net,
    from: NodeId,
}

impl NetTransport {
    /// Waits for an answer that may never come.
    async fn answered(
        net: Net,
        link: (NodeId, NodeId),
        answer: oneshot::Receiver<Answer>,
    ) -> Result<Bytes, PeerError> {
        let (me, peer) = link;
        match answer.await {
            Ok(Some(Ok(stamped))) => {
                if let Some(message) = net.arrive(peer, me, stamped).await {
                    return Ok(message);
                }
            }
            Ok(Some(Err(refused))) => return Err(refused),
            Ok(None) | Err(_) => {}
        }
        net.silence().await;
        Err(broken(peer))
    }
}

impl PeerTransport for NetTransport {
    fn append(
        &self,
        peer: &PeerAddress,
        messages: Outgoing,
    ) -> BoxFuture<'static, Result<Incoming, PeerError>> {
        let (net, me, node) = (self.net.clone(), self.from, peer.node);
        let inbox = self.net.inbox(me, peer);
        Box::pin(async move {
            let inbox = inbox?;
            let there = Connection::new(net.clone(), me, node);
            let back = there.reverse();
            let (answers, arriving) = mpsc::unbounded_channel();
            let (pump, messages) = pumped(messages, there);
            let parcel = Parcel::Append { messages, answers, back: back.clone() };
            inbox.send(parcel).map_err(|_| broken(node))?;
            Ok(received(arriving, back, Some(pump)))
        })
    }

    fn call(
        &self,
        peer: &PeerAddress,
        call: PeerCall,
        message: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, from, node) = (self.net.clone(), self.from, peer.node);
        let inbox = self.net.inbox(from, peer);
        Box::pin(async move {
            let inbox = inbox?;
            let (answer, answered) = oneshot::channel();
            if let Some(message) = net.send(from, node, message) {
                inbox.send(Parcel::Call { from, call, message, answer }).map_err(|_| broken(node))?;
            }
            Self::answered(net, (from, node), answered).await
        })
    }

    fn send_snapshot(
        &self,
        peer: &PeerAddress,
        pieces: Outgoing,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let (net, from, node) = (self.net.clone(), self.from, peer.node);
        let inbox = self.net.inbox(from, peer);
        Box::pin(async move {
            let inbox = inbox?;
            let (answer, answered) = oneshot::channel();
            let there = Connection::new(net.clone(), from, node);
            let (pump, pieces) = pumped(pieces.boxed(), there);
            inbox.send(Parcel::Snapshot { from, pieces, answer }).map_err(|_| broken(node))?;
            let answer = Self::answered(net, (from, node), answered).await;
            drop(pump);
            answer
        })
    }
}
