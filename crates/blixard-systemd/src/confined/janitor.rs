//! Stops units that nobody waits for any more.
//!
//! Owns: the task that does it, also when the bus is away for a while. Refuses to know: why a wait was
//! given up.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::PREFIX;
use crate::bus::Bus;
use crate::stop;

/// How often a stop is tried while systemd cannot be reached, and how long apart: a re-execution and a
/// restart of the bus take seconds. After that the unit's own time limit ends it.
const TRIES: u32 = 60;
const PAUSE: Duration = Duration::from_secs(1);

/// The task, which ends with this.
#[derive(Debug)]
pub(super) struct Janitor {
    // Unbounded: it holds names of units that run, and their number is bounded by who starts them.
    orders: mpsc::UnboundedSender<String>,
    _task: JoinSet<()>,
}

impl Janitor {
    pub(super) fn start(bus: Arc<Bus>) -> Self {
        let (orders, names) = mpsc::unbounded_channel();
        let mut task = JoinSet::new();
        task.spawn(run(bus, names));
        Self { orders, _task: task }
    }

    /// Has the unit stopped when the guard is dropped.
    pub(super) fn guard(&self, name: &str) -> Guard {
        Guard { name: Some(name.to_owned()), orders: self.orders.clone() }
    }
}

/// Stops its unit when dropped.
#[derive(Debug)]
pub(super) struct Guard {
    name: Option<String>,
    orders: mpsc::UnboundedSender<String>,
}

impl Guard {
    /// The unit has ended: there is nothing to stop.
    pub(super) fn done(mut self) {
        self.name = None;
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(name) = self.name.take() {
            // Without a janitor the daemon is ending; the next one looks for what is left.
            let _ = self.orders.send(name);
        }
    }
}

async fn run(bus: Arc<Bus>, mut names: mpsc::UnboundedReceiver<String>) {
    let mut stops = JoinSet::new();
    for name in left_behind(&bus).await {
        tracing::info!(unit = name, "stopping what a daemon before this one has started");
        stops.spawn(stop(Arc::clone(&bus), name));
    }
    loop {
        tokio::select! {
            name = names.recv() => match name {
                Some(name) => drop(stops.spawn(stop(Arc::clone(&bus), name))),
                None => return,
            },
            Some(_) = stops.join_next() => {}
        }
    }
}

/// Units of ours whose names do not say that this process has started them.
async fn left_behind(bus: &Bus) -> Vec<String> {
    let Ok(link) = bus.link() else { return Vec::new() };
    let own = format!("-{}-", std::process::id());
    match link.units(&format!("{PREFIX}*.service")).await {
        Ok(units) => units.into_iter().map(|(name, _)| name).filter(|name| !name.contains(&own)).collect(),
        Err(error) => {
            tracing::warn!(?error, "cannot look for confined programs of a daemon before this one");
            Vec::new()
        }
    }
}

async fn stop(bus: Arc<Bus>, name: String) {
    for _ in 0..TRIES {
        let Ok(link) = bus.link() else {
            tokio::time::sleep(PAUSE).await;
            continue;
        };
        // The reference goes first: with it systemd would keep the unit after its end.
        let _ = link.unreference(&name).await;
        match stop::stop(&link, &name).await {
            Ok(()) => return,
            Err(error) => tracing::warn!(unit = name, %error, "a confined program is not stopped yet"),
        }
        tokio::time::sleep(PAUSE).await;
    }
}
