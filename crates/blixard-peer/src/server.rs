//! The answering side: messages of peers, handed to a [`PeerEndpoint`](blixard_core::ports::peer::PeerEndpoint).
//!
//! Owns which refusal becomes which status. Refuses to decide who may call: that is for whoever puts
//! this behind a listener.

use blixard_core::ports::BoxStream;
use blixard_core::ports::peer::{Arriving, PeerCall, PeerRefusal, SenderGone, SharedPeerEndpoint};
use blixard_proto::v1::PeerMessage;
use blixard_proto::v1::raft_service_server::{RaftService, RaftServiceServer};
use futures_util::stream::{self, StreamExt as _};
use tonic::transport::Server;
use tonic::{Request, Response, Status, Streaming};

use crate::MAX_MESSAGE_BYTES;
use crate::dialer::{SILENCE, WINDOW_BYTES};

/// RaftService.
pub struct PeerService {
    endpoint: SharedPeerEndpoint,
}

impl std::fmt::Debug for PeerService {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str("PeerService")
    }
}

/// The service to put behind a listener.
pub fn service(endpoint: SharedPeerEndpoint) -> RaftServiceServer<PeerService> {
    RaftServiceServer::new(PeerService { endpoint })
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

/// Sets what holds for every listener for peers, but for `TCP_NODELAY`: whoever accepts connections must
/// set that on each, or small answers wait for an acknowledgement of the ones before.
pub fn configure_server(server: Server) -> Server {
    server
        .http2_keepalive_interval(Some(SILENCE))
        .http2_keepalive_timeout(Some(SILENCE))
        .initial_stream_window_size(WINDOW_BYTES)
        .initial_connection_window_size(2 * WINDOW_BYTES)
}

fn status(refusal: &PeerRefusal) -> Status {
    let text = refusal.to_string();
    match refusal {
        PeerRefusal::NotThisNode { .. } => Status::failed_precondition(text),
        PeerRefusal::BadMessage { .. } => Status::invalid_argument(text),
        PeerRefusal::Snapshot { .. } => Status::data_loss(text),
        PeerRefusal::SenderGone { .. } | PeerRefusal::Stopped { .. } => Status::aborted(text),
    }
}

fn gone(reason: impl Into<String>) -> SenderGone {
    SenderGone { reason: reason.into() }
}

/// Appended messages. tonic takes a stream that was reset for one that has ended; here either will do.
fn appended(messages: Streaming<PeerMessage>) -> Arriving {
    messages.map(|message| message.map(|m| m.content).map_err(|status| gone(status.message()))).boxed()
}

/// The pieces of a snapshot; one that ends without its mark is not whole.
fn pieces(messages: Streaming<PeerMessage>) -> Arriving {
    let pieces = stream::unfold(Some(messages), |open| async move {
        let mut messages = open?;
        match messages.message().await {
            Ok(Some(message)) if message.last => None,
            Ok(Some(message)) => Some((Ok(message.content), Some(messages))),
            Ok(None) => Some((Err(gone("the stream has ended early")), None)),
            Err(status) => Some((Err(gone(status.message())), None)),
        }
    });
    pieces.boxed()
}

impl PeerService {
    async fn call(
        &self,
        call: PeerCall,
        request: Request<PeerMessage>,
    ) -> Result<Response<PeerMessage>, Status> {
        let answer = self.endpoint.answer(call, request.into_inner().content).await;
        let content = answer.map_err(|refusal| status(&refusal))?;
        Ok(Response::new(PeerMessage { content, last: false }))
    }
}

#[tonic::async_trait]
impl RaftService for PeerService {
    type AppendStream = BoxStream<'static, Result<PeerMessage, Status>>;

    async fn append(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<Self::AppendStream>, Status> {
        let answers = self.endpoint.append(appended(request.into_inner())).map(|answer| match answer {
            Ok(content) => Ok(PeerMessage { content, last: false }),
            Err(refusal) => Err(status(&refusal)),
        });
        Ok(Response::new(answers.boxed()))
    }

    async fn heartbeat(&self, request: Request<PeerMessage>) -> Result<Response<PeerMessage>, Status> {
        self.call(PeerCall::Heartbeat, request).await
    }

    async fn vote(&self, request: Request<PeerMessage>) -> Result<Response<PeerMessage>, Status> {
        self.call(PeerCall::Vote, request).await
    }

    async fn pre_vote(&self, request: Request<PeerMessage>) -> Result<Response<PeerMessage>, Status> {
        self.call(PeerCall::PreVote, request).await
    }

    async fn transfer_leadership(
        &self,
        request: Request<PeerMessage>,
    ) -> Result<Response<PeerMessage>, Status> {
        self.call(PeerCall::TransferLeadership, request).await
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<PeerMessage>>,
    ) -> Result<Response<PeerMessage>, Status> {
        let answer = self.endpoint.take_snapshot(pieces(request.into_inner())).await;
        let content = answer.map_err(|refusal| status(&refusal))?;
        Ok(Response::new(PeerMessage { content, last: true }))
    }
}
