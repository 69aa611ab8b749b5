//! The watch channel that openraft is given: who waits is woken in the order of waiting.
//!
//! tokio's spreads waiters over eight lists by a random number, to be quick with many of them; here there
//! are a few, and a seed has to give the same order each time. Knows nothing of what is watched.

use std::future::poll_fn;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};
use std::task::{Context, Poll, Waker};

use openraft::async_runtime::watch::{RecvError, SendError, Watch, WatchReceiver, WatchSender};

/// The kind of channel.
#[derive(Debug)]
pub(crate) struct Watched;

struct Shared<T> {
    value: RwLock<T>,
    turns: Mutex<Turns>,
}

#[derive(Default)]
struct Turns {
    /// Counts the values.
    version: u64,
    senders: usize,
    receivers: usize,
    /// Who waits, in order.
    waiting: Vec<Waker>,
}

impl<T> Shared<T> {
    fn turns(&self) -> MutexGuard<'_, Turns> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn look(&self) -> Look<'_, T> {
        Look(self.value.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn wake(&self, change: impl FnOnce(&mut Turns)) {
        let waiting = {
            let mut turns = self.turns();
            change(&mut turns);
            std::mem::take(&mut turns.waiting)
        };
        waiting.into_iter().for_each(Waker::wake);
    }
}

/// A look at the value. It does not change meanwhile.
pub(crate) struct Look<'a, T>(RwLockReadGuard<'a, T>);

impl<T> Deref for Look<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

pub(crate) struct Sender<T>(Arc<Shared<T>>);

pub(crate) struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.turns().senders += 1;
        Self(Arc::clone(&self.0))
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let last = {
            let mut turns = self.0.turns();
            turns.senders -= 1;
            turns.senders == 0
        };
        if last {
            self.0.wake(|_| ());
        }
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.shared.turns().receivers += 1;
        Self { shared: Arc::clone(&self.shared), seen: self.seen }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        self.shared.turns().receivers -= 1;
    }
}

impl Watch for Watched {
    type Sender<T: Send + Sync> = Sender<T>;
    type Receiver<T: Send + Sync> = Receiver<T>;
    type Ref<'a, T: Send + 'a> = Look<'a, T>;

    fn channel<T: Send + Sync>(init: T) -> (Sender<T>, Receiver<T>) {
        let turns = Turns { senders: 1, receivers: 1, ..Turns::default() };
        let shared = Arc::new(Shared { value: RwLock::new(init), turns: Mutex::new(turns) });
        (Sender(Arc::clone(&shared)), Receiver { shared, seen: 0 })
    }
}

impl<T: Send + Sync> WatchSender<Watched, T> for Sender<T> {
    fn send(&self, value: T) -> Result<(), SendError<T>> {
        if self.0.turns().receivers == 0 {
            return Err(SendError(value));
        }
        self.send_if_modified(|current| {
            *current = value;
            true
        });
        Ok(())
    }

    fn send_if_modified<F>(&self, modify: F) -> bool
    where
        F: FnOnce(&mut T) -> bool,
    {
        let mut value = self.0.value.write().unwrap_or_else(PoisonError::into_inner);
        let modified = modify(&mut value);
        if modified {
            // Counted before others see the value: who has seen it does not wait for it.
            self.0.turns().version += 1;
        }
        drop(value);
        if modified {
            self.0.wake(|_| ());
        }
        modified
    }

    fn borrow_watched(&self) -> Look<'_, T> {
        self.0.look()
    }

    fn subscribe(&self) -> Receiver<T> {
        let seen = {
            let mut turns = self.0.turns();
            turns.receivers += 1;
            turns.version
        };
        Receiver { shared: Arc::clone(&self.0), seen }
    }
}

impl<T> Receiver<T> {
    fn poll_changed(&mut self, context: &Context<'_>) -> Poll<Result<(), RecvError>> {
        let mut turns = self.shared.turns();
        if turns.version != self.seen {
            self.seen = turns.version;
            return Poll::Ready(Ok(()));
        }
        if turns.senders == 0 {
            return Poll::Ready(Err(RecvError(())));
        }
        if !turns.waiting.iter().any(|waker| waker.will_wake(context.waker())) {
            turns.waiting.push(context.waker().clone());
        }
        Poll::Pending
    }
}

impl<T: Send + Sync> WatchReceiver<Watched, T> for Receiver<T> {
    async fn changed(&mut self) -> Result<(), RecvError> {
        poll_fn(|context| self.poll_changed(context)).await
    }

    fn borrow_watched(&self) -> Look<'_, T> {
        self.shared.look()
    }

    fn borrow_and_update(&mut self) -> Look<'_, T> {
        let look = self.shared.look();
        self.seen = self.shared.turns().version;
        look
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
    fn who_waits_is_woken_in_the_order_of_waiting() {
        let (sender, receiver) = Watched::channel(0);
        let woken = Arc::default();
        let mut receivers: Vec<_> = (0..20).map(|_| receiver.clone()).collect();
        for (name, receiver) in (0..).zip(&mut receivers) {
            let waker = Waker::from(Arc::new(Named(name, Arc::clone(&woken))));
            assert!(receiver.poll_changed(&Context::from_waker(&waker)).is_pending());
        }
        sender.send(1).unwrap();
        assert_eq!(*woken.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(receivers.iter_mut().all(|receiver| receiver.changed().now_or_never() == Some(Ok(()))));
    }

    #[test]
    fn a_value_is_news_once_and_the_end_is_told() {
        let (sender, mut receiver) = Watched::channel(0);
        assert!(receiver.changed().now_or_never().is_none());
        sender.send_if_greater(5);
        sender.send_if_greater(4);
        assert_eq!(*receiver.borrow_and_update(), 5);
        assert!(receiver.changed().now_or_never().is_none());
        sender.clone().send_if_different(6);
        drop(sender);
        assert_eq!(receiver.changed().now_or_never(), Some(Ok(())));
        assert_eq!(receiver.changed().now_or_never(), Some(Err(RecvError(()))));
        let (sender, receiver) = Watched::channel(0);
        drop(receiver);
        assert!(sender.send(1).is_err());
        let mut late = sender.subscribe();
        sender.send(2).unwrap();
        assert_eq!(late.changed().now_or_never(), Some(Ok(())));
        assert_eq!(*late.borrow_watched(), 2);
    }
}
