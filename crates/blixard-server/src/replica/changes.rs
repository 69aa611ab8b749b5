//! Who waits for the state to change: woken in the order in which they began to listen.
//!
//! tokio's watch wakes by a random number, to be quick with very many; here a simulation's seed has to give the same
//! order each time. Knows nothing of what has changed.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

/// Tells who listens.
#[derive(Debug, Default)]
pub(super) struct Teller(Arc<Mutex<Turns>>);

#[derive(Debug, Default)]
struct Turns {
    /// Counts the changes.
    told: u64,
    over: bool,
    listeners: u64,
    waiting: BTreeMap<u64, Waker>,
}

/// Hears of changes.
#[derive(Debug)]
pub struct Changes {
    turns: Arc<Mutex<Turns>>,
    me: u64,
    seen: u64,
}

/// There will be no more changes: this server has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("this server has stopped")]
pub struct NoMoreChanges;

fn locked(turns: &Mutex<Turns>) -> MutexGuard<'_, Turns> {
    // Nothing that could panic is done while it is held.
    turns.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Teller {
    /// Something has changed.
    pub(super) fn tell(&self) {
        self.wake(|turns| turns.told += 1);
    }

    pub(super) fn listen(&self) -> Changes {
        let mut turns = locked(&self.0);
        turns.listeners += 1;
        Changes { turns: Arc::clone(&self.0), me: turns.listeners, seen: turns.told }
    }

    fn wake(&self, change: impl FnOnce(&mut Turns)) {
        let waiting = {
            let mut turns = locked(&self.0);
            change(&mut turns);
            std::mem::take(&mut turns.waiting)
        };
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Drop for Teller {
    fn drop(&mut self) {
        self.wake(|turns| turns.over = true);
    }
}

impl Changes {
    /// Waits for a change since the last one that was heard of.
    ///
    /// # Errors
    /// When there will be none.
    pub async fn changed(&mut self) -> Result<(), NoMoreChanges> {
        poll_fn(|context| self.poll(context)).await
    }

    /// Whatever has changed so far is known.
    pub fn mark_unchanged(&mut self) {
        self.seen = locked(&self.turns).told;
    }

    fn poll(&mut self, context: &Context<'_>) -> Poll<Result<(), NoMoreChanges>> {
        let mut turns = locked(&self.turns);
        if turns.told != self.seen {
            self.seen = turns.told;
            return Poll::Ready(Ok(()));
        }
        if turns.over {
            return Poll::Ready(Err(NoMoreChanges));
        }
        turns.waiting.insert(self.me, context.waker().clone());
        Poll::Pending
    }
}

impl Drop for Changes {
    fn drop(&mut self) {
        locked(&self.turns).waiting.remove(&self.me);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Wake;

    use futures_util::FutureExt as _;

    use super::*;

    struct Named(u32, Arc<Mutex<Vec<u32>>>);

    impl Wake for Named {
        fn wake(self: Arc<Self>) {
            self.1.lock().unwrap().push(self.0);
        }
    }

    #[test]
    fn who_waits_is_woken_in_the_order_of_listening() {
        let (teller, woken) = (Teller::default(), Arc::default());
        let mut listeners: Vec<_> = (0..20).map(|name| (name, teller.listen())).collect();
        for (name, changes) in listeners.iter_mut().rev() {
            let waker = Waker::from(Arc::new(Named(*name, Arc::clone(&woken))));
            assert!(changes.poll(&Context::from_waker(&waker)).is_pending());
        }
        teller.tell();
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(listeners.iter_mut().all(|(_, changes)| changes.changed().now_or_never() == Some(Ok(()))));
    }

    #[test]
    fn a_change_is_heard_of_once_and_the_end_is_told() {
        let teller = Teller::default();
        let mut changes = teller.listen();
        assert!(changes.changed().now_or_never().is_none());
        teller.tell();
        teller.tell();
        assert_eq!(changes.changed().now_or_never(), Some(Ok(())));
        assert!(changes.changed().now_or_never().is_none());
        teller.tell();
        changes.mark_unchanged();
        assert!(changes.changed().now_or_never().is_none(), "it is known");
        drop(teller);
        assert_eq!(changes.changed().now_or_never(), Some(Err(NoMoreChanges)));
    }
}
