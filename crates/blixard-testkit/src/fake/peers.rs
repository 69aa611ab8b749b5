//! Peers in one process: a hub that carries bytes between endpoints, and can cut, delay and lose them.
//!
//! Owns: what a bad network does to streams and calls, as the port's words say it: a cut link ends them with an
//! error, as a transport that notices silence does. Refuses to know what the bytes mean.

pub mod contract;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{
    Arriving, Incoming, Outgoing, PeerAddress, PeerCall, PeerError, PeerRefusal, PeerTransport, SenderGone,
    SharedPeerEndpoint, SharedPeerTransport,
};
use blixard_types::NodeId;
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use tokio::sync::watch;

/// Carries bytes between nodes. Clones are the same hub.
#[derive(Clone, Default)]
pub struct PeerHub(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    endpoints: BTreeMap<NodeId, SharedPeerEndpoint>,
    links: BTreeMap<(NodeId, NodeId), watch::Sender<Link>>,
    calls: BTreeMap<(NodeId, PeerCall), u64>,
    snapshots: u64,
    bad_snapshots: bool,
}

/// One direction between two nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Link {
    cut: bool,
    delay: Duration,
    /// Each so many messages one is lost, and what it was on breaks.
    loses_each: Option<u64>,
    carried: u64,
    /// Grows when what is on the link has to break.
    breaks: u64,
}

impl std::fmt::Debug for PeerHub {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PeerHub")
    }
}

impl PeerHub {
    /// Peers as this node reaches them.
    pub fn transport(&self, from: NodeId) -> SharedPeerTransport {
        Arc::new(HubTransport { hub: self.clone(), from })
    }

    /// Makes a node reachable.
    pub fn plug(&self, node: NodeId, endpoint: SharedPeerEndpoint) {
        self.lock().endpoints.insert(node, endpoint);
    }

    /// Takes a node away, with all that is on its links, as when its process is killed.
    pub fn unplug(&self, node: NodeId) {
        let mut inner = self.lock();
        inner.endpoints.remove(&node);
        for ((from, to), link) in &inner.links {
            if *from == node || *to == node {
                link.send_modify(|link| link.breaks += 1);
            }
        }
    }

    /// Lets nothing pass between these two.
    pub fn cut(&self, one: NodeId, other: NodeId) {
        self.cut_way(one, other);
        self.cut_way(other, one);
    }

    /// Lets nothing pass from the one to the other. What it says the other way arrives.
    pub fn cut_way(&self, from: NodeId, to: NodeId) {
        self.change(from, to, |link| link.cut = true);
    }

    /// Lets everything pass between these two.
    pub fn heal(&self, one: NodeId, other: NodeId) {
        for (from, to) in [(one, other), (other, one)] {
            self.change(from, to, |link| {
                *link = Link { breaks: link.breaks, carried: link.carried, ..Link::default() }
            });
        }
    }

    /// Holds every message from the one to the other up for so long.
    pub fn delay(&self, from: NodeId, to: NodeId, delay: Duration) {
        self.change(from, to, |link| link.delay = delay);
    }

    /// Loses one of so many messages from the one to the other, and breaks the stream it was on.
    pub fn lose(&self, from: NodeId, to: NodeId, each: u64) {
        self.change(from, to, |link| link.loses_each = Some(each));
    }

    /// Whether snapshots arrive with a byte changed.
    pub fn damage_snapshots(&self, damaged: bool) {
        self.lock().bad_snapshots = damaged;
    }

    /// How often this node was asked.
    pub fn calls(&self, to: NodeId, call: PeerCall) -> u64 {
        self.lock().calls.get(&(to, call)).copied().unwrap_or_default()
    }

    /// How many snapshots were begun.
    pub fn snapshots(&self) -> u64 {
        self.lock().snapshots
    }

    fn change(&self, from: NodeId, to: NodeId, change: impl FnOnce(&mut Link)) {
        self.link(from, to).send_modify(change);
    }

    fn link(&self, from: NodeId, to: NodeId) -> watch::Sender<Link> {
        self.lock().links.entry((from, to)).or_default().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The way of messages from one node to another, as it was when it was opened.
struct Way {
    link: watch::Sender<Link>,
    breaks: u64,
    /// Who is named in errors: the peer of whoever sees them.
    peer: NodeId,
}

impl Way {
    fn broken(&self) -> PeerError {
        PeerError::Broken { node: self.peer, reason: "the link is cut".to_owned() }
    }

    /// Carries one message.
    async fn carry(&self) -> Result<(), PeerError> {
        let mut lost = false;
        self.link.send_modify(|link| {
            link.carried += 1;
            lost = link.loses_each.is_some_and(|each| link.carried.is_multiple_of(each));
        });
        let Link { cut, delay, breaks, .. } = *self.link.borrow();
        if !delay.is_zero() {
            tokio::time::sleep(delay).await;
        }
        if cut || lost || breaks != self.breaks { Err(self.broken()) } else { Ok(()) }
    }

    /// Waits until nothing passes any more.
    async fn breaks(&self) -> PeerError {
        let mut seen = self.link.subscribe();
        // The sender is here: it does not close.
        drop(seen.wait_for(|link| link.cut || link.breaks != self.breaks).await);
        self.broken()
    }
}

/// Messages that pass a way until it breaks.
fn on_way(messages: Incoming, way: Way) -> Incoming {
    stream::unfold(Some((messages, way)), |open| async move {
        let (mut messages, way) = open?;
        let next = tokio::select! {
            biased;
            broken = way.breaks() => Some(Err(broken)),
            next = messages.next() => next,
        };
        let passed = match next? {
            Ok(message) => way.carry().await.map(|()| message),
            Err(error) => Err(error),
        };
        let open = passed.is_ok().then_some((messages, way));
        Some((passed, open))
    })
    .boxed()
}

/// What arrives of messages.
fn arriving(messages: Outgoing, way: Way) -> Arriving {
    let gone = |broken: PeerError| SenderGone { reason: broken.to_string() };
    on_way(messages.map(Ok).boxed(), way).map(move |message| message.map_err(gone)).boxed()
}

/// How one node reaches the others.
#[derive(Debug)]
struct HubTransport {
    hub: PeerHub,
    from: NodeId,
}

/// A connection: the endpoint, and both ways.
struct Connection {
    endpoint: SharedPeerEndpoint,
    there: Way,
    back: Way,
}

impl HubTransport {
    fn connect(&self, peer: &PeerAddress) -> Result<Connection, PeerError> {
        let unreachable =
            |reason: &str| PeerError::Unreachable { node: peer.node, reason: reason.to_owned() };
        let there = self.hub.link(self.from, peer.node);
        let back = self.hub.link(peer.node, self.from);
        if there.borrow().cut || back.borrow().cut {
            return Err(unreachable("the link is cut"));
        }
        let endpoint = self.hub.lock().endpoints.get(&peer.node).cloned();
        let way = |link: watch::Sender<Link>, peer| {
            let breaks = link.borrow().breaks;
            Way { link, breaks, peer }
        };
        Ok(Connection {
            endpoint: endpoint.ok_or_else(|| unreachable("nobody listens"))?,
            there: way(there, self.from),
            back: way(back, peer.node),
        })
    }
}

fn refused(node: NodeId) -> impl Fn(PeerRefusal) -> PeerError {
    move |refusal| PeerError::Refused { node, reason: refusal.to_string() }
}

impl PeerTransport for HubTransport {
    fn append(
        &self,
        peer: &PeerAddress,
        messages: Outgoing,
    ) -> BoxFuture<'static, Result<Incoming, PeerError>> {
        let node = peer.node;
        let connected = self.connect(peer);
        Box::pin(async move {
            let Connection { endpoint, there, back } = connected?;
            let answers = endpoint.append(arriving(messages, there));
            let answers = answers.map(move |answer| answer.map_err(refused(node))).boxed();
            Ok(on_way(answers, back))
        })
    }

    fn call(
        &self,
        peer: &PeerAddress,
        call: PeerCall,
        message: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let node = peer.node;
        *self.hub.lock().calls.entry((node, call)).or_default() += 1;
        let connected = self.connect(peer);
        Box::pin(async move {
            let Connection { endpoint, there, back } = connected?;
            let answered = async {
                there.carry().await?;
                let answer = endpoint.answer(call, message).await.map_err(refused(node))?;
                back.carry().await.map(|()| answer)
            };
            tokio::select! {
                biased;
                error = back.breaks() => Err(error),
                answer = answered => answer.map_err(|error| named(error, node)),
            }
        })
    }

    fn send_snapshot(
        &self,
        peer: &PeerAddress,
        pieces: Outgoing,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let node = peer.node;
        let connected = self.connect(peer);
        let damaged = {
            let mut inner = self.hub.lock();
            inner.snapshots += u64::from(connected.is_ok());
            inner.bad_snapshots
        };
        Box::pin(async move {
            let Connection { endpoint, there, back } = connected?;
            let pieces = pieces.enumerate().map(move |(number, piece)| {
                // The first names the sender, what follows is the file.
                if damaged && number == 1 { flipped(&piece) } else { piece }
            });
            tokio::select! {
                biased;
                error = back.breaks() => Err(error),
                answer = endpoint.take_snapshot(arriving(pieces.boxed(), there)) => answer.map_err(refused(node)),
            }
        })
    }
}

/// The same piece with its last byte changed.
fn flipped(piece: &Bytes) -> Bytes {
    let mut bytes = piece.to_vec();
    if let Some(last) = bytes.last_mut() {
        *last ^= 1;
    }
    bytes.into()
}

/// An error on the way there, as the caller sees it.
fn named(error: PeerError, node: NodeId) -> PeerError {
    match error {
        PeerError::Broken { reason, .. } => PeerError::Broken { node, reason },
        other => other,
    }
}
