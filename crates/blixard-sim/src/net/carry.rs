//! One direction of a connection: messages in order, until one is lost.

use std::time::Duration;

use blixard_core::ports::peer::{Incoming, Outgoing};
use blixard_types::NodeId;
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::{Net, broken};

/// How many messages are on their way at once.
const WINDOW: usize = 64;

/// A message, and when it arrives.
#[derive(Debug)]
pub(super) struct Stamped {
    pub(super) message: Bytes,
    pub(super) at: Duration,
}

/// One direction of a connection. Clones are the same one; both directions break at once.
#[derive(Debug, Clone)]
pub(super) struct Connection {
    net: Net,
    from: NodeId,
    to: NodeId,
    doomed: watch::Sender<bool>,
}

impl Connection {
    pub(super) fn new(net: Net, from: NodeId, to: NodeId) -> Self {
        Self { net, from, to, doomed: watch::Sender::new(false) }
    }

    pub(super) fn reverse(&self) -> Self {
        let (from, to) = (self.to, self.from);
        Self { net: self.net.clone(), from, to, doomed: self.doomed.clone() }
    }

    fn doom(&self) {
        self.doomed.send_replace(true);
    }

    /// Sends one more message; none if it, or one before it, is lost. It does not overtake.
    pub(super) fn send(&self, message: Bytes, before: &mut Duration) -> Option<Stamped> {
        if *self.doomed.borrow() {
            return None;
        }
        let Some(mut stamped) = self.net.send(self.from, self.to, message) else {
            self.doom();
            return None;
        };
        stamped.at = stamped.at.max(*before);
        *before = stamped.at;
        Some(stamped)
    }

    pub(super) async fn arrive(&self, stamped: Stamped) -> Option<Bytes> {
        let arrived = self.net.arrive(self.from, self.to, stamped).await;
        if arrived.is_none() {
            self.doom();
        }
        arrived
    }

    /// Waits until the connection has broken, and this end has noticed.
    pub(super) async fn broken(&self) {
        let mut doomed = self.doomed.subscribe();
        // The sender is here: it does not close.
        drop(doomed.wait_for(|doomed| *doomed).await);
        self.net.silence().await;
    }
}

/// Stops a task when dropped.
#[derive(Debug)]
pub(super) struct Pump(JoinHandle<()>);

impl Pump {
    pub(super) fn start(work: impl Future<Output = ()> + Send + 'static) -> Self {
        #[expect(clippy::disallowed_methods, reason = "its handle stops it when dropped")]
        Self(tokio::task::spawn(work))
    }
}

impl Drop for Pump {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Sends all of these as long as the pump is kept, and gives what arrives of them.
pub(super) fn pumped(mut messages: Outgoing, there: Connection) -> (Pump, Incoming) {
    let (sender, arriving) = mpsc::channel(WINDOW);
    let arriving = stream::unfold(arriving, |mut arriving: mpsc::Receiver<Stamped>| async {
        arriving.recv().await.map(|stamped| (stamped, arriving))
    });
    let incoming = incoming(arriving.boxed(), there.clone(), None);
    let pump = async move {
        let mut before = Duration::ZERO;
        while let Some(message) = messages.next().await {
            let Some(stamped) = there.send(message, &mut before) else { break };
            if sender.send(stamped).await.is_err() {
                return;
            }
        }
        if *there.doomed.borrow() {
            // Who receives does not learn of an end that was not sent.
            std::future::pending::<()>().await;
        }
    };
    (Pump::start(pump), incoming)
}

/// What arrives of the answers.
pub(super) fn received(
    answers: mpsc::UnboundedReceiver<Stamped>,
    back: Connection,
    pump: Option<Pump>,
) -> Incoming {
    let arriving = stream::unfold(answers, |mut answers| async {
        answers.recv().await.map(|stamped| (stamped, answers))
    });
    incoming(arriving.boxed(), back, pump)
}

type Arriving = stream::BoxStream<'static, Stamped>;

fn incoming(arriving: Arriving, way: Connection, pump: Option<Pump>) -> Incoming {
    stream::unfold(Some((arriving, way, pump)), |open| async move {
        let (mut arriving, way, pump) = open?;
        let next = async {
            match arriving.next().await {
                Some(stamped) => match way.arrive(stamped).await {
                    Some(message) => Some(message),
                    // Noticed below.
                    None => std::future::pending().await,
                },
                None => None,
            }
        };
        let next = tokio::select! {
            biased;
            message = next => message.map(Ok),
            () = way.broken() => Some(Err(broken(way.from))),
        };
        match next? {
            Ok(message) => Some((Ok(message), Some((arriving, way, pump)))),
            Err(error) => Some((Err(error), None)),
        }
    })
    .boxed()
}
