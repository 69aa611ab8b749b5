//! Where work that blocks is done: the log's writer, checkpoints, opening.
//!
//! Owns the choice between threads, which all real nodes use, and doing the work in the task that
//! asks, which a simulation needs: a thread would run when it likes. Knows nothing of the work.

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};

/// Where work that blocks is done.
#[derive(Debug, Clone, Default)]
pub enum Offload {
    /// On threads, so that it holds nobody up.
    #[default]
    Threads,
    /// In the task that asks for it, after a while that stands for how long it takes: for simulations.
    Inline(Arc<dyn Pace>),
}

/// How long pieces of work take in a simulation.
pub trait Pace: Debug + Send + Sync + 'static {
    /// How long the next one takes.
    fn next(&self) -> Duration;
}

impl Offload {
    /// Does the work, and returns what it gives. Fails when it has panicked, or when the runtime is
    /// shutting down.
    pub(crate) async fn run<T, W>(&self, work: W) -> Result<T, JoinError>
    where
        T: Send + 'static,
        W: FnOnce() -> T + Send + 'static,
    {
        match self {
            Self::Threads => spawn_blocking(work).await,
            Self::Inline(pace) => {
                tokio::time::sleep(pace.next()).await;
                Ok(work())
            }
        }
    }
}
