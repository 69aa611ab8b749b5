//! The stream to a server: opened again, to any server, whenever it is lost.

use std::time::Duration;

use blixard_proto::encode_hello;
use blixard_proto::v1::{HostMessage, ServerMessage, host_message, server_message};
use tokio::sync::mpsc;
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::Host;

/// Messages that may wait for the network: a heartbeat, and a report for each vm in a burst.
const MESSAGES_QUEUED: usize = 256;

const RETRY_FIRST: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(5);

/// What the link tells the agent.
#[derive(Debug)]
pub(crate) enum LinkEvent {
    /// A stream is open, and hello is sent; what goes into the sender goes to the server.
    Up(mpsc::Sender<HostMessage>),
    /// The server says something.
    Message(server_message::Message),
    /// The stream is lost; what was sent and not answered may not have arrived.
    Down,
}

/// Keeps a stream to a server open for as long as the agent listens.
pub(crate) async fn run(host: Host, events: mpsc::Sender<LinkEvent>) {
    let mut pause = RETRY_FIRST;
    while !events.is_closed() {
        match attend(&host, &events).await {
            Ok(()) => pause = RETRY_FIRST,
            Err(reason) => tracing::warn!(%reason, "no stream to a server, trying again"),
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

/// Runs one stream; an error means that it never came up.
async fn attend(host: &Host, events: &mpsc::Sender<LinkEvent>) -> Result<(), String> {
    let mut client = host.servers.connect().await.map_err(|error| error.to_string())?;
    let (sender, receiver) = mpsc::channel(MESSAGES_QUEUED);
    let hello = host_message::Message::Hello(encode_hello(&host.hello));
    sender.send(HostMessage { message: Some(hello) }).await.map_err(|error| error.to_string())?;
    let answers = client.attend(ReceiverStream::new(receiver)).await;
    let mut answers = answers.map_err(|status| status.message().to_owned())?.into_inner();
    if events.send(LinkEvent::Up(sender)).await.is_err() {
        return Ok(());
    }
    loop {
        match answers.next().await {
            Some(Ok(ServerMessage { message: Some(message) })) => {
                if events.send(LinkEvent::Message(message)).await.is_err() {
                    return Ok(());
                }
            }
            Some(Ok(ServerMessage { message: None })) => {}
            Some(Err(status)) => {
                tracing::warn!(reason = status.message(), "the stream to the server is lost");
                break;
            }
            None => break,
        }
    }
    let _ = events.send(LinkEvent::Down).await;
    Ok(())
}
