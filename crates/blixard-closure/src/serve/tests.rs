//! A server in memory, asked by several nodes at once.

use blixard_core::ports::nix::NixStore as _;
use blixard_core::ports::{BootMillis, RawMillis, UnixMillis};
use blixard_core::roots::generation_root;
use blixard_proto::fetch_closure;
use blixard_proto::v1::closure_service_client::ClosureServiceClient;
use blixard_testkit::fake::nix::FakeNix;
use blixard_types::{GenerationNumber, PathRecord, StorePath};
use futures_util::stream;
use hyper_util::rt::TokioIo;
use tokio_stream::wrappers::ReceiverStream;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint, Server};

use super::*;

struct NoClock;

impl Clock for NoClock {
    fn wall(&self) -> UnixMillis {
        UnixMillis(0)
    }

    fn boot(&self) -> BootMillis {
        BootMillis(0)
    }

    fn raw(&self) -> RawMillis {
        RawMillis(0)
    }
}

/// A server and a closure that it may serve.
struct Ground {
    client: ClosureServiceClient<Channel>,
    closure: ClosureRef,
    _serving: JoinSet<Result<(), tonic::transport::Error>>,
}

async fn ground(limits: ServeLimits) -> Ground {
    let path: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a".parse().unwrap();
    let record =
        PathRecord { path: path.clone(), nar_hash: Sha256Hash::of(b"x"), nar_size: 9, references: [].into() };
    let nix = FakeNix::new();
    nix.add_record(record.clone());
    nix.add_root(generation_root(&"default/web".parse().unwrap(), GenerationNumber(1)), path.clone())
        .await
        .unwrap();
    let closure = Manifest::new(path, vec![record]).unwrap().closure_ref().unwrap();
    let caller: Caller = |extensions| extensions.get::<NodeId>().copied();
    let server = ClosureServer::new(Arc::new(nix), Arc::new(NoClock), limits, caller);
    let named = InterceptedService::new(server.service(), |mut request: Request<()>| {
        let node = request.metadata().get("node").and_then(|node| node.to_str().ok()?.parse().ok());
        if let Some(node) = node {
            request.extensions_mut().insert(NodeId(node));
        }
        Ok(request)
    });
    let (ours, theirs) = tokio::io::duplex(64 << 10);
    let incoming = stream::once(std::future::ready(Ok::<_, std::io::Error>(theirs)));
    let mut serving = JoinSet::new();
    let incoming = futures_util::StreamExt::chain(incoming, stream::pending());
    serving.spawn(Server::builder().add_service(named).serve_with_incoming(incoming));
    let mut ours = Some(ours);
    let connect = tower::service_fn(move |_| {
        let ours = ours.take().map(TokioIo::new).ok_or(std::io::ErrorKind::NotConnected);
        std::future::ready(ours.map_err(std::io::Error::from))
    });
    let channel = Endpoint::from_static("http://peer").connect_with_connector_lazy(connect);
    Ground { client: ClosureServiceClient::new(channel), closure, _serving: serving }
}

impl Ground {
    /// A stream of a node's; answered once it may be served.
    fn open(&self, node: u64) -> impl Future<Output = Open> + Send + use<> {
        let (wants, requests) = mpsc::channel(1);
        let _ = wants.try_send(fetch_closure(&self.closure));
        let mut request = Request::new(ReceiverStream::new(requests));
        request.metadata_mut().insert("node", node.to_string().parse().unwrap());
        let mut client = self.client.clone();
        async move { Open { _wants: wants, _parts: client.fetch(request).await.unwrap().into_inner() } }
    }
}

/// A stream that is served; it ends when this is dropped.
struct Open {
    _wants: mpsc::Sender<FetchRequest>,
    _parts: Streaming<NarPart>,
}

#[tokio::test]
async fn a_node_has_no_more_streams_than_one_may_have_and_others_are_served() {
    let ground = ground(ServeLimits { uploads: 4, uploads_per_node: 1, bytes_per_s: None }).await;
    let first = ground.open(1).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(ground.open(1));
    // Answered after the one that waits was asked for.
    let other = ground.open(2).await;
    tokio::task::yield_now().await;
    assert!(waiting.try_join_next().is_none(), "a second stream of the same node was served");
    drop(first);
    waiting.join_next().await.unwrap().unwrap();
    drop(other);
}

#[tokio::test]
async fn no_more_streams_are_served_at_once_than_allowed() {
    let ground = ground(ServeLimits { uploads: 2, uploads_per_node: 2, bytes_per_s: None }).await;
    let first = ground.open(1).await;
    let second = ground.open(2).await;
    let mut waiting = JoinSet::new();
    waiting.spawn(ground.open(3));
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(waiting.try_join_next().is_none(), "a third stream was served");
    drop(second);
    waiting.join_next().await.unwrap().unwrap();
    drop(first);
}
