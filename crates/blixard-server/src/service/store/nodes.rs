//! A collection on many nodes at once: each by itself, and one that does not answer holds up no other.

use std::time::Duration;

use blixard_core::state::Node;
use blixard_proto::v1::store_service_client::StoreServiceClient;
use blixard_proto::v1::{CollectStoreRequest, CollectStoreResponse, StoreGarbage};
use blixard_types::NodeId;
use futures_util::future::join_all;
use tonic::{Request, Status};

use super::StoreApi;
use crate::service::cluster::find;
use crate::status;

/// A collection of a large store reads all of it. A node that is gone is noticed by its connection.
const PATIENCE: Duration = Duration::from_mins(25);

impl StoreApi {
    /// The nodes that are meant: one by its name or number, or all.
    pub(super) fn chosen(&self, wanted: &str) -> Result<Vec<(NodeId, String)>, Status> {
        self.server.replica.read(|state| {
            let one = (!wanted.is_empty()).then(|| find(state, wanted)).transpose()?;
            let meant = |(id, _): &(&NodeId, &Node)| one.is_none_or(|one| **id == one);
            let nodes = state.nodes.iter().filter(meant);
            Ok(nodes.map(|(id, node)| (*id, node.name.to_string())).collect())
        })
    }

    /// What came of it on each, in their order.
    pub(super) async fn collect_on(
        &self,
        nodes: Vec<(NodeId, String)>,
        request: &CollectStoreRequest,
    ) -> Vec<StoreGarbage> {
        let on_each = nodes.into_iter().map(|(node, name)| async move {
            let asked = tokio::time::timeout(PATIENCE, self.collect_at(node, request.clone())).await;
            row(name, asked.unwrap_or_else(|_| Err(late())))
        });
        join_all(on_each).await
    }

    async fn collect_at(
        &self,
        node: NodeId,
        request: CollectStoreRequest,
    ) -> Result<CollectStoreResponse, Status> {
        if node == self.server.node {
            return self.store.collect(request).await;
        }
        let mut client = StoreServiceClient::new(self.server.peers.channel(node).await?);
        let mut request = Request::new(request);
        request.set_timeout(PATIENCE);
        client.collect_store(request).await.map(tonic::Response::into_inner)
    }
}

fn row(node: String, collected: Result<CollectStoreResponse, Status>) -> StoreGarbage {
    match collected {
        Ok(CollectStoreResponse { paths, bytes, roots_left }) => {
            StoreGarbage { node, paths, bytes, roots_left, failed: String::new() }
        }
        Err(status) => {
            let failed = status::first_line(&status);
            tracing::warn!(node, failed, "a store was not collected");
            StoreGarbage { node, failed, ..StoreGarbage::default() }
        }
    }
}

fn late() -> Status {
    Status::deadline_exceeded(format!("no answer within {} min", PATIENCE.as_secs() / 60))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_does_not_answer_is_a_row_that_says_why() {
        let failed = row("b".to_owned(), Err(Status::unavailable("it is gone\nand more")));
        assert_eq!((failed.node.as_str(), failed.failed.as_str(), failed.paths), ("b", "it is gone", 0));
        let done = CollectStoreResponse { paths: 3, bytes: 9, roots_left: 1 };
        let row = row("a".to_owned(), Ok(done));
        assert_eq!((row.paths, row.bytes, row.roots_left, row.failed.as_str()), (3, 9, 1, ""));
    }
}
