//! A host does not sleep while it runs vms under a lease (rule R9 of leases).
//!
//! A lease counts the time of a sleep, and its holder kills what is left when the machine wakes up; until that is
//! scheduled a guest may run whose place is elsewhere by then. Owns: when the machine is kept awake. A machine on
//! which nobody can do that goes on, and says so.

use std::time::Duration;

use blixard_core::grant::Term;
use blixard_core::ports::units::ObservedUnit;
use blixard_core::ports::wakefulness::{Awake, NotKeptAwake};
use blixard_core::unit::ENV_KEPT;
use blixard_types::chain;
use tokio::task::{JoinError, JoinSet};
use tokio::time::Instant;

use super::Agent;

/// Pause before it is tried again on a machine that nobody could keep awake.
const RETRY_AFTER: Duration = Duration::from_secs(30);

/// What is held against sleep.
#[derive(Debug, Default)]
pub(super) struct Wake {
    held: Option<Awake>,
    pub(super) asking: JoinSet<Result<Awake, NotKeptAwake>>,
    again_at: Option<Instant>,
    complained: bool,
}

impl Agent {
    /// Has the machine sleep, or not, as what runs on it allows.
    pub(super) fn stay_awake(&mut self) {
        if !must_stay_awake(self.gate.term(), self.observation.acts(), self.units.values()) {
            self.wake.held = None;
            return;
        }
        let pauses = self.wake.again_at.is_some_and(|at| Instant::now() < at);
        if self.wake.held.is_none() && self.wake.asking.is_empty() && !pauses {
            let wakefulness = self.host.wakefulness.clone();
            self.wake.asking.spawn(async move { wakefulness.keep().await });
        }
    }

    pub(super) fn on_awake(&mut self, kept: Result<Result<Awake, NotKeptAwake>, JoinError>) {
        match kept {
            Ok(Ok(awake)) => {
                (self.wake.held, self.wake.again_at, self.wake.complained) = (Some(awake), None, false);
            }
            Ok(Err(error)) => {
                self.wake.again_at = Some(Instant::now() + RETRY_AFTER);
                if !std::mem::replace(&mut self.wake.complained, true) {
                    tracing::warn!(error = chain(&error), "this host must not be suspended while vms run");
                }
            }
            Err(error) => tracing::error!(%error, "keeping this machine awake panicked"),
        }
    }
}

/// Whether something is here, or is being started, that the end of a lease stops.
fn must_stay_awake<'a>(term: Term, acts: bool, mut units: impl Iterator<Item = &'a ObservedUnit>) -> bool {
    let leased = matches!(term, Term::Until(_));
    leased && (acts || units.any(|unit| !unit.environment.contains_key(ENV_KEPT)))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use blixard_core::ports::BootMillis;
    use blixard_core::ports::units::UnitState;

    use super::*;

    fn unit(variables: &[&str]) -> ObservedUnit {
        let variables = variables.iter().map(|&name| (name.to_owned(), "1".to_owned()));
        ObservedUnit {
            vm: "web".parse().unwrap(),
            epoch: None,
            generation: None,
            state: UnitState::Active,
            restarts: 0,
            main_pid: None,
            environment: variables.collect::<BTreeMap<_, _>>(),
        }
    }

    #[test]
    fn a_host_stays_awake_for_what_the_end_of_its_lease_stops() {
        let (leased, kept, stops) = (Term::Until(BootMillis(1)), unit(&[ENV_KEPT]), unit(&[]));
        assert!(must_stay_awake(leased, false, [&kept, &stops].into_iter()));
        assert!(must_stay_awake(leased, true, [].into_iter()), "something is being started");
        assert!(
            !must_stay_awake(leased, false, [&kept].into_iter()),
            "it may go on, whatever becomes of the lease"
        );
        assert!(!must_stay_awake(leased, false, [].into_iter()));
    }

    #[test]
    fn a_host_alone_may_sleep() {
        for term in [Term::Endless, Term::Nothing] {
            assert!(!must_stay_awake(term, true, [&unit(&[])].into_iter()));
        }
    }
}
