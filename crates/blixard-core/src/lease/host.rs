//! The host's side of a lease: what the holder is told, and under what something may be started.
//!
//! Owns: whether what was granted is backed by a holder that has heard of it, and which runs have ended with
//! a lease. Refuses to know: how the holder is told; which grants are taken is [`crate::grant::GrantGate`]'s.
//!
//! ```text
//!            grant taken: tell the holder                    ┌ later grants: tell it again
//! not yet ──────────────────────────────▶ told ─ it holds ─▶ held(lease) ─┐
//!   ▲ ▲                                    │ there is none, and no end    │ it holds another: what ran
//!   │ └ the end of a grant has come        ▼                              │ under the one before was ended
//!   └─ grants have an end now, or none   leaseless ◀──────────────────────┘
//! ```

use std::collections::BTreeMap;

use blixard_types::VmId;
use blixard_types::holder::{ENV_LEASE, LeaseName, Until};

use crate::grant::Term;
use crate::ports::BootMillis;
use crate::ports::units::ObservedUnit;
use crate::reconcile::{Action, StopCause, VmMemory, Work};
use crate::unit::ENV_KEPT;

/// Under what something may be started.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Footing {
    /// The holder has not heard of what is granted.
    #[default]
    NotYet,
    /// There is no holder, and nothing that is granted has an end.
    Leaseless,
    /// Under this lease.
    Held(LeaseName),
}

/// What a host knows of its lease.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostLease {
    footing: Footing,
    /// The lease that was held last, if any.
    last: Option<LeaseName>,
    term: Term,
}

/// What the holder is told of a grant; `None` before the first.
#[must_use]
pub fn order(term: Term) -> Option<Until> {
    match term {
        Term::Nothing => None,
        Term::Endless => Some(Until::Endless),
        Term::Until(deadline) => Some(Until::At(deadline.0)),
    }
}

impl HostLease {
    /// Under what something may be started now. Once the end of what is granted has come, nothing may.
    pub fn footing(&self, now: BootMillis) -> &Footing {
        if is_over(self.term, now) { &Footing::NotYet } else { &self.footing }
    }

    /// A grant is taken: until when it holds.
    pub fn granted(&mut self, term: Term, now: BootMillis) {
        let same_kind =
            matches!((self.term, term), (Term::Endless, Term::Endless) | (Term::Until(_), Term::Until(_)));
        if !same_kind || is_over(self.term, now) {
            self.footing = Footing::NotYet;
        }
        self.term = term;
    }

    /// The holder has heard this order. Gives the lease whose end it has brought, if another is held by now.
    pub fn held(&mut self, order: Until, lease: LeaseName) -> Option<LeaseName> {
        let same_kind =
            matches!((self.term, order), (Term::Endless, Until::Endless) | (Term::Until(_), Until::At(_)));
        let before = self.last.replace(lease.clone()).filter(|before| *before != lease);
        if same_kind {
            self.footing = Footing::Held(lease);
        }
        before
    }

    /// There is no holder that hears. A host whose grants have no end runs without one.
    pub fn not_held(&mut self) {
        self.footing = match self.term {
            Term::Endless => Footing::Leaseless,
            Term::Nothing | Term::Until(_) => Footing::NotYet,
        };
    }

    /// Whether everything here that may stop stops when the lease ends. `leaseless` says whether a vm's
    /// operation in flight may leave something that does not.
    pub fn fences(
        &self,
        units: &BTreeMap<VmId, ObservedUnit>,
        memories: &BTreeMap<VmId, VmMemory>,
        leaseless: impl Fn(&VmId) -> bool,
    ) -> bool {
        let (Footing::Held(lease), Term::Until(_)) = (&self.footing, self.term) else { return false };
        let bound = |unit: &ObservedUnit| is_kept(unit) || lease_of(unit) == Some(&lease.0);
        let busy = |(vm, memory): (&VmId, &VmMemory)| memory.work == Work::Busy && leaseless(vm);
        units.values().all(bound) && !memories.iter().any(busy)
    }

    /// Whether the run of a unit has ended with its lease, whatever is left of it.
    pub fn has_ended(&self, unit: &ObservedUnit) -> bool {
        let other = |held: &LeaseName| lease_of(unit).is_some_and(|lease| *lease != held.0);
        !is_kept(unit) && self.last.as_ref().is_some_and(other)
    }

    /// Whether a step may be taken now. What seems to have ended by itself may have been ended with the
    /// lease; that is known once the next one is held.
    pub fn allows(&self, action: &Action, now: BootMillis) -> bool {
        let not_yet = *self.footing(now) == Footing::NotYet;
        match action {
            Action::Start { run, .. } => {
                !is_over(self.term, now) && (!not_yet || run.spec.keeps_in_partition())
            }
            Action::Stop(StopCause::Ended(ended))
            | Action::Shutdown { cause: StopCause::Ended(ended), .. } => !not_yet || ended.was_told(),
            // None of these executes anything of a vm; what is fetched are bytes in the store.
            Action::Fetch { .. }
            | Action::Prepare { .. }
            | Action::CancelFetch
            | Action::Stop(_)
            | Action::Shutdown { .. }
            | Action::Discard { .. }
            | Action::DeleteVolume { .. }
            | Action::Report { .. } => true,
            Action::Probe(_) => !not_yet,
        }
    }
}

fn is_over(term: Term, now: BootMillis) -> bool {
    match term {
        Term::Nothing => true,
        Term::Endless => false,
        Term::Until(deadline) => deadline <= now,
    }
}

fn is_kept(unit: &ObservedUnit) -> bool {
    unit.environment.contains_key(ENV_KEPT)
}

fn lease_of(unit: &ObservedUnit) -> Option<&String> {
    unit.environment.get(ENV_LEASE)
}

#[cfg(test)]
mod tests;
