//! When a vm counts as healthy.

use blixard_types::spec::Check;
use blixard_types::{Epoch, GenerationNumber};

use super::{active, run, started, unit};
use crate::assignment::{Assignment, Intent};
use crate::fixture::running;
use crate::ports::BootMillis;
use crate::ports::units::{ObservedUnit, UnitState};
use crate::reconcile::{ActiveSpell, Checks, Started, VmMemory};
use crate::state::HealthStatus;

const PENDING: &str = "report at 1: running 1, pending";
const HEALTHY: &str = "report at 1: running 1, healthy";

/// Active for 3 s counts, healthy within 10 s; started at 1000 unless the memory says otherwise.
fn assigned(notify: bool, checks: bool) -> Assignment {
    let Assignment { epoch, intent: Intent::Run(mut run) } = run(1, 1) else { panic!() };
    run.spec.notify = notify;
    run.spec.health.active_for_ms = 3000;
    run.spec.health.deadline_ms = 10_000;
    if checks {
        run.spec.health.checks = vec![Check::Tcp { address: "10.0.0.2:80".to_owned() }];
    }
    Assignment { epoch, intent: Intent::Run(run) }
}

/// Started at 1000; active since `since`, if it is.
fn memory(since: Option<u64>) -> VmMemory {
    let active =
        since.map(|since| ActiveSpell { main_pid: Some(100), restarts: 0, since: BootMillis(since) });
    let started = Started { epoch: Epoch(1), generation: GenerationNumber(1), at: BootMillis(1000) };
    VmMemory { running: Some(started), active, ..VmMemory::default() }
}

#[track_caller]
fn check_at(now: u64, run: Assignment, unit: Option<ObservedUnit>, memory: VmMemory, expected: &str) {
    super::check_at(now, Some(run), unit, memory, expected);
}

fn told(memory: VmMemory, health: HealthStatus) -> VmMemory {
    VmMemory { acknowledged: Some((Epoch(1), running(1, health))), ..memory }
}

fn unhealthy(reason: &str) -> String {
    format!("report at 1: running 1, unhealthy: {reason}")
}

#[test]
fn a_runner_that_does_not_notify_must_stay_up_for_a_while() {
    let check = |now, expected: &str| {
        check_at(now, assigned(false, false), Some(active(1, 1)), memory(Some(2000)), expected);
    };
    check(2000, PENDING);
    check(4999, PENDING);
    check(5000, HEALTHY);
    check(99_999, HEALTHY);
}

#[test]
fn what_is_known_to_be_pending_is_looked_at_when_that_may_change() {
    let check = |now, since, expected: &str| {
        let memory = told(memory(since), HealthStatus::Pending);
        check_at(now, assigned(false, false), Some(active(1, 1)), memory, expected);
    };
    check(2000, Some(2000), "wait until 5000");
    check(9000, Some(9000), "wait until 11000");
    check(2000, None, "wait until 11000");
}

#[test]
fn a_runner_that_notifies_is_healthy_as_soon_as_it_is_active() {
    let seen = |state| Some(unit(1, 1, state));
    check_at(2000, assigned(true, false), seen(UnitState::Active), memory(Some(2000)), HEALTHY);
    check_at(2000, assigned(true, false), seen(UnitState::Activating), memory(None), PENDING);
    // An activating unit is not up, whatever is remembered of an earlier spell.
    check_at(2000, assigned(true, false), seen(UnitState::Activating), memory(Some(1500)), PENDING);
}

#[test]
fn what_is_not_healthy_by_its_deadline_is_unhealthy_and_may_still_become_healthy() {
    let not_up = unhealthy("it was not up within its deadline");
    let starts = || Some(unit(1, 1, UnitState::Activating));
    check_at(10_999, assigned(false, false), starts(), memory(None), PENDING);
    check_at(11_000, assigned(false, false), starts(), memory(None), &not_up);
    let not_long = unhealthy("it did not stay up long enough within its deadline");
    let up = || Some(active(1, 1));
    check_at(10_999, assigned(false, false), up(), memory(Some(9000)), PENDING);
    check_at(11_000, assigned(false, false), up(), memory(Some(9000)), &not_long);
    check_at(12_000, assigned(false, false), up(), memory(Some(9000)), HEALTHY);
    let reason = "it did not stay up long enough within its deadline".to_owned();
    let known = told(memory(Some(9000)), HealthStatus::Unhealthy { reason });
    check_at(11_000, assigned(false, false), up(), known, "wait until 12000");
}

#[test]
fn a_restart_begins_a_new_spell() {
    let again = |since| {
        let restarted = ObservedUnit { restarts: 1, main_pid: Some(200), ..active(1, 1) };
        let since = BootMillis(since);
        let spell = ActiveSpell { main_pid: Some(200), restarts: 1, since };
        (Some(restarted), VmMemory { active: Some(spell), ..memory(None) })
    };
    let (seen, remembered) = again(6000);
    check_at(8999, assigned(false, false), seen.clone(), remembered.clone(), PENDING);
    check_at(9000, assigned(false, false), seen, remembered, HEALTHY);
    // Until the spell of this process is known, that of the one before does not count.
    let (seen, _) = again(6000);
    check_at(8000, assigned(false, false), seen, memory(Some(2000)), PENDING);
}

#[test]
fn an_adopted_unit_gets_its_whole_deadline_from_when_it_was_found() {
    let found = |since| {
        let mut memory = memory(Some(since));
        memory.running = memory.running.map(|started| Started { at: BootMillis(50_000), ..started });
        memory
    };
    check_at(52_999, assigned(false, false), Some(active(1, 1)), found(50_000), PENDING);
    check_at(53_000, assigned(false, false), Some(active(1, 1)), found(50_000), HEALTHY);
    check_at(59_999, assigned(false, false), Some(active(1, 1)), found(58_000), PENDING);
}

#[test]
fn the_start_of_another_generation_does_not_count_for_the_deadline() {
    let mut memory = started(1, 7);
    memory.active = Some(ActiveSpell { main_pid: Some(100), restarts: 0, since: BootMillis(50_000) });
    check_at(50_000, assigned(false, false), Some(active(1, 1)), memory, PENDING);
}

#[test]
fn checks_are_asked_once_it_is_up_and_again_every_second_until_they_pass() {
    let check = |now, checks, expected: &str| {
        let memory = VmMemory { checks, ..memory(Some(2000)) };
        check_at(now, assigned(false, true), Some(active(1, 1)), memory, expected);
    };
    let no = |at| Checks::Failed { reason: "refused".to_owned(), at: BootMillis(at) };
    check(4999, Checks::NotAsked, PENDING);
    check(5000, Checks::NotAsked, "probe 1");
    check(5100, no(5000), PENDING);
    check(5999, no(5000), PENDING);
    check(6000, no(5000), "probe 1");
    check(6100, Checks::Passed, HEALTHY);
    check(11_000, no(10_500), &unhealthy("refused"));
    check(11_500, no(10_500), "probe 1");
    check(12_000, Checks::Passed, HEALTHY);
}

#[test]
fn between_two_rounds_of_checks_there_is_a_pause() {
    let failed = Checks::Failed { reason: "refused".to_owned(), at: BootMillis(5000) };
    let pending = told(VmMemory { checks: failed, ..memory(Some(2000)) }, HealthStatus::Pending);
    check_at(5100, assigned(false, true), Some(active(1, 1)), pending, "wait until 6000");
}
