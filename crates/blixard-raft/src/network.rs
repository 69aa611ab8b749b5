//! The network of a cluster of one: there is nobody to reach.
//!
//! Owns the answer "unreachable" to every call, `pre_vote` included: openraft's default grants a
//! pre-vote without asking, which would make it void. Servers that talk to each other bring their
//! own factory; nothing here is meant to grow into one.

use std::future::Future;

use openraft::alias::SnapshotOf;
use openraft::errors::{RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::checkpoint::CheckpointBody;
use crate::types::{Peer, TypeConfig, Vote};

/// Reaches no peer.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct NoPeers;

/// A connection to a peer that is not there.
#[derive(Debug)]
pub(crate) struct Nowhere {
    target: u64,
}

impl Nowhere {
    fn unreachable(&self) -> Unreachable<TypeConfig> {
        Unreachable::from_string(format!("this server has no transport to node {}", self.target))
    }
}

impl RaftNetworkFactory<TypeConfig> for NoPeers {
    type Network = Nowhere;

    async fn new_client(&mut self, target: u64, _peer: &Peer) -> Nowhere {
        Nowhere { target }
    }
}

impl RaftNetworkV2<TypeConfig> for Nowhere {
    type SnapshotData = CheckpointBody;

    async fn append_entries(
        &mut self,
        _request: AppendEntriesRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn vote(
        &mut self,
        _request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn pre_vote(
        &mut self,
        _request: VoteRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn full_snapshot(
        &mut self,
        _vote: Vote,
        _snapshot: SnapshotOf<TypeConfig, CheckpointBody>,
        _cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        Err(self.unreachable().into())
    }

    async fn transfer_leader(
        &mut self,
        _request: TransferLeaderRequest<TypeConfig>,
        _option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        Err(self.unreachable().into())
    }
}
