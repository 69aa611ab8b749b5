//! The runtime that openraft is given: tokio, but for random numbers, and an order of waking, that a
//! simulation can repeat.
//!
//! openraft draws its election timeouts and the phase of its clock from a function of its runtime that
//! has no argument, so a seed can only be left where that function looks: with the thread. A
//! simulation runs all of its nodes on one. Nobody else calls [`draw_from_seed`], and the numbers are
//! then those of the operating system.

// openraft deprecates its own re-export in favour of a crate that it depends on anyway.
#![allow(deprecated)]

use std::cell::Cell;
use std::future::Future;
use std::time::Duration;

use openraft::AsyncRuntime;
use openraft::impls::TokioRuntime;
use rand::rngs::SmallRng;
use rand::{RngExt as _, SeedableRng as _};

thread_local! {
    static SEED: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Lets all random numbers of consensus on this thread follow from a seed. For simulations, which
/// run on one thread; not for anything whose elections have to differ from those of its peers.
pub fn draw_from_seed(seed: u64) {
    SEED.set(Some(seed));
}

/// tokio with these random numbers, and with a watch channel that draws none.
#[derive(Debug)]
pub(crate) struct Runtime(TokioRuntime);

impl AsyncRuntime for Runtime {
    type JoinError = <TokioRuntime as AsyncRuntime>::JoinError;
    type JoinHandle<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::JoinHandle<T>;
    type Sleep = <TokioRuntime as AsyncRuntime>::Sleep;
    type Instant = <TokioRuntime as AsyncRuntime>::Instant;
    type TimeoutError = <TokioRuntime as AsyncRuntime>::TimeoutError;
    type Timeout<R, T: Future<Output = R> + Send> = <TokioRuntime as AsyncRuntime>::Timeout<R, T>;
    type ThreadLocalRng = SmallRng;
    type Mpsc = <TokioRuntime as AsyncRuntime>::Mpsc;
    type Watch = crate::watched::Watched;
    type Oneshot = <TokioRuntime as AsyncRuntime>::Oneshot;
    type Mutex<T: Send + 'static> = <TokioRuntime as AsyncRuntime>::Mutex<T>;

    fn spawn<T>(future: T) -> Self::JoinHandle<T::Output>
    where
        T: Future + Send + 'static,
        T::Output: Send + 'static,
    {
        TokioRuntime::spawn(future)
    }

    fn sleep(duration: Duration) -> Self::Sleep {
        TokioRuntime::sleep(duration)
    }

    fn sleep_until(deadline: Self::Instant) -> Self::Sleep {
        TokioRuntime::sleep_until(deadline)
    }

    fn timeout<R, F: Future<Output = R> + Send>(duration: Duration, future: F) -> Self::Timeout<R, F> {
        TokioRuntime::timeout(duration, future)
    }

    fn timeout_at<R, F: Future<Output = R> + Send>(
        deadline: Self::Instant,
        future: F,
    ) -> Self::Timeout<R, F> {
        TokioRuntime::timeout_at(deadline, future)
    }

    fn is_panic(join_error: &Self::JoinError) -> bool {
        TokioRuntime::is_panic(join_error)
    }

    fn thread_rng() -> SmallRng {
        let Some(seed) = SEED.get() else { return SmallRng::from_rng(&mut rand::rng()) };
        let mut numbers = SmallRng::seed_from_u64(seed);
        // The next caller gets other numbers.
        SEED.set(Some(numbers.random()));
        numbers
    }

    fn new(threads: usize) -> Self {
        Self(TokioRuntime::new(threads))
    }

    fn block_on<F, T>(&mut self, future: F) -> T
    where
        F: Future<Output = T>,
    {
        self.0.block_on(future)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn three() -> Vec<u64> {
        (0..3).map(|_| Runtime::thread_rng().random()).collect()
    }

    #[test]
    fn the_numbers_follow_from_the_seed_if_there_is_one() {
        let unseeded = (three(), three());
        draw_from_seed(7);
        let first = three();
        let second = three();
        draw_from_seed(7);

        assert_eq!(three(), first);
        assert_ne!(first, second);
        assert_ne!(unseeded.0, unseeded.1);
    }
}
