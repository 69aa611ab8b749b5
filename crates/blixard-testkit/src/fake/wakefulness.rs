//! A machine that is kept awake by whoever asks for it, and counts them.

use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::wakefulness::{Awake, NotKeptAwake, Wakefulness};

/// The machine. Clones are the same one.
#[derive(Debug, Clone, Default)]
pub struct FakeWakefulness(Arc<()>);

impl FakeWakefulness {
    /// How many keep it awake.
    #[must_use]
    pub fn held(&self) -> usize {
        Arc::weak_count(&self.0)
    }
}

impl Wakefulness for FakeWakefulness {
    fn keep(&self) -> BoxFuture<'_, Result<Awake, NotKeptAwake>> {
        let lock = Arc::downgrade(&self.0);
        Box::pin(std::future::ready(Ok(Awake::holding(lock))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_kept_awake_until_that_is_let_go() {
        let machine = FakeWakefulness::default();
        let awake = machine.keep().await.unwrap();
        assert_eq!(machine.held(), 1);
        drop(awake);
        assert_eq!(machine.held(), 0);
    }
}
