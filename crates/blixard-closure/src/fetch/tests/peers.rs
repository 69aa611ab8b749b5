//! Peers whose paths are files of zeros, made as they are sent, over connections in memory.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_proto::manifest_parts;
use blixard_proto::v1::closure_service_server::{ClosureService, ClosureServiceServer};
use blixard_proto::v1::{FetchRequest, ManifestPart, ManifestRequest, NarPart, fetch_request};
use blixard_types::{Manifest, NodeId};
use futures_util::{Stream, StreamExt as _, stream};
use hyper_util::rt::TokioIo;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tonic::transport::{Channel, Endpoint, Server};
use tonic::{Request, Response, Status, Streaming};

use super::super::PeerAccess;
use crate::nar::CHUNK;

/// What a connection in memory holds.
const CONNECTION: usize = 64 << 10;

/// Peers from which nothing was taken for so long are held up.
const REST: Duration = Duration::from_millis(300);

/// A NAR's beginning and end around one file of so many bytes.
fn around(bytes: u64) -> (Vec<u8>, Vec<u8>) {
    let text = |out: &mut Vec<u8>, word: &str| {
        out.extend((word.len() as u64).to_le_bytes());
        out.extend(word.as_bytes());
        out.resize(out.len().next_multiple_of(8), 0);
    };
    let (mut head, mut tail) = (Vec::new(), Vec::new());
    for word in ["nix-archive-1", "(", "type", "regular", "contents"] {
        text(&mut head, word);
    }
    head.extend(bytes.to_le_bytes());
    tail.resize(usize::try_from(bytes.next_multiple_of(8) - bytes).unwrap(), 0);
    text(&mut tail, ")");
    (head, tail)
}

pub(super) fn nar_size(bytes: u64) -> u64 {
    let (head, tail) = around(bytes);
    head.len() as u64 + bytes + tail.len() as u64
}

/// What a peer has done.
#[derive(Debug, Default)]
struct Counts {
    connections: AtomicU64,
    streams: AtomicU64,
    /// Bytes that were taken from it to be sent.
    sent: AtomicU64,
}

#[derive(Clone)]
struct Peer {
    manifest: Arc<Manifest>,
    counts: Arc<Counts>,
    empty: bool,
    changes: watch::Sender<()>,
}

pub(super) struct Peers {
    by_node: BTreeMap<NodeId, Peer>,
    window: u32,
    /// Changes with every part that is taken from a peer.
    changes: watch::Sender<()>,
    serving: Mutex<JoinSet<Result<(), tonic::transport::Error>>>,
}

impl Peers {
    pub(super) fn of(manifest: &Manifest, count: u64, window: u32) -> Arc<Self> {
        Self::new(manifest, count, window, false)
    }

    pub(super) fn that_send_nothing(manifest: &Manifest, window: u32) -> Arc<Self> {
        Self::new(manifest, 1, window, true)
    }

    fn new(manifest: &Manifest, count: u64, window: u32, empty: bool) -> Arc<Self> {
        let manifest = Arc::new(manifest.clone());
        let changes = watch::Sender::default();
        let peer = |_| {
            let (manifest, changes) = (Arc::clone(&manifest), changes.clone());
            Peer { manifest, counts: Arc::default(), empty, changes }
        };
        let by_node = (1..=count).map(|node| (NodeId(node), peer(node))).collect();
        Arc::new(Self { by_node, window, changes, serving: Mutex::default() })
    }

    fn count(&self, of: impl Fn(&Counts) -> &AtomicU64) -> u64 {
        self.by_node.values().map(|peer| of(&peer.counts).load(Ordering::SeqCst)).sum()
    }

    pub(super) fn sent(&self) -> u64 {
        self.count(|counts| &counts.sent)
    }

    /// Nothing more is taken from any peer.
    pub(super) async fn at_rest(&self) {
        let mut changes = self.changes.subscribe();
        while tokio::time::timeout(REST, changes.changed()).await.is_ok() {}
    }

    pub(super) fn streams(&self, node: NodeId) -> u64 {
        self.by_node[&node].counts.streams.load(Ordering::SeqCst)
    }

    pub(super) fn connections(&self, node: NodeId) -> u64 {
        self.by_node[&node].counts.connections.load(Ordering::SeqCst)
    }
}

impl PeerAccess for Peers {
    fn channel(&self, node: NodeId) -> BoxFuture<'_, Result<Channel, String>> {
        let peer = self.by_node[&node].clone();
        peer.counts.connections.fetch_add(1, Ordering::SeqCst);
        let (ours, theirs) = tokio::io::duplex(CONNECTION);
        let incoming = stream::once(std::future::ready(Ok::<_, std::io::Error>(theirs)));
        // The connection goes on when nothing more comes in.
        let incoming = incoming.chain(stream::pending());
        let server = Server::builder().add_service(ClosureServiceServer::new(peer));
        self.serving.lock().unwrap().spawn(server.serve_with_incoming(incoming));
        let mut ours = Some(ours);
        let connect = tower::service_fn(move |_| {
            let ours = ours.take().map(TokioIo::new).ok_or(std::io::ErrorKind::NotConnected);
            std::future::ready(ours.map_err(std::io::Error::from))
        });
        let endpoint = Endpoint::from_static("http://peer")
            .initial_stream_window_size(self.window)
            .initial_connection_window_size(self.window);
        Box::pin(std::future::ready(Ok(endpoint.connect_with_connector_lazy(connect))))
    }
}

type Parts<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl ClosureService for Peer {
    type ManifestStream = Parts<ManifestPart>;
    type FetchStream = Parts<NarPart>;

    async fn manifest(&self, _: Request<ManifestRequest>) -> Result<Response<Self::ManifestStream>, Status> {
        let parts = manifest_parts(&self.manifest).into_iter().map(Ok);
        Ok(Response::new(Box::pin(stream::iter(parts))))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        self.counts.streams.fetch_add(1, Ordering::SeqCst);
        let (manifest, counts, empty) = (Arc::clone(&self.manifest), Arc::clone(&self.counts), self.empty);
        let changes = self.changes.clone();
        let parts = request.into_inner().flat_map(move |request| {
            let (counts, changes) = (Arc::clone(&counts), changes.clone());
            let wanted = match request.map(|request| request.request) {
                Ok(Some(fetch_request::Request::Want(path))) => Some(path),
                _ => None,
            };
            let of = |path: u32| {
                let nar_size = manifest.records()[path as usize].nar_size;
                if empty { nothing(path).boxed() } else { stream::iter(nar(path, nar_size)).boxed() }
            };
            let parts = wanted.map_or_else(|| stream::empty().boxed(), of);
            parts.map(move |part: NarPart| {
                counts.sent.fetch_add(part.data.len() as u64, Ordering::SeqCst);
                changes.send_replace(());
                Ok(part)
            })
        });
        Ok(Response::new(Box::pin(parts)))
    }
}

fn nothing(path: u32) -> impl Stream<Item = NarPart> {
    stream::repeat_with(move || NarPart { path, data: Vec::new().into(), last: false })
}

/// The NAR of a file of zeros, a chunk at a time.
fn nar(path: u32, nar_size: u64) -> impl Iterator<Item = NarPart> {
    // With and without padding the frame around the file is of two sizes.
    let bytes = (0..=16).map(|less| nar_size - nar_size_of_frame() - less);
    let bytes = bytes.into_iter().find(|bytes| self::nar_size(*bytes) == nar_size).unwrap();
    let (head, tail) = around(bytes);
    let part = move |data: Vec<u8>, last| NarPart { path, data: data.into(), last };
    let chunks = (0..bytes.div_ceil(CHUNK as u64)).map(move |chunk| {
        let left = bytes - chunk * CHUNK as u64;
        part(vec![0; usize::try_from(left).unwrap().min(CHUNK)], false)
    });
    [part(head, false)].into_iter().chain(chunks).chain([part(tail, true)])
}

fn nar_size_of_frame() -> u64 {
    self::nar_size(0)
}
