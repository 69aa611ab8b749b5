//! Which guests are asked before they are killed.

use super::*;
use crate::unit::{ENV_RUNTIME_DIR, ENV_SHUTDOWN, ENV_STATE_DIR, ENV_STOP_TIMEOUT};

/// A unit whose guest can be asked to shut down.
fn askable(epoch: u64, generation: u64, state: UnitState) -> ObservedUnit {
    let environment = [
        (ENV_SHUTDOWN, "/nix/store/x/bin/microvm-shutdown"),
        (ENV_STOP_TIMEOUT, "3000"),
        (ENV_STATE_DIR, "/state"),
        (ENV_RUNTIME_DIR, "/run/vm"),
    ];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    ObservedUnit { environment, ..unit(epoch, generation, state) }
}

#[test]
fn a_guest_that_is_told_to_stop_is_asked_first() {
    let told = "ask 100 for 3000 ms, make sure that 0 at 1 has ended: it was told to stop";
    for state in [UnitState::Active, UnitState::Activating] {
        check(Some(stop(1)), Some(askable(1, 1, state)), started(1, 1), told);
    }
    // Also one that this daemon has not started.
    check(Some(stop(1)), Some(askable(1, 1, UnitState::Active)), nothing(), told);
}

#[test]
fn the_old_generation_is_asked_before_the_new_one_replaces_it() {
    let asked = "ask 100 for 3000 ms, stop what is replaced";
    let (epoch, generation, outcome) = (Epoch(1), GenerationNumber(2), Some(Prepared::Ready));
    let memory = VmMemory { preparation: Some(Preparation { epoch, generation, outcome }), ..started(1, 1) };
    check(Some(run(1, 2)), Some(askable(1, 1, UnitState::Active)), memory, asked);
}

#[test]
fn a_run_that_may_go_on_elsewhere_gets_no_time() {
    let old = Some(askable(1, 1, UnitState::Active));
    check(None, old.clone(), started(1, 1), "stop the orphan");
    check(Some(run(2, 1)), old.clone(), started(1, 1), "stop what is replaced");
    check(Some(run(1, 1)), old.clone(), ended(1, 1), "stop what is withdrawn");
    let sure = "make sure that 0 at 2 has ended: it was told to stop";
    check(Some(stop(2)), old, started(1, 1), sure);
}

#[test]
fn nobody_is_asked_where_nothing_runs() {
    let told = "make sure that 0 at 1 has ended: it was told to stop";
    for state in [UnitState::Deactivating, gone()] {
        check(Some(stop(1)), Some(askable(1, 1, state)), started(1, 1), told);
    }
    // systemd is about to start it again.
    let pause = ObservedUnit { main_pid: None, ..askable(1, 1, UnitState::Activating) };
    check(Some(stop(1)), Some(pause), started(1, 1), told);
}

#[test]
fn a_record_that_lacks_something_leaves_nobody_to_ask() {
    let told = "make sure that 0 at 1 has ended: it was told to stop";
    for name in [ENV_SHUTDOWN, ENV_STOP_TIMEOUT, ENV_STATE_DIR, ENV_RUNTIME_DIR] {
        let mut unit = askable(1, 1, UnitState::Active);
        unit.environment.remove(name);
        check(Some(stop(1)), Some(unit), started(1, 1), told);
    }
}
