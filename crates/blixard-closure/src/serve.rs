//! Serves closures to other nodes.
//!
//! Owns: manifests and NARs as messages, how many are served at once and how fast. Refuses to know: who
//! asks (whoever composes the server lets peers in and nobody else) and what may be served; core says so.

mod packer;

use std::collections::{BTreeMap, VecDeque};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use blixard_core::ports::Clock;
use blixard_core::ports::nix::NixStore;
use blixard_core::transfer::{Pace, may_serve};
use blixard_proto::v1::closure_service_server::{ClosureService, ClosureServiceServer};
use blixard_proto::v1::{FetchRequest, ManifestPart, ManifestRequest, NarPart, fetch_request};
use blixard_proto::{closure_from, manifest_parts};
use blixard_types::{ClosureRef, Manifest, NodeId, Sha256Hash};
use futures_util::Stream;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::StreamExt as _;
use tonic::{Extensions, Request, Response, Status, Streaming};

use crate::limits::ServeLimits;
use packer::{Packer, Work};

/// Manifests kept: a host asks for one and then for its paths.
const MANIFESTS_KEPT: usize = 16;
/// Messages that may wait for the network: with their chunks, 1 MiB for each caller.
const PARTS_QUEUED: usize = 4;

/// Says which node a request is from, by what whoever let it in has put beside it.
pub type Caller = fn(&Extensions) -> Option<NodeId>;

/// Manifests by their digests, the newest first.
type Manifests = VecDeque<(Sha256Hash, Arc<Manifest>)>;

/// Serves the closures that this node's roots keep.
#[derive(Clone)]
pub struct ClosureServer {
    store: Arc<dyn NixStore>,
    clock: Arc<dyn Clock>,
    manifests: Arc<Mutex<Manifests>>,
    caller: Caller,
    limits: ServeLimits,
    uploads: Arc<Semaphore>,
    /// Those to each node; as many as the cluster has.
    of_nodes: Arc<Mutex<BTreeMap<NodeId, Arc<Semaphore>>>>,
    pace: Option<Arc<Mutex<Pace>>>,
}

impl ClosureServer {
    /// A server of this store.
    #[must_use]
    pub fn new(store: Arc<dyn NixStore>, clock: Arc<dyn Clock>, limits: ServeLimits, caller: Caller) -> Self {
        Self {
            store,
            clock,
            manifests: Arc::default(),
            caller,
            limits,
            of_nodes: Arc::default(),
            uploads: Arc::new(Semaphore::new(limits.uploads.max(1))),
            pace: limits.bytes_per_s.map(|rate| Arc::new(Mutex::new(Pace::new(rate)))),
        }
    }

    /// The gRPC service.
    #[must_use]
    pub fn service(self) -> ClosureServiceServer<Self> {
        ClosureServiceServer::new(self)
    }

    /// The manifest of a closure that may be served.
    async fn manifest_of(&self, closure: &ClosureRef) -> Result<Arc<Manifest>, Status> {
        let roots =
            self.store.roots().await.map_err(|error| Status::unavailable(blixard_types::chain(&error)))?;
        if !may_serve(&roots, &closure.root) {
            return Err(Status::not_found(format!("no root keeps {} here", closure.root)));
        }
        if let Some(manifest) = self.remembered(closure.closure_digest) {
            return Ok(manifest);
        }
        let listed = self.store.closure(closure.root.clone()).await;
        let manifest = Arc::new(listed.map_err(|error| Status::unavailable(blixard_types::chain(&error)))?);
        if manifest.digest() != closure.closure_digest {
            return Err(Status::not_found(format!("the closure of {} is another here", closure.root)));
        }
        let mut kept = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((closure.closure_digest, Arc::clone(&manifest)));
        kept.truncate(MANIFESTS_KEPT);
        Ok(manifest)
    }

    fn remembered(&self, digest: Sha256Hash) -> Option<Arc<Manifest>> {
        let kept = self.manifests.lock().unwrap_or_else(PoisonError::into_inner);
        kept.iter().find(|(of, _)| *of == digest).map(|(_, manifest)| Arc::clone(manifest))
    }

    /// Waits until this caller may be served; nobody takes the turns of others by calling often.
    async fn turn(&self, caller: Option<NodeId>) -> Result<Turn, Status> {
        let over = |_| Status::unavailable("this node serves no longer");
        let own = caller.map(|node| {
            let mut nodes = self.of_nodes.lock().unwrap_or_else(PoisonError::into_inner);
            let room = || Arc::new(Semaphore::new(self.limits.uploads_per_node.max(1)));
            Arc::clone(nodes.entry(node).or_insert_with(room))
        });
        let own = match own {
            Some(own) => Some(own.acquire_owned().await.map_err(over)?),
            None => None,
        };
        Ok(Turn { _own: own, _all: Arc::clone(&self.uploads).acquire_owned().await.map_err(over)? })
    }

    async fn opened(&self, requests: &mut Streaming<FetchRequest>) -> Result<Arc<Manifest>, Status> {
        let first =
            requests.next().await.ok_or_else(|| Status::invalid_argument("nothing is asked for"))??;
        match first.request {
            Some(fetch_request::Request::Closure(closure)) => {
                self.manifest_of(&closure_from(Some(closure))?).await
            }
            _ => Err(Status::invalid_argument("the first message must say which closure")),
        }
    }
}

/// The right to be sent NARs now.
struct Turn {
    _own: Option<OwnedSemaphorePermit>,
    _all: OwnedSemaphorePermit,
}

/// NARs on their way to a caller; what makes them ends when this is dropped.
pub struct Parts {
    parts: mpsc::Receiver<Result<NarPart, Status>>,
    _work: JoinSet<()>,
}

impl Stream for Parts {
    type Item = Result<NarPart, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.parts.poll_recv(context)
    }
}

#[tonic::async_trait]
impl ClosureService for ClosureServer {
    type ManifestStream = tokio_stream::Iter<std::vec::IntoIter<Result<ManifestPart, Status>>>;
    type FetchStream = Parts;

    async fn manifest(
        &self,
        request: Request<ManifestRequest>,
    ) -> Result<Response<Self::ManifestStream>, Status> {
        let closure = closure_from(request.into_inner().closure)?;
        let manifest = self.manifest_of(&closure).await?;
        let parts: Vec<_> = manifest_parts(&manifest).into_iter().map(Ok).collect();
        Ok(Response::new(tokio_stream::iter(parts)))
    }

    async fn fetch(
        &self,
        request: Request<Streaming<FetchRequest>>,
    ) -> Result<Response<Self::FetchStream>, Status> {
        let caller = (self.caller)(request.extensions());
        let mut requests = request.into_inner();
        let manifest = self.opened(&mut requests).await?;
        let turn = self.turn(caller).await?;
        let (sender, parts) = mpsc::channel(PARTS_QUEUED);
        let (wants, wanted) = mpsc::channel(blixard_core::transfer::WINDOW_PATHS);
        let packer = Packer { manifest, pace: self.pace.clone(), clock: Arc::clone(&self.clock), sender };
        let mut work = JoinSet::new();
        work.spawn_blocking(move || {
            let _serving = turn;
            packer.run(wanted);
        });
        work.spawn(pass_on(requests, wants));
        Ok(Response::new(Parts { parts, _work: work }))
    }
}

/// Wants, in their order; anything else ends the stream with an error.
async fn pass_on(mut requests: Streaming<FetchRequest>, wants: mpsc::Sender<Work>) {
    while let Some(request) = requests.next().await {
        let work = match request.map(|request| request.request) {
            Ok(Some(fetch_request::Request::Want(path))) => Work::Pack(path),
            Ok(_) => Work::Fail(Status::invalid_argument("expected the place of a path")),
            Err(_) => return,
        };
        if wants.send(work).await.is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests;
