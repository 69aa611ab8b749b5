//! openraft's calls to peers, over a [`PeerTransport`].
//!
//! Owns the translation of messages and errors, and how long a peer that cannot be reached is left
//! alone. Refuses to grant a pre-vote that nobody gave: openraft's default does, which would make it
//! void. Appended entries go on one stream per peer for as long as a leader leads and nothing
//! fails; heartbeats and votes are calls of their own.

use std::future::Future;
use std::time::Duration;

use blixard_core::ports::peer::{Incoming, Outgoing, PeerAddress, PeerCall, PeerError, SharedPeerTransport};
use bytes::Bytes;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use openraft::OptionalSend;
use openraft::alias::SnapshotOf;
use openraft::base::BoxFuture;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{
    Backoff, NetBackoff, NetSnapshot, NetStreamAppend, NetTransferLeader, NetVote, RPCOption,
    RaftNetworkFactory,
};
use openraft::raft::{
    AppendEntriesRequest, SnapshotResponse, StreamAppendResult, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};
use tokio::sync::oneshot;

use crate::checkpoint::CheckpointBody;
use crate::types::{Peer, TypeConfig, Vote, node_id};
use crate::wire::{self, Message, Route};

/// How long a peer that cannot be reached is left alone at first, and at most: doubling in between.
const BACKOFF_FIRST: Duration = Duration::from_millis(10);
const BACKOFF_MOST: Duration = Duration::from_millis(500);

type Answers<'s> = BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>>>;

/// Makes clients for peers.
#[derive(Debug, Clone)]
pub(crate) struct PeerNetwork {
    pub(crate) transport: SharedPeerTransport,
    pub(crate) me: u64,
}

/// What a client is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Purpose {
    Heartbeat,
    AllElse,
}

/// One peer.
#[derive(Debug)]
pub(crate) struct PeerClient {
    transport: SharedPeerTransport,
    route: Route,
    peer: PeerAddress,
    purpose: Purpose,
}

impl PeerNetwork {
    fn client(&self, target: u64, peer: &Peer, purpose: Purpose) -> PeerClient {
        PeerClient {
            transport: self.transport.clone(),
            route: Route { from: self.me, to: target },
            peer: PeerAddress { node: node_id(target), address: peer.address.clone() },
            purpose,
        }
    }
}

impl RaftNetworkFactory<TypeConfig> for PeerNetwork {
    type Network = PeerClient;

    async fn new_client(&mut self, target: u64, peer: &Peer) -> PeerClient {
        self.client(target, peer, Purpose::AllElse)
    }

    async fn new_heartbeat_client(&mut self, target: u64, peer: &Peer) -> PeerClient {
        self.client(target, peer, Purpose::Heartbeat)
    }
}

impl PeerClient {
    fn encode(&self, message: &impl Message) -> Result<Bytes, RPCError<TypeConfig>> {
        wire::request(self.route, message).map_err(|error| NetworkError::new(&error).into())
    }

    async fn ask<A: Message>(
        &self,
        call: PeerCall,
        message: &impl Message,
        limit: Duration,
    ) -> Result<A, RPCError<TypeConfig>> {
        let asked = self.transport.call(&self.peer, call, self.encode(message)?);
        match tokio::time::timeout(limit, asked).await {
            Ok(answer) => decode(answer),
            Err(elapsed) => Err(NetworkError::new(&elapsed).into()),
        }
    }

    /// A heartbeat asks and is answered, apart from all streams.
    async fn beat(
        &self,
        request: AppendEntriesRequest<TypeConfig>,
        limit: Duration,
    ) -> Result<StreamAppendResult<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(PeerCall::Heartbeat, &request, limit).await
    }
}

fn decode<A: Message>(answer: Result<Bytes, PeerError>) -> Result<A, RPCError<TypeConfig>> {
    let bytes = answer.map_err(|error| failed(&error))?;
    wire::read_answer(bytes).map_err(|error| NetworkError::new(&error).into())
}

/// What openraft does of an error: it leaves alone for a while who is unreachable, and tries again at
/// once, at first, who is not.
fn failed(error: &PeerError) -> RPCError<TypeConfig> {
    match error {
        // Who refuses will refuse again.
        PeerError::Unreachable { .. } | PeerError::Refused { .. } => Unreachable::new(error).into(),
        PeerError::Broken { .. } => NetworkError::new(error).into(),
    }
}

impl NetBackoff<TypeConfig> for PeerClient {
    fn backoff(&self) -> Option<Backoff> {
        let delays = std::iter::successors(Some(BACKOFF_FIRST), |delay| Some((*delay * 2).min(BACKOFF_MOST)));
        Some(Backoff::new(delays))
    }
}

impl NetStreamAppend<TypeConfig> for PeerClient {
    fn stream_append<S>(
        &mut self,
        requests: S,
        option: RPCOption,
    ) -> BoxFuture<'_, Result<Answers<'_>, RPCError<TypeConfig>>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + OptionalSend + Unpin + 'static,
    {
        match self.purpose {
            Purpose::Heartbeat => std::future::ready(Ok(self.beats(requests, option.hard_ttl()))).boxed(),
            Purpose::AllElse => self.open_stream(requests).boxed(),
        }
    }
}

impl PeerClient {
    fn beats<S>(&self, requests: S, limit: Duration) -> Answers<'_>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        requests.then(move |request| self.beat(request, limit)).boxed()
    }

    /// The first request is waited for before the stream is opened: it is there that openraft backs off.
    /// Without it, a peer that refuses at once would be tried without a pause.
    async fn open_stream<S>(&self, mut requests: S) -> Result<Answers<'_>, RPCError<TypeConfig>>
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        let route = self.route;
        let Some(first) = requests.next().await else { return Ok(stream::empty().boxed()) };
        let requests = stream::iter([first]).chain(requests);
        let (leash, messages) = leashed(requests.map(move |request| wire::request(route, &request)));
        let answers: Incoming =
            self.transport.append(&self.peer, messages).await.map_err(|error| failed(&error))?;
        let answers = answers.map(move |answer| {
            let _held = &leash;
            decode(answer)
        });
        Ok(answers.boxed())
    }
}

/// The messages, until the leash is dropped. openraft waits for its requests to be dropped before it
/// makes new ones, and a transport may keep them a while after the answers are gone.
fn leashed<S, E>(messages: S) -> (oneshot::Sender<()>, Outgoing)
where
    S: Stream<Item = Result<Bytes, E>> + Send + Unpin + 'static,
    E: std::error::Error + Send + 'static,
{
    let (leash, dropped) = oneshot::channel::<()>();
    let held = stream::unfold((messages, dropped), |(mut messages, mut dropped)| async move {
        let next = tokio::select! {
            biased;
            _ = &mut dropped => None,
            next = messages.next() => next,
        };
        match next? {
            Ok(message) => Some((message, (messages, dropped))),
            Err(error) => {
                // Ends the stream; openraft opens another.
                tracing::error!(%error, "cannot encode entries for a peer");
                None
            }
        }
    });
    (leash, held.boxed())
}

impl NetVote<TypeConfig> for PeerClient {
    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(PeerCall::Vote, &request, option.hard_ttl()).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(PeerCall::PreVote, &request, option.hard_ttl()).await
    }
}

impl NetTransferLeader<TypeConfig> for PeerClient {
    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.ask(PeerCall::TransferLeadership, &request, option.hard_ttl()).await
    }
}

impl NetSnapshot<TypeConfig> for PeerClient {
    type SnapshotData = CheckpointBody;

    /// No limit on the time as a whole: a state may be large and a link slow. The transport notices a
    /// peer that takes nothing.
    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: SnapshotOf<TypeConfig, CheckpointBody>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let head = self.encode(&vote)?;
        let pieces = snapshot.snapshot.pieces().await.map_err(|error| NetworkError::new(&error))?;
        let pieces = stream::iter([head]).chain(pieces).boxed();
        let sent = self.transport.send_snapshot(&self.peer, pieces);
        let answer = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            answer = sent => answer,
        };
        Ok(SnapshotResponse::new(decode(answer)?))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::no_peers::NoPeers;

    #[tokio::test]
    async fn a_peer_is_tried_only_when_there_is_a_request_which_is_where_openraft_backs_off() {
        let network = PeerNetwork { transport: Arc::new(NoPeers), me: 1 };
        let mut client = network.client(2, &Peer::default(), Purpose::AllElse);
        let option = || RPCOption::new(Duration::from_secs(1));
        let request = AppendEntriesRequest {
            vote: Vote::new(1, 1),
            prev_log_id: None,
            leader_commit: None,
            entries: Vec::new(),
        };

        let waits = client.stream_append(stream::pending(), option()).now_or_never().is_none();
        assert!(waits, "the peer is tried while openraft backs off");
        let tried = client.stream_append(stream::iter([request]), option()).now_or_never();
        assert!(matches!(tried, Some(Err(RPCError::Unreachable(_)))));
    }
}
