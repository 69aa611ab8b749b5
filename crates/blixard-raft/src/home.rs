//! Where a node's tasks run: on the caller's threads, or on one of their own.
//!
//! Owns that thread. What openraft spawns stays where its core runs.

use std::future::Future;
use std::io;
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::{JoinError, spawn_blocking};

/// Where a node's tasks run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Place {
    /// On the caller's runtime, with its clock: what a simulation needs.
    #[default]
    Caller,
    /// On a thread of their own: its hand-overs between tasks cost less than those between threads.
    OwnThread,
}

/// The place of one node.
#[derive(Debug)]
pub(crate) struct Home(Option<OwnThread>);

#[derive(Debug)]
struct OwnThread {
    handle: Handle,
    stop: oneshot::Sender<()>,
    thread: thread::JoinHandle<()>,
}

impl Home {
    pub(crate) fn open(place: Place) -> io::Result<Self> {
        match place {
            Place::Caller => Ok(Self(None)),
            Place::OwnThread => own_thread().map(|own| Self(Some(own))),
        }
    }

    /// Runs this here; what it spawns stays here.
    pub(crate) async fn run<T>(&self, work: impl Future<Output = T> + Send + 'static) -> Result<T, JoinError>
    where
        T: Send + 'static,
    {
        match &self.0 {
            None => Ok(work.await),
            Some(own) => own.handle.spawn(work).await,
        }
    }

    /// Ends the thread, with what is left on it.
    pub(crate) async fn end(self) {
        let Some(OwnThread { stop, thread, .. }) = self.0 else { return };
        drop(stop);
        let joined = spawn_blocking(move || thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the thread of the consensus has ended badly");
        }
    }
}

fn own_thread() -> io::Result<OwnThread> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let handle = runtime.handle().clone();
    let (stop, stopped) = oneshot::channel::<()>();
    let run = move || {
        // Nothing is ever sent: this is the sender's end.
        runtime.block_on(stopped).ok();
        // A task may wait for a disk that never answers.
        runtime.shutdown_background();
    };
    let thread = thread::Builder::new().name("blixard-raft".to_owned()).spawn(run)?;
    Ok(OwnThread { handle, stop, thread })
}
