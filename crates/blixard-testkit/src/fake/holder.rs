//! A holder of leases in memory, on a clock that is handed in.
//!
//! Owns: which lease is held until when, and that a lease which has lapsed never comes back under its name.
//! Refuses to know: what is killed when it lapses. It passes the contract in [`contract`], as the real one does.

pub mod contract;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::holder::{HolderError, LeaseHolder};
use blixard_core::ports::{BoxFuture, Clock};
use blixard_types::holder::{LeaseName, Until};
use blixard_types::unit::LEASE_UNIT;

/// A holder in memory. Clones are handles to the same one.
#[derive(Clone)]
pub struct FakeHolder {
    clock: Arc<dyn Clock>,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    mood: Mood,
    begun: u64,
    held: Option<(LeaseName, Until)>,
}

/// Whether it does what it is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mood {
    /// It does.
    #[default]
    Hears,
    /// It is there and hears nothing: a process that is stopped.
    StandsStill,
    /// This machine has none.
    NotInstalled,
}

impl FakeHolder {
    /// A machine on which no lease is held yet.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Arc::default() }
    }

    /// Changes whether it does what it is told.
    pub fn set_mood(&self, mood: Mood) {
        self.state().mood = mood;
    }

    /// Ends the lease that is held, as the holder's death does.
    pub fn kill(&self) {
        self.state().held = None;
    }

    /// The lease that is held now, and until when.
    #[must_use]
    pub fn held(&self) -> Option<(LeaseName, Until)> {
        let now = self.clock.boot().0;
        self.state().held.clone().filter(|(_, until)| until.holds_at(now))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, order: Until) -> Result<LeaseName, HolderError> {
        let (now, mut state) = (self.clock.boot().0, self.state());
        match state.mood {
            Mood::Hears => {}
            Mood::StandsStill => return Err(HolderError::Unheard { until: order }),
            Mood::NotInstalled => return Err(HolderError::NotInstalled { unit: LEASE_UNIT }),
        }
        // An order whose time is over is none.
        if !order.holds_at(now) {
            return Err(HolderError::Unheard { until: order });
        }
        let held = state.held.take().filter(|(_, until)| until.holds_at(now));
        let (name, until) = if let Some((name, until)) = held {
            (name, until.and_then(order))
        } else {
            state.begun += 1;
            (LeaseName(format!("{now}-{}", state.begun)), order)
        };
        state.held = Some((name.clone(), until));
        Ok(name)
    }
}

impl LeaseHolder for FakeHolder {
    fn hold(&self, until: Until) -> BoxFuture<'_, Result<LeaseName, HolderError>> {
        Box::pin(async move { self.take(until) })
    }
}

#[cfg(test)]
mod tests {
    use blixard_core::ports::{BootMillis, RawMillis, UnixMillis};

    use super::*;

    /// The clock of a paused runtime.
    struct Paused(tokio::time::Instant);

    impl Clock for Paused {
        fn wall(&self) -> UnixMillis {
            UnixMillis(self.boot().0)
        }

        fn boot(&self) -> BootMillis {
            BootMillis(1000 + u64::try_from(self.0.elapsed().as_millis()).unwrap())
        }

        fn raw(&self) -> RawMillis {
            RawMillis(self.boot().0)
        }
    }

    fn paused() -> Arc<dyn Clock> {
        Arc::new(Paused(tokio::time::Instant::now()))
    }

    #[tokio::test(start_paused = true)]
    async fn the_fake_keeps_the_contract() {
        let clock = paused();
        contract::keeps(&FakeHolder::new(Arc::clone(&clock)), &*clock).await.unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_breaks_a_promise_is_found_by_the_contract() {
        // One that takes an earlier order for a shorter lease; one that gives a lapsed lease its name again.
        let clock = paused();
        let forgetful = Forgetful { clock: Arc::clone(&clock), until: Mutex::new(None) };
        let error = contract::keeps(&forgetful, &*clock).await.unwrap_err();
        assert!(error.to_string().contains("lapsed"), "{error}");
    }

    struct Forgetful {
        clock: Arc<dyn Clock>,
        until: Mutex<Option<Until>>,
    }

    impl LeaseHolder for Forgetful {
        fn hold(&self, until: Until) -> BoxFuture<'_, Result<LeaseName, HolderError>> {
            Box::pin(async move {
                if !until.holds_at(self.clock.boot().0) {
                    return Err(HolderError::Unheard { until });
                }
                *self.until.lock().unwrap() = Some(until);
                Ok(LeaseName("always".to_owned()))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_stands_still_or_is_not_there_holds_nothing_new() {
        let holder = FakeHolder::new(paused());
        holder.set_mood(Mood::NotInstalled);
        let missing = holder.hold(Until::Endless).await;
        assert!(matches!(missing, Err(HolderError::NotInstalled { .. })), "{missing:?}");
        holder.set_mood(Mood::StandsStill);
        let unheard = holder.hold(Until::Endless).await;
        assert!(matches!(unheard, Err(HolderError::Unheard { .. })), "{unheard:?}");
        assert_eq!(holder.held(), None);
        holder.set_mood(Mood::Hears);
        let before = holder.hold(Until::Endless).await.unwrap();
        holder.kill();
        assert_ne!(holder.hold(Until::Endless).await.unwrap(), before);
    }
}
