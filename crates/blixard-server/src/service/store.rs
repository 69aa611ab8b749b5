//! `StoreService`: the stores of the nodes.
//!
//! ```text
//! caller ─▶ any server: forgets generations, in the log ─▶ each node: its roots go, then its garbage
//! ```

mod nodes;
mod own;

use std::collections::BTreeSet;

use blixard_core::command::Command;
use blixard_core::garbage::forgettable;
use blixard_core::ports::nix::RootName;
use blixard_core::principal::Principal;
use blixard_core::roots::{build_root, generation_root};
use blixard_core::state::ClusterState;
use blixard_proto::random_id;
use blixard_proto::v1::store_service_server::StoreService;
use blixard_proto::v1::{CollectGarbageRequest, CollectGarbageResponse, ForgottenGeneration};
use blixard_proto::v1::{CollectStoreRequest, CollectStoreResponse};
use blixard_types::{GenerationNumber, RequestId, VmId};
use tonic::{Request, Response, Status};

use super::peer::CallingNode;
use crate::Server;

pub(super) use own::OwnStore;
pub use own::{StoreOfHost, store_of_host};

#[derive(Clone)]
pub struct StoreApi {
    pub(super) server: Server,
    pub(super) store: OwnStore,
}

#[tonic::async_trait]
impl StoreService for StoreApi {
    async fn collect_garbage(
        &self,
        request: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageResponse>, Status> {
        let (CollectGarbageRequest { request_id, dry_run, keep, node }, by) = self.server.asked(request)?;
        if matches!(by, Some(Principal::Node { .. })) {
            return Err(Status::permission_denied("nodes forget nothing"));
        }
        let request = RequestId(random_id("request_id", &request_id)?);
        if keep == Some(0) {
            return Err(Status::invalid_argument("keep: at least 1, the generation that should run"));
        }
        self.server.linearize().await?;
        let nodes = self.chosen(&node)?;
        let count = keep.map(|keep| usize::try_from(keep).unwrap_or(usize::MAX));
        let (old, forgotten, roots) = self.server.replica.read(|state| {
            let old = count.map(|keep| forgettable(state, keep)).unwrap_or_default();
            (old.clone(), views(state, &old), roots_of(state, &old))
        });
        if let Some(keep) = keep.filter(|_| !dry_run && !old.is_empty()) {
            self.server.ask_for((request, by), Command::ForgetGenerations { keep }).await?;
        }
        let roots = roots.into_iter().map(|RootName(name)| name).collect();
        let stores = self.collect_on(nodes, &CollectStoreRequest { dry_run, roots }).await;
        let own = self.server.node;
        let node = self.server.replica.read(|state| state.nodes.get(&own).map(|node| node.name.to_string()));
        Ok(Response::new(CollectGarbageResponse {
            node: node.unwrap_or_default(),
            forgotten,
            paths: stores.iter().map(|store| store.paths).sum(),
            bytes: stores.iter().map(|store| store.bytes).sum(),
            stores,
        }))
    }

    async fn collect_store(
        &self,
        request: Request<CollectStoreRequest>,
    ) -> Result<Response<CollectStoreResponse>, Status> {
        let caller = request.extensions().get::<CallingNode>();
        if caller.is_some_and(|&CallingNode(node)| !self.server.is_server(node)) {
            return Err(Status::permission_denied("a store is collected for servers"));
        }
        self.store.collect(request.into_inner()).await.map(Response::new)
    }
}

fn views(state: &ClusterState, old: &[(VmId, GenerationNumber)]) -> Vec<ForgottenGeneration> {
    let view = |(vm, number): &(VmId, GenerationNumber)| {
        let closure = &state.vms.get(vm)?.generations.get(number)?.closure;
        let (root, nar_size) = (closure.root.to_string(), closure.nar_size);
        Some(ForgottenGeneration { vm: vm.to_string(), generation: number.0, root, nar_size })
    };
    old.iter().filter_map(view).collect()
}

/// The roots that go with these generations: the host's, and the builder's if no other generation of the
/// vm comes from the same deployment.
fn roots_of(state: &ClusterState, old: &[(VmId, GenerationNumber)]) -> BTreeSet<RootName> {
    let of = |(id, number): &(VmId, GenerationNumber)| {
        let vm = state.vms.get(id)?;
        let deployment = vm.generations.get(number)?.deployment;
        let stays = |(other, generation): (&GenerationNumber, &blixard_core::state::Generation)| {
            generation.deployment == deployment && !old.contains(&(id.clone(), *other))
        };
        let shared = vm.generations.iter().any(stays);
        let build = (!shared).then(|| build_root(deployment, id));
        Some([Some(generation_root(id, *number)), build].into_iter().flatten().collect::<Vec<_>>())
    };
    old.iter().filter_map(of).flatten().collect()
}
