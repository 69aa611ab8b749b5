//! A rule broken on purpose: a log that takes each attempt for a call of its own.

use std::sync::Arc;

use blixard_core::ports::consensus::{Applied, Consensus, LinearizeError, ProposeError, Standing};
use blixard_core::ports::{BoxStream, Entropy};
use blixard_proto::{decode_envelope, encode_envelope};
use blixard_raft::RaftNode;
use blixard_types::{LogPosition, RequestId};
use futures_util::future::BoxFuture;

use super::outside::Outside;

/// Proposes under a new request id, whatever id the call had.
pub(super) struct Renumbering {
    node: RaftNode,
    outside: Arc<Outside>,
}

impl Renumbering {
    pub(super) fn new(node: RaftNode, outside: Arc<Outside>) -> Self {
        Self { node, outside }
    }

    fn renumbered(&self, command: Vec<u8>) -> Vec<u8> {
        let Ok(mut envelope) = decode_envelope(&command) else { return command };
        envelope.request = RequestId(self.outside.id());
        encode_envelope(&envelope).unwrap_or(command)
    }
}

impl Consensus for Renumbering {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        self.node.propose(self.renumbered(command))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        self.node.linearize()
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        self.node.linearize_by_lease()
    }

    fn standing(&self) -> Standing {
        self.node.standing()
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        self.node.standings()
    }
}
