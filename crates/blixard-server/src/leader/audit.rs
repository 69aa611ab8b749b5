//! The leader says now and then what the state was, so that a server whose state differs stops.

use blixard_core::command::Command;

use crate::{Server, StateDigest};

/// Runs for as long as the replica does.
pub async fn run(server: Server) {
    let mut digests = server.replica.digests();
    while digests.changed().await.is_ok() {
        let newest = *digests.borrow_and_update();
        let Some(StateDigest { revision, rules, digest }) = newest.filter(|_| server.log.standing().leads())
        else {
            continue;
        };
        let proposer = server.proposer();
        let audit = Command::Audit { revision, digest, rules };
        if let Err(failure) = proposer.propose(proposer.fresh_request(), audit).await {
            tracing::info!(%revision, %failure, "the state was not compared");
        }
    }
}
