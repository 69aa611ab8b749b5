//! What a node answers its peers: bytes in, bytes out.
//!
//! Owns the translation between messages and openraft. Refuses a message that is meant for another
//! node, or that it cannot read, and touches nothing then.

use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::ports::peer::{Arriving, PeerCall, PeerEndpoint, PeerRefusal};
use blixard_core::ports::{BoxFuture, BoxStream};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, stream};
use openraft::errors::{Fatal, RaftError};
use openraft::raft::AppendEntriesRequest;
use openraft::storage::Snapshot;

use crate::checkpoint;
use crate::node::RaftNode;
use crate::types::{TypeConfig, Vote};
use crate::wire;

impl PeerEndpoint for RaftNode {
    fn append(&self, messages: Arriving) -> BoxStream<'static, Result<Bytes, PeerRefusal>> {
        let node = self.clone();
        let this = self.number();
        // The first message that is not taken ends the stream of requests, and this says why.
        let refusal = Arc::new(Mutex::new(None));
        let requests = {
            let refusal = Arc::clone(&refusal);
            messages.scan((), move |(), message| {
                let request = match message {
                    Ok(message) => wire::read_request(this, message),
                    Err(gone) => Err(gone.into()),
                };
                let taken = match request {
                    Ok(request) => Some(request),
                    Err(refused) => {
                        *refusal.lock().unwrap_or_else(PoisonError::into_inner) = Some(refused);
                        None
                    }
                };
                std::future::ready(taken)
            })
        };
        let answers = self.raft().stream_append(requests).map(move |answer| match answer {
            Ok(answer) => Ok(wire::answer(&answer)?),
            Err(fatal) => Err(node.refuse(&fatal)),
        });
        let end =
            stream::once(
                async move { refusal.lock().unwrap_or_else(PoisonError::into_inner).take().map(Err) },
            );
        answers.chain(end.filter_map(std::future::ready)).boxed()
    }

    fn answer(&self, call: PeerCall, message: Bytes) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        let node = self.clone();
        async move {
            match call {
                PeerCall::Heartbeat => node.answer_heartbeat(message).await,
                PeerCall::Vote => {
                    let request = wire::read_request(node.number(), message)?;
                    let answer = node.raft().vote(request).await;
                    Ok(wire::answer(&answer.map_err(|error| node.refuse_error(error))?)?)
                }
                PeerCall::PreVote => {
                    let request = wire::read_request(node.number(), message)?;
                    let answer = node.raft().pre_vote(request).await;
                    Ok(wire::answer(&answer.map_err(|error| node.refuse_error(error))?)?)
                }
                PeerCall::TransferLeadership => {
                    let request = wire::read_request(node.number(), message)?;
                    let answer = node.raft().handle_transfer_leader(request).await;
                    Ok(wire::answer(&answer.map_err(|fatal| node.refuse(&fatal))?)?)
                }
            }
        }
        .boxed()
    }

    fn take_snapshot(&self, mut pieces: Arriving) -> BoxFuture<'static, Result<Bytes, PeerRefusal>> {
        let node = self.clone();
        async move {
            let head = match pieces.next().await {
                Some(Ok(head)) => head,
                Some(Err(gone)) => return Err(gone.into()),
                None => return Err(PeerRefusal::BadMessage { reason: "it is empty".to_owned() }),
            };
            let vote: Vote = wire::read_request(node.number(), head)?;
            let (meta, body) = checkpoint::receive(node.checkpoints(), pieces).await?;
            let snapshot = Snapshot { meta, snapshot: body };
            let installed = node.raft().install_full_snapshot(vote, snapshot).await;
            let answer = installed.map_err(|fatal| node.refuse(&fatal))?;
            Ok(wire::answer(&answer.vote)?)
        }
        .boxed()
    }
}

impl RaftNode {
    async fn answer_heartbeat(&self, message: Bytes) -> Result<Bytes, PeerRefusal> {
        let request: AppendEntriesRequest<TypeConfig> = wire::read_request(self.number(), message)?;
        let before = request.prev_log_id;
        let last = request.entries.last().map(|entry| entry.log_id).or(before);
        let answer = self.raft().append_entries(request).await.map_err(|error| self.refuse_error(error))?;
        Ok(wire::answer(&answer.into_stream_result(before, last))?)
    }

    fn refuse(&self, fatal: &Fatal<TypeConfig>) -> PeerRefusal {
        PeerRefusal::Stopped { reason: self.stopped(fatal).reason }
    }

    fn refuse_error(&self, error: RaftError<TypeConfig>) -> PeerRefusal {
        match error {
            RaftError::Fatal(fatal) => self.refuse(&fatal),
        }
    }
}
