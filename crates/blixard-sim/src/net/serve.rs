//! A node that answers its peers, in its own runtime.

use std::time::Duration;

use blixard_core::ports::peer::{Arriving, Incoming, PeerError, PeerRefusal, SenderGone, SharedPeerEndpoint};
use blixard_types::NodeId;
use bytes::Bytes;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::{Answer, End, Net, Parcel};

/// Answers until dropped, or until the node is unplugged. Connections of bytes are for `ends` to serve.
pub(crate) async fn serve(
    net: Net,
    me: NodeId,
    endpoint: SharedPeerEndpoint,
    ends: mpsc::UnboundedSender<End>,
) {
    let mut parcels = net.plug(me);
    let mut handlers = JoinSet::new();
    while let Some(parcel) = parcels.recv().await {
        while handlers.try_join_next().is_some() {}
        match parcel {
            // Where nobody serves it, it is closed.
            Parcel::Stream { end } => drop(ends.send(end)),
            parcel => drop(handlers.spawn(handle(net.clone(), me, endpoint.clone(), parcel))),
        }
    }
}

async fn handle(net: Net, me: NodeId, endpoint: SharedPeerEndpoint, parcel: Parcel) {
    match parcel {
        Parcel::Stream { .. } => {}
        Parcel::Call { from, call, message, answer } => {
            let Some(message) = net.arrive(from, me, message).await else { return };
            let answered = endpoint.answer(call, message).await;
            // Who no longer waits does not need it.
            drop(answer.send(reply(&net, me, from, answered)));
        }
        Parcel::Snapshot { from, pieces, answer } => {
            let answered = endpoint.take_snapshot(arriving(pieces)).await;
            drop(answer.send(reply(&net, me, from, answered)));
        }
        Parcel::Append { messages, answers, back } => {
            let mut given = endpoint.append(arriving(messages));
            let mut before = Duration::ZERO;
            while let Some(Ok(answer)) = given.next().await {
                let Some(stamped) = back.send(answer, &mut before) else {
                    // The other end does not learn of an end that was not sent.
                    return answers.closed().await;
                };
                if answers.send(stamped).is_err() {
                    return;
                }
            }
        }
    }
}

/// The messages as the node takes them.
fn arriving(messages: Incoming) -> Arriving {
    messages.map(|message| message.map_err(|gone| SenderGone { reason: gone.to_string() })).boxed()
}

fn reply(net: &Net, me: NodeId, to: NodeId, answered: Result<Bytes, PeerRefusal>) -> Answer {
    match answered {
        Ok(message) => net.send(me, to, message).map(Ok),
        Err(refusal) => Some(Err(PeerError::Refused { node: me, reason: refusal.to_string() })),
    }
}
