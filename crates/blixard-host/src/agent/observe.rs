//! Which view of the units the agent has, and what it looks at again.
//!
//! Owns: that a vm is planned only once it was seen after the last that was done about it. Looks at all units at
//! first, and when changes were lost; else at those that have changed: with many vms one that starts would
//! otherwise cost a look at each of the others.

use std::collections::BTreeSet;
use std::time::Duration;

use blixard_core::ports::units::{ObservedUnit, UnitChange, UnitError};
use blixard_core::reconcile::Work;
use blixard_types::{VmId, chain};

use super::{Agent, RETRY_AFTER};
use crate::memory::take_in;

/// What is to be seen.
#[derive(Debug, Default)]
pub(super) struct Observation {
    /// Whether any unit may have changed since the last observation was begun.
    all: bool,
    /// The vms whose units may have changed since.
    changed: BTreeSet<VmId>,
    /// Whether there has been one that counts.
    pub(super) made: bool,
    /// The running one does not count: it was begun too early.
    void: bool,
    /// Vms whose action was done before the running observation was begun.
    releasing: BTreeSet<VmId>,
    /// Vms whose action was done since.
    finished: BTreeSet<VmId>,
    /// Vms whose units are being started or stopped. A start changes a unit ten times; what it comes to is looked at
    /// when it is done.
    acting: BTreeSet<VmId>,
}

/// What is looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Sight {
    /// All units.
    All,
    /// Those of these vms.
    Of(BTreeSet<VmId>),
}

/// An observation.
#[derive(Debug)]
pub(super) struct Seen {
    sight: Sight,
    units: Result<Vec<ObservedUnit>, UnitError>,
}

impl Observation {
    /// Nothing was seen yet.
    pub(super) fn due() -> Self {
        Self { all: true, ..Self::default() }
    }

    /// Something has changed.
    pub(super) fn note(&mut self, change: UnitChange) {
        match change {
            UnitChange::Unit(vm) if self.acting.contains(&vm) => {}
            UnitChange::Unit(vm) => drop(self.changed.insert(vm)),
            UnitChange::Any => self.all = true,
        }
    }

    /// Everything may have changed, or was not seen.
    pub(super) fn look_at_all(&mut self) {
        self.all = true;
    }

    /// What is seen counts only if it is looked for from now on.
    pub(super) fn forget(&mut self) {
        (self.all, self.made, self.void) = (true, false, true);
    }

    /// The unit of a vm is started or stopped from now on, until that is finished.
    pub(super) fn act(&mut self, vm: VmId) {
        self.acting.insert(vm);
    }

    /// Whether any is.
    pub(super) fn acts(&self) -> bool {
        !self.acting.is_empty()
    }

    /// The vm may be planned again once it has been observed anew.
    pub(super) fn finish(&mut self, vm: VmId) {
        self.acting.remove(&vm);
        self.changed.insert(vm.clone());
        self.finished.insert(vm);
    }

    /// What the next observation is of, if one is due; it is begun now.
    fn begin(&mut self) -> Option<Sight> {
        if !self.all && self.changed.is_empty() {
            return None;
        }
        let changed = std::mem::take(&mut self.changed);
        self.releasing.append(&mut self.finished);
        self.void = false;
        Some(if std::mem::take(&mut self.all) { Sight::All } else { Sight::Of(changed) })
    }
}

impl Agent {
    /// Begins an observation where one is due and none is running.
    pub(super) fn observe(&mut self) {
        self.observe_after(Duration::ZERO);
    }

    fn observe_after(&mut self, pause: Duration) {
        if !self.observing.is_empty() {
            return;
        }
        let Some(sight) = self.observation.begin() else { return };
        let units = self.host.units.clone();
        self.observing.spawn(async move {
            if !pause.is_zero() {
                tokio::time::sleep(pause).await;
            }
            let units = match sight.clone() {
                Sight::All => units.observe().await,
                Sight::Of(vms) => units.look(vms).await,
            };
            Seen { sight, units }
        });
    }

    pub(super) fn on_observed(&mut self, seen: Option<Seen>) {
        match seen {
            Some(Seen { sight, units: Ok(units) }) => {
                match sight {
                    Sight::All => self.units.clear(),
                    Sight::Of(vms) => self.units.retain(|vm, _| !vms.contains(vm)),
                }
                self.units.extend(units.into_iter().map(|unit| (unit.vm.clone(), unit)));
                take_in(&mut self.memories, &self.units, self.host.clock.boot());
                self.observation.made |= !self.observation.void;
                for vm in std::mem::take(&mut self.observation.releasing) {
                    self.set_work(&vm, Work::Idle);
                    self.is_seen(&vm);
                }
                self.end_units_of_earlier_leases();
            }
            Some(Seen { units: Err(error), .. }) => {
                tracing::warn!(error = chain(&error), "cannot observe units, trying again");
                self.observe_later();
            }
            None => self.observe_later(),
        }
    }

    fn observe_later(&mut self) {
        self.observation.look_at_all();
        self.observe_after(RETRY_AFTER);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn vm(name: &str) -> VmId {
        name.parse().unwrap()
    }

    #[test]
    fn only_what_has_changed_is_looked_at_unless_changes_were_lost() {
        let mut observation = Observation::due();
        assert_eq!(observation.begin(), Some(Sight::All), "at first all");
        assert_eq!(observation.begin(), None);
        observation.note(UnitChange::Unit(vm("a")));
        observation.finish(vm("b"));
        assert_eq!(observation.begin(), Some(Sight::Of([vm("a"), vm("b")].into())));
        assert_eq!(observation.releasing, [vm("b")].into());
        observation.note(UnitChange::Unit(vm("a")));
        observation.note(UnitChange::Any);
        assert_eq!(observation.begin(), Some(Sight::All));
        assert_eq!(observation.begin(), None, "what was seen with all is not looked at again");
    }

    #[test]
    fn a_unit_that_is_being_started_is_looked_at_when_that_is_done() {
        let mut observation = Observation::due();
        observation.begin();
        observation.act(vm("a"));
        for name in ["a", "b"] {
            observation.note(UnitChange::Unit(vm(name)));
        }
        assert_eq!(observation.begin(), Some(Sight::Of([vm("b")].into())));
        observation.finish(vm("a"));
        assert_eq!(observation.begin(), Some(Sight::Of([vm("a")].into())));
        observation.note(UnitChange::Unit(vm("a")));
        assert_eq!(observation.begin(), Some(Sight::Of([vm("a")].into())), "as any other from then on");
    }

    #[test]
    fn what_was_looked_for_too_early_does_not_count() {
        let mut observation = Observation::due();
        observation.begin();
        observation.forget();
        assert!(observation.void, "the one under way");
        assert_eq!(observation.begin(), Some(Sight::All));
        assert!(!observation.void);
    }

    #[test]
    fn after_a_failure_all_is_looked_at() {
        let mut observation = Observation::due();
        observation.begin();
        observation.finish(vm("a"));
        observation.begin();
        observation.finish(vm("b"));
        observation.look_at_all();
        assert_eq!(observation.begin(), Some(Sight::All));
        assert_eq!(observation.releasing, [vm("a"), vm("b")].into());
        assert_eq!(observation.begin(), None, "one of all is under way");
    }
}
