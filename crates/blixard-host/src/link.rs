//! The stream to a server: opened again, to any server, whenever it is lost.

use std::sync::Arc;
use std::time::Duration;

use blixard_proto::v1::{HostMessage, ServerMessage, host_message, server_message};
use blixard_proto::{SESSION_TAKEN, encode_hello};
use blixard_types::chain;
use tokio::sync::{Notify, mpsc};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use crate::Host;

/// Messages that may wait for the network: a heartbeat, and a report for each vm in a burst.
const MESSAGES_QUEUED: usize = 256;

const RETRY_FIRST: Duration = Duration::from_millis(100);
/// Well within a lease: a stream that is late is a host that is fenced.
const RETRY_MAX: Duration = Duration::from_millis(500);

/// The same once the servers have refused this node for good: they would do so twice a second for ever.
const RETRY_REFUSED: Duration = Duration::from_secs(30);
/// What TLS tells a node whose certificate counts no more (RFC 8446, section 6.2).
const REVOKED: &str = "CertificateRevoked";

/// How long a stream may take to come up; its other end may be a machine that is off.
const OPEN_LIMIT: Duration = Duration::from_secs(1);

/// What the link tells the agent.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A stream is open, and hello is sent; what goes into the sender goes to the server.
    Up(mpsc::Sender<HostMessage>),
    /// The server says something.
    Message(server_message::Message),
    /// The stream is lost; what was sent and not answered may not have arrived.
    Down,
    /// The servers take another daemon for this node's.
    Replaced,
}

/// Why there is no stream any more, or was none.
enum Ended {
    /// It was there, and is lost; or the agent has gone.
    Lost,
    /// It never came up.
    NeverUp(String),
    /// The servers refuse this node.
    Refused,
    /// The servers take another daemon for this node's.
    Replaced,
}

/// Keeps a stream to a server open for as long as the agent listens.
pub(crate) async fn run(host: Host, events: mpsc::Sender<LinkEvent>, lost: Arc<Notify>) {
    let mut pause = RETRY_FIRST;
    while !events.is_closed() {
        match attend(&host, &events, &lost).await {
            Ended::Lost => pause = RETRY_FIRST,
            Ended::NeverUp(reason) => tracing::warn!(%reason, "no stream to a server, trying again"),
            Ended::Refused => {
                tracing::error!(
                    "the servers refuse this node's certificate: it was removed from the cluster, or has joined anew from \
                     elsewhere; to use it again, move its data directory away and let it join"
                );
                tokio::time::sleep(RETRY_REFUSED).await;
            }
            Ended::Replaced => {
                // A closed channel means that the agent is gone already.
                let _ = events.send(LinkEvent::Replaced).await;
                return;
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Runs one stream.
async fn attend(host: &Host, events: &mpsc::Sender<LinkEvent>, lost: &Notify) -> Ended {
    let opened = tokio::time::timeout(OPEN_LIMIT, open(host)).await;
    let (sender, mut answers) = match opened.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
        Ok(opened) => opened,
        Err(reason) if reason.contains(REVOKED) => return Ended::Refused,
        Err(reason) => return Ended::NeverUp(reason),
    };
    if events.send(LinkEvent::Up(sender)).await.is_err() {
        return Ended::Lost;
    }
    let mut ended = Ended::Lost;
    loop {
        let answer = tokio::select! {
            biased;
            () = lost.notified() => break,
            answer = answers.next() => answer,
        };
        match answer {
            Some(Ok(ServerMessage { message: Some(message) })) => {
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return Ended::Lost;
                }
            }
            Some(Ok(ServerMessage { message: None })) => {}
            Some(Err(status)) => {
                tracing::warn!(reason = status.message(), "the stream to the server is lost");
                if status.code() == SESSION_TAKEN {
                    ended = Ended::Replaced;
                }
                break;
            }
            None => break,
        }
    }
    let _ = events.send(LinkEvent::Down).await;
    ended
}

async fn open(host: &Host) -> Result<(mpsc::Sender<HostMessage>, Streaming<ServerMessage>), String> {
    let mut client = host.servers.connect().await.map_err(|error| error.to_string())?;
    let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED);
    let hello = host_message::Message::Hello(encode_hello(&host.hello));
    sender.send(HostMessage { message: Some(hello) }).await.map_err(|error| error.to_string())?;
    let answers = client.attend(ReceiverStream::new(receiver)).await;
    let answers = answers.map_err(|status| why(&status))?.into_inner();
    Ok((sender, answers))
}

/// What was said, and, if this node is refused for good, that it was: TLS says it at the bottom of what tonic says.
fn why(status: &tonic::Status) -> String {
    let text = chain(status);
    if text.contains(REVOKED) { text } else { status.message().to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_was_removed_is_told_so_at_the_bottom_of_an_error() {
        let refused = std::io::Error::other("received fatal alert: CertificateRevoked");
        assert!(why(&tonic::Status::from_error(Box::new(refused))).contains(REVOKED));
        assert_eq!(why(&tonic::Status::unavailable("no leader")), "no leader");
    }
}
