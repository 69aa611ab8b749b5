//! The change from one generation to the next on the same host: the new one's closure is there and rooted before the
//! old one is asked to stop, so that a guest is down for a stop and a start, and not for a transfer.
//!
//! A preparation changes nothing of the vm. It goes on beside everything else that is done about it, and one that
//! does not work ends nothing: the old generation runs on, the servers are told why, and it is tried again.

use blixard_types::{Epoch, GenerationNumber};

use super::{Action, Step, StopCause, VmMemory, is_wanted, report, stop};
use crate::assignment::{Assignment, RunIntent};
use crate::ports::BootMillis;
use crate::ports::units::ObservedUnit;
use crate::state::VmReport;

/// Pause before a preparation that did not work is tried again; a fetch has tried several times by then.
const AGAIN_AFTER_MS: u64 = 30_000;

/// What becomes of the closure of the generation that is to run next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preparation {
    /// The placement.
    pub epoch: Epoch,
    /// What is prepared.
    pub generation: GenerationNumber,
    /// How far it is; nothing while it is under way.
    pub outcome: Option<Prepared>,
}

/// What a preparation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Prepared {
    /// The closure is in the store, and rooted.
    Ready,
    /// It is not in the store, and nothing was fetched.
    Lacking,
    /// It could not be had.
    Failed {
        /// Why.
        reason: String,
        /// When.
        at: BootMillis,
    },
}

impl Preparation {
    /// Whether it has come to nothing yet.
    #[must_use]
    pub fn is_under_way(&self) -> bool {
        self.outcome.is_none()
    }

    /// Whether it is under way for nothing: something else is wanted, or nothing runs that must not be stopped.
    pub(super) fn is_vain(&self, assignment: Option<&Assignment>, unit: Option<&ObservedUnit>) -> bool {
        let runs = unit.is_some_and(|unit| unit.epoch == Some(self.epoch) && unit.is_up());
        self.is_under_way() && !(runs && is_wanted(assignment, self.epoch, self.generation))
    }
}

/// Another generation runs at the right epoch: it is replaced as soon as its successor can be started.
pub(super) fn replace(
    epoch: Epoch,
    run: &RunIntent,
    unit: &ObservedUnit,
    memory: &VmMemory,
    now: BootMillis,
) -> Step {
    let generation = run.generation;
    let prepare = |fetch| Step::Do(Action::Prepare { epoch, run: Box::new(run.clone()), fetch });
    let said = |trouble| report(memory, epoch, VmReport::Preparing { generation, trouble }, None);
    let Some(preparation) = &memory.preparation else {
        return prepare(false);
    };
    match &preparation.outcome {
        // What is given up is waited for: two of one vm are never under way.
        None => Step::Wait(None),
        Some(_) if (preparation.epoch, preparation.generation) != (epoch, generation) => prepare(false),
        Some(Prepared::Ready) => Step::Do(stop(epoch, Some(unit), StopCause::Replaced)),
        Some(Prepared::Lacking) => match said(None) {
            Step::Wait(_) => prepare(true),
            first @ Step::Do(_) => first,
        },
        Some(Prepared::Failed { reason, at }) => match said(Some(reason.clone())) {
            Step::Wait(_) if now.since(*at) >= AGAIN_AFTER_MS => prepare(true),
            Step::Wait(_) => Step::Wait(Some(BootMillis(at.0.saturating_add(AGAIN_AFTER_MS)))),
            first @ Step::Do(_) => first,
        },
    }
}
