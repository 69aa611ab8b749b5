//! Whether a vm that runs does what it is for, by its spec's rules.

use blixard_types::spec::VmKind;

use super::{ActiveSpell, Checks, Started, VmMemory};
use crate::assignment::RunIntent;
use crate::ports::BootMillis;
use crate::ports::units::{ObservedUnit, UnitState};
use crate::state::HealthStatus;

/// Pause between two rounds of the checks of a vm that is not healthy yet.
const PROBE_EVERY_MS: u64 = 1000;

/// What can be said of it.
pub(super) enum Health {
    /// This, until then.
    Known(HealthStatus, Option<BootMillis>),
    /// Nothing before the checks were asked.
    AskChecks,
}

/// How it does that runs as it should.
pub(super) fn health(run: &RunIntent, unit: &ObservedUnit, memory: &VmMemory, now: BootMillis) -> Health {
    let rules = &run.spec.health;
    let this =
        |started: &Started| unit.epoch == Some(started.epoch) && unit.generation == Some(started.generation);
    let started = memory.running.filter(this).map_or(now, |started| started.at);
    let deadline = BootMillis(started.0.saturating_add(rules.deadline_ms));
    // What is not healthy yet is pending until its deadline and unhealthy after it.
    let not_yet = |reason: &str, again: Option<BootMillis>| {
        if now < deadline {
            let again = again.map_or(deadline, |at| at.min(deadline));
            return Health::Known(HealthStatus::Pending, Some(again));
        }
        Health::Known(HealthStatus::Unhealthy { reason: reason.to_owned() }, again)
    };
    let same = |spell: &ActiveSpell| spell.main_pid == unit.main_pid && spell.restarts == unit.restarts;
    let spell = memory.active.filter(same).filter(|_| unit.state == UnitState::Active);
    let Some(spell) = spell else {
        return not_yet("it was not up within its deadline", None);
    };
    // What runs once need not stay up.
    if run.spec.kind == VmKind::Task {
        return Health::Known(HealthStatus::Healthy, None);
    }
    let steady = BootMillis(spell.since.0.saturating_add(rules.active_for_ms));
    if !run.spec.notify && now < steady {
        return not_yet("it did not stay up long enough within its deadline", Some(steady));
    }
    if rules.checks.is_empty() {
        return Health::Known(HealthStatus::Healthy, None);
    }
    match &memory.checks {
        Checks::Passed => Health::Known(HealthStatus::Healthy, None),
        Checks::NotAsked => Health::AskChecks,
        Checks::Failed { at, .. } if now.since(*at) >= PROBE_EVERY_MS => Health::AskChecks,
        Checks::Failed { reason, at } => not_yet(reason, Some(BootMillis(at.0 + PROBE_EVERY_MS))),
    }
}
