//! The connection to the system bus, for as long as the daemon lives.
//!
//! Owns: one background task that connects, reads every signal as it comes, and connects again.
//! A stream of signals that nobody reads would block all calls of the connection. Refuses to know:
//! what is asked of systemd.
//!
//! ```text
//!            ┌────────────── backoff ◀─┐
//!            ▼                         │ error
//! connect ─▶ opening ──────────────────┘
//!              │ listening              ▲
//!              ▼                        │ connection lost: waiters and callers hear "unreachable"
//!            linked ────────────────────┘
//!              │ ▲ systemd has another connection (re-executed): subscribe again,
//!              └─┘ waiters are told to ask
//! ```
//!
//! Each arrow into `linked` but the first, and each loop at it, emits [`UnitChange::Any`].

mod jobs;
mod link;
mod signal;

use std::time::Duration;

use blixard_core::ports::units::{UnitChange, UnitError};
use blixard_types::unit::RunUnitName;
use futures_util::StreamExt;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinSet;
use zbus::{MessageStream, connection};

use crate::error::CallError;
pub(crate) use link::{JobEnd, JobPath, Link};
use signal::Signal;

/// Changes that a slow reader may be behind before it gets one [`UnitChange::Any`] instead. A start
/// makes about ten, so this is a burst of a hundred starts.
const CHANGES_KEPT: usize = 1024;

/// How long a call may take. PID 1 may be busy or stopped for seconds; sd-bus waits as long.
const CALL_TIMEOUT: Duration = Duration::from_secs(25);

/// How long one attempt to connect may take. While the bus and systemd find each other again a call may wait for
/// an answer that never comes, and the next is answered at once.
const OPEN_LIMIT: Duration = Duration::from_secs(5);

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// The bus, with a connection or without one.
#[derive(Debug)]
pub(crate) struct Bus {
    link: watch::Receiver<Option<Link>>,
    changes: broadcast::Sender<UnitChange>,
    /// Ends with the bus.
    _task: JoinSet<()>,
}

impl Bus {
    /// Connects for the first time and starts the background task.
    pub(crate) async fn connect() -> Result<Self, CallError> {
        let opened = Opened::open().await?;
        let (changes, _) = broadcast::channel(CHANGES_KEPT);
        let (publish, link) = watch::channel(Some(opened.link.clone()));
        let keeper = Keeper { publish, changes: changes.clone() };
        let mut task = JoinSet::new();
        task.spawn(keeper.run(opened));
        Ok(Self { link, changes, _task: task })
    }

    /// The connection of this moment.
    pub(crate) fn link(&self) -> Result<Link, UnitError> {
        self.link.borrow().clone().ok_or_else(|| UnitError::Unreachable {
            reason: "there is no connection to the system bus".to_owned(),
        })
    }

    /// The connection of this moment, or the next one if it comes within the time that a call may take:
    /// a bus that is gone and one that hangs are waited for alike.
    pub(crate) async fn link_soon(&self) -> Result<Link, UnitError> {
        let mut link = self.link.clone();
        // Whether it came is asked anew below.
        let _ = tokio::time::timeout(CALL_TIMEOUT, link.wait_for(Option::is_some)).await;
        self.link()
    }

    /// Changes from now on.
    pub(crate) fn changes(&self) -> broadcast::Receiver<UnitChange> {
        self.changes.subscribe()
    }
}

/// A connection on which systemd's signals arrive.
struct Opened {
    link: Link,
    messages: MessageStream,
    /// The unique name of systemd's connection.
    systemd: Option<String>,
}

impl Opened {
    async fn open() -> Result<Self, CallError> {
        let connection = connection::Builder::system()?.method_timeout(CALL_TIMEOUT).build().await?;
        // All messages in one stream, so that a change of systemd's name on the bus keeps its place
        // among the signals.
        let mut messages = MessageStream::from(&connection);
        let link = Link::new(connection).await?;
        let systemd = reading(&mut messages, link.listen()).await?;
        Ok(Self { link, messages, systemd: Some(systemd) })
    }
}

/// Runs a call while nobody else reads the messages, so that they cannot block its reply.
async fn reading<T>(messages: &mut MessageStream, call: impl Future<Output = T>) -> T {
    tokio::pin!(call);
    loop {
        tokio::select! {
            biased;
            result = &mut call => return result,
            // Nobody waits for a signal yet. After the stream's end the call itself fails.
            Some(_) = messages.next() => {}
        }
    }
}

/// The background task.
struct Keeper {
    publish: watch::Sender<Option<Link>>,
    changes: broadcast::Sender<UnitChange>,
}

impl Keeper {
    async fn run(self, mut opened: Opened) {
        loop {
            self.serve(opened).await;
            opened = reopened().await;
            tracing::info!("connected to systemd again");
            self.publish.send_replace(Some(opened.link.clone()));
            self.emit(UnitChange::Any);
        }
    }

    /// Reads messages until the connection is lost.
    async fn serve(&self, mut opened: Opened) {
        let mut subscriptions = JoinSet::new();
        loop {
            let message = tokio::select! {
                message = opened.messages.next() => message,
                Some(_) = subscriptions.join_next() => continue,
            };
            let Some(Ok(message)) = message else { break };
            match Signal::in_message(&message, opened.systemd.as_deref()) {
                Some(Signal::Owner { now }) => {
                    opened.systemd.clone_from(&now);
                    if now.is_some() {
                        subscriptions.spawn(subscribe_again(opened.link.clone(), self.changes.clone()));
                    }
                }
                Some(signal) => self.pass_on(&opened.link, signal),
                None => {}
            }
        }
        tracing::warn!("the connection to the system bus is lost");
        self.publish.send_replace(None);
        opened.link.jobs().close();
    }

    fn pass_on(&self, link: &Link, signal: Signal) {
        match signal {
            Signal::JobRemoved { job, unit, result } => {
                link.jobs().ended(&unit, &job, &result);
                self.changed(&unit);
            }
            Signal::Unit { name } => self.changed(&name),
            Signal::Reloaded | Signal::Owner { .. } => self.emit(UnitChange::Any),
        }
    }

    fn changed(&self, unit: &str) {
        if let Some(vm) = RunUnitName::vm(unit) {
            self.emit(UnitChange::Unit(vm));
        }
    }

    fn emit(&self, change: UnitChange) {
        // An error says that nobody listens.
        let _ = self.changes.send(change);
    }
}

async fn reopened() -> Opened {
    let mut pause = FIRST_PAUSE;
    loop {
        tokio::time::sleep(pause).await;
        match tokio::time::timeout(OPEN_LIMIT, Opened::open()).await {
            Ok(Ok(opened)) => return opened,
            Ok(Err(error)) => tracing::debug!(?error, "cannot connect to systemd yet"),
            Err(_) => tracing::debug!("cannot connect to systemd yet: nobody answers"),
        }
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// After systemd has come back under another name on the bus.
async fn subscribe_again(link: Link, changes: broadcast::Sender<UnitChange>) {
    if let Err(error) = link.subscribe().await {
        tracing::warn!(?error, "systemd was re-executed and does not take a subscription");
    }
    link.jobs().doubt();
    let _ = changes.send(UnitChange::Any);
}
