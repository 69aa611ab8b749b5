//! What keeps a machine from sleeping.

use std::any::Any;
use std::fmt;

use super::BoxFuture;

/// The machine does not sleep until this is dropped, whoever asks it to.
pub struct Awake {
    _held: Box<dyn Any + Send>,
}

impl Awake {
    /// Whatever it is that is held.
    #[must_use]
    pub fn holding(what: impl Any + Send) -> Self {
        Self { _held: Box::new(what) }
    }
}

impl fmt::Debug for Awake {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Awake").finish_non_exhaustive()
    }
}

/// Nothing keeps it from sleeping.
#[derive(Debug, thiserror::Error)]
#[error("nothing keeps this machine from sleeping: {reason}")]
pub struct NotKeptAwake {
    /// Why not.
    pub reason: String,
}

/// Whoever decides on this machine whether it may sleep.
pub trait Wakefulness: Send + Sync + 'static {
    /// Has it not sleep.
    fn keep(&self) -> BoxFuture<'_, Result<Awake, NotKeptAwake>>;
}
