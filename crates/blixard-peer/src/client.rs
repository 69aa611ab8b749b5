//! The asking side: messages to peers.
//!
//! Owns which status of gRPC means what. Codes that only [`service`](crate::service) gives are refusals;
//! all others are the connection's.

use std::error::Error as _;
use std::pin::Pin;
use std::task::{Context, Poll};

use blixard_core::ports::BoxFuture;
use blixard_core::ports::peer::{Incoming, Outgoing, PeerAddress, PeerCall, PeerError, PeerTransport};
use blixard_proto::v1::PeerMessage;
use blixard_proto::v1::raft_service_client::RaftServiceClient;
use bytes::Bytes;
use futures_util::Stream;
use futures_util::stream::{Fuse, StreamExt as _};
use tonic::transport::Channel;
use tonic::{Code, ConnectError, Status};

use crate::MAX_MESSAGE_BYTES;
use crate::channels::{Channels, Lane, Link};

/// Peers over gRPC.
#[derive(Debug, Clone)]
pub struct GrpcPeers {
    channels: Channels,
}

impl GrpcPeers {
    /// Talks to peers on these channels.
    pub fn new(channels: Channels) -> Self {
        Self { channels }
    }
}

fn client(link: &Link) -> RaftServiceClient<Channel> {
    RaftServiceClient::new(link.channel())
        .max_decoding_message_size(MAX_MESSAGE_BYTES)
        .max_encoding_message_size(MAX_MESSAGE_BYTES)
}

fn message(content: Bytes) -> PeerMessage {
    PeerMessage { content, last: false }
}

/// Messages on their way.
struct Messages {
    contents: Fuse<Outgoing>,
    /// What follows them.
    end: Option<PeerMessage>,
}

impl Stream for Messages {
    type Item = PeerMessage;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<PeerMessage>> {
        let this = self.get_mut();
        match this.contents.poll_next_unpin(context) {
            Poll::Ready(Some(content)) => Poll::Ready(Some(message(content))),
            Poll::Ready(None) => Poll::Ready(this.end.take()),
            Poll::Pending => Poll::Pending,
        }
    }
}

/// What an answer says of the connection.
fn heard<T>(link: &Link, answer: Result<T, Status>) -> Result<T, PeerError> {
    match answer {
        Ok(answer) => {
            link.worked();
            Ok(answer)
        }
        Err(status) => Err(failed(link, &status)),
    }
}

fn failed(link: &Link, status: &Status) -> PeerError {
    let node = link.peer();
    if is_refusal(status.code()) {
        link.worked();
        return PeerError::Refused { node, reason: status.message().to_owned() };
    }
    let reason = reason(status);
    link.failed(&reason);
    if never_connected(status) {
        PeerError::Unreachable { node, reason }
    } else {
        PeerError::Broken { node, reason }
    }
}

fn is_refusal(code: Code) -> bool {
    match code {
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::DataLoss
        | Code::Aborted
        // Of a middleware before the service, or of a program without it.
        | Code::PermissionDenied
        | Code::Unauthenticated
        | Code::Unimplemented
        | Code::ResourceExhausted
        | Code::OutOfRange => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Internal
        | Code::Unavailable => false,
    }
}

/// The status and its causes in one line.
fn reason(status: &Status) -> String {
    let mut text = status.message().to_owned();
    let mut next = status.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        next = cause.source();
    }
    text
}

fn never_connected(status: &Status) -> bool {
    let mut next = status.source();
    while let Some(cause) = next {
        if cause.is::<ConnectError>() {
            return true;
        }
        next = cause.source();
    }
    false
}

impl PeerTransport for GrpcPeers {
    fn append(
        &self,
        peer: &PeerAddress,
        messages: Outgoing,
    ) -> BoxFuture<'static, Result<Incoming, PeerError>> {
        let link = self.channels.link(peer, Lane::Append);
        let messages = Messages { contents: messages.fuse(), end: None };
        Box::pin(async move {
            let link = link?;
            let answers = client(&link).append(messages).await;
            let answers = heard(&link, answers)?.into_inner();
            let contents = answers.map(move |answer| match answer {
                Ok(answer) => Ok(answer.content),
                Err(status) => Err(failed(&link, &status)),
            });
            Ok(contents.boxed())
        })
    }

    fn call(
        &self,
        peer: &PeerAddress,
        call: PeerCall,
        content: Bytes,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let link = self.channels.link(peer, Lane::Calls);
        Box::pin(async move {
            let link = link?;
            let mut client = client(&link);
            let answer = match call {
                PeerCall::Heartbeat => client.heartbeat(message(content)).await,
                PeerCall::Vote => client.vote(message(content)).await,
                PeerCall::PreVote => client.pre_vote(message(content)).await,
                PeerCall::TransferLeadership => client.transfer_leadership(message(content)).await,
            };
            Ok(heard(&link, answer)?.into_inner().content)
        })
    }

    fn send_snapshot(
        &self,
        peer: &PeerAddress,
        pieces: Outgoing,
    ) -> BoxFuture<'static, Result<Bytes, PeerError>> {
        let link = self.channels.link(peer, Lane::Snapshots);
        let last = PeerMessage { content: Bytes::new(), last: true };
        let messages = Messages { contents: pieces.fuse(), end: Some(last) };
        Box::pin(async move {
            let link = link?;
            let answer = client(&link).install_snapshot(messages).await;
            Ok(heard(&link, answer)?.into_inner().content)
        })
    }
}
