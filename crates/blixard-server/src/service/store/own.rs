//! The store of this node alone, which is all that a host without the role server has to show of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::nix::{GarbageCollector, NixStore, RootName};
use blixard_proto::v1::store_service_server::{StoreService, StoreServiceServer};
use blixard_proto::v1::{CollectGarbageRequest, CollectGarbageResponse};
use blixard_proto::v1::{CollectStoreRequest, CollectStoreResponse};
use blixard_types::NodeId;
use tonic::{Request, Response, Status};

use super::CallingNode;
use crate::status;

/// How long the agent and the builder of this node may take to drop the roots of what was forgotten.
const ROOTS_LIMIT: Duration = Duration::from_secs(20);
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// The store of this node, and what collects it.
#[derive(Clone)]
pub(in crate::service) struct OwnStore {
    store: Arc<dyn NixStore>,
    collector: Arc<dyn GarbageCollector>,
}

impl OwnStore {
    pub(in crate::service) fn new<T: NixStore + GarbageCollector>(store: Arc<T>) -> Self {
        Self { collector: Arc::clone(&store) as Arc<dyn GarbageCollector>, store }
    }

    /// Collects it, or says what would go.
    pub(super) async fn collect(&self, request: CollectStoreRequest) -> Result<CollectStoreResponse, Status> {
        let roots: BTreeSet<RootName> = request.roots.into_iter().map(RootName).collect();
        let mut left = self.present(&roots).await?;
        let without = if request.dry_run {
            std::mem::take(&mut left)
        } else {
            left = self.wait_for_roots(&roots).await?;
            Vec::new()
        };
        let garbage = self.collector.dead(without).await.map_err(|error| status::nix_command(&error))?;
        if !request.dry_run {
            self.collector.collect().await.map_err(|error| status::nix_command(&error))?;
        }
        let (paths, bytes) = (garbage.paths, garbage.bytes);
        Ok(CollectStoreResponse { paths, bytes, roots_left: left.len() as u64 })
    }

    /// Those of the roots that are here.
    async fn present(&self, roots: &BTreeSet<RootName>) -> Result<Vec<RootName>, Status> {
        let here = self.store.roots().await.map_err(|error| status::root(&error))?;
        Ok(here.into_iter().map(|(name, _)| name).filter(|name| roots.contains(name)).collect())
    }

    /// Whoever has made a root drops it, once the state does not need it any more. What is still there
    /// after a while.
    async fn wait_for_roots(&self, roots: &BTreeSet<RootName>) -> Result<Vec<RootName>, Status> {
        let gone = async {
            while !self.present(roots).await?.is_empty() {
                tokio::time::sleep(LOOK_EVERY).await;
            }
            Ok(Vec::new())
        };
        match tokio::time::timeout(ROOTS_LIMIT, gone).await {
            Ok(gone) => gone,
            Err(_) => self.present(roots).await,
        }
    }
}

/// Whether a node is a server, as far as this one knows.
type IsServer = Arc<dyn Fn(NodeId) -> bool + Send + Sync>;

/// The service of the store of a host that is no server: it forgets nothing by itself.
#[derive(Clone)]
pub struct StoreOfHost {
    store: OwnStore,
    is_server: IsServer,
}

/// Makes it.
#[must_use]
pub fn store_of_host<T: NixStore + GarbageCollector>(
    store: Arc<T>,
    is_server: impl Fn(NodeId) -> bool + Send + Sync + 'static,
) -> StoreServiceServer<StoreOfHost> {
    StoreServiceServer::new(StoreOfHost { store: OwnStore::new(store), is_server: Arc::new(is_server) })
}

#[tonic::async_trait]
impl StoreService for StoreOfHost {
    async fn collect_garbage(
        &self,
        _: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageResponse>, Status> {
        Err(Status::failed_precondition("this node is no server, and a collection of all begins at one"))
    }

    async fn collect_store(
        &self,
        request: Request<CollectStoreRequest>,
    ) -> Result<Response<CollectStoreResponse>, Status> {
        let caller = request.extensions().get::<CallingNode>();
        if !caller.is_some_and(|&CallingNode(node)| (self.is_server)(node)) {
            return Err(Status::permission_denied("a store is collected for servers"));
        }
        self.store.collect(request.into_inner()).await.map(Response::new)
    }
}
