//! Knowing when the parts that openraft owns are gone.
//!
//! openraft's tasks own the log and the state machine and drop them some time after its `shutdown`
//! has returned. Each holds an [`Alive`]; [`Gone`] waits until none is left, so that the files are
//! free when a node says that it has shut down.

use std::convert::Infallible;

use tokio::sync::mpsc;

/// Held by what must be gone first; the last field of its holder.
#[derive(Debug, Clone)]
pub(crate) struct Alive {
    _sender: mpsc::Sender<Infallible>,
}

/// Waits for all holders.
#[derive(Debug)]
pub(crate) struct Gone(mpsc::Receiver<Infallible>);

/// The first holder, and who waits.
pub(crate) fn watch() -> (Alive, Gone) {
    // Nothing is ever sent.
    let (sender, receiver) = mpsc::channel(1);
    (Alive { _sender: sender }, Gone(receiver))
}

impl Gone {
    /// Returns once no holder is left.
    pub(crate) async fn wait(mut self) {
        while self.0.recv().await.is_some() {}
    }
}
