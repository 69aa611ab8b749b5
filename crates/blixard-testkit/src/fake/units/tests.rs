//! The fake keeps the port's contract, and does what tests tell it to do.

use blixard_types::unit::StopUnitName;
use futures_util::StreamExt;

use super::contract::{Ground, unit_manager_contract};
use super::*;

fn argv(program: &str) -> Vec<String> {
    vec![program.to_owned()]
}

fn ground() -> Ground {
    Ground {
        state_dir: "/var/lib/contract".to_owned(),
        runtime_dir: "/run/contract".to_owned(),
        runs: argv("/bin/runs"),
        fails: argv("/bin/fails"),
        completes: argv("/bin/completes"),
        missing: argv("/bin/missing"),
    }
}

fn units() -> FakeUnits {
    let units = FakeUnits::new();
    units.program("/bin/fails", FakeProgram::Fails);
    units.program("/bin/completes", FakeProgram::Completes);
    units.program("/bin/missing", FakeProgram::Missing);
    units
}

fn vm() -> VmId {
    "acme/web".parse().unwrap()
}

fn restarted(burst: u32) -> TransientUnit {
    TransientUnit {
        restart: RestartPolicy::Always { delay_ms: 0, burst, within_ms: 1 },
        ..ground().unit(&vm(), &ground().runs)
    }
}

#[tokio::test]
async fn the_fake_keeps_the_contract_of_unit_managers() {
    unit_manager_contract(&units(), &ground()).await.unwrap();
}

#[tokio::test]
async fn an_exit_is_followed_by_a_restart_until_the_start_limit() {
    let units = units();
    units.start(restarted(2)).await.unwrap();
    units.exit(&vm());
    let unit = units.unit(&vm()).unwrap();
    assert_eq!((unit.restarts, unit.main_pid, unit.state), (1, Some(2), UnitState::Active));
    units.exit(&vm());
    assert_eq!(units.unit(&vm()), None);
}

#[tokio::test]
async fn an_injected_failure_changes_nothing_and_is_over_after_one_call() {
    let units = units();
    let unreachable = || UnitError::Unreachable { reason: "because".to_owned() };
    units.fail_next(Operation::Observe, unreachable());
    units.fail_next(Operation::Start, unreachable());
    assert!(units.start(restarted(1)).await.is_err());
    assert!(units.observe().await.is_err());
    assert_eq!(units.observe().await.unwrap(), []);
    units.start(restarted(1)).await.unwrap();
    let starts = UnitCall::Start(Box::new(restarted(1)));
    assert_eq!(units.calls(), [starts.clone(), starts]);
}

#[tokio::test]
async fn a_unit_from_before_is_seen_as_it_was_left() {
    let units = units();
    let mut changes = units.changes();
    let left = ObservedUnit {
        vm: vm(),
        epoch: None,
        generation: None,
        state: UnitState::Deactivating,
        restarts: 4,
        main_pid: None,
        environment: BTreeMap::new(),
    };
    units.adopt(left.clone());
    units.lose_signals();
    assert_eq!(units.observe().await.unwrap(), [left]);
    assert_eq!(changes.next().await, Some(UnitChange::Unit(vm())));
    assert_eq!(changes.next().await, Some(UnitChange::Any));
}

#[tokio::test]
async fn a_slow_reader_learns_that_it_has_missed_something() {
    let units = units();
    let mut changes = units.changes();
    for _ in 0..=CHANGES_KEPT {
        units.exit(&vm());
    }
    assert_eq!(changes.next().await, Some(UnitChange::Any));
}

#[tokio::test]
async fn a_guest_that_is_asked_ends_its_program_unless_it_is_stubborn() {
    let units = units();
    units.start(restarted(3)).await.unwrap();
    let before = units.unit(&vm()).unwrap();
    let ask = || GracefulStop {
        run: RunUnitName::of(&vm()),
        name: StopUnitName::of(&vm()),
        slice: "blixard-default.slice".to_owned(),
        account: None,
        program: "/shutdown".to_owned(),
        environment: BTreeMap::new(),
        working_directory: "/state".to_owned(),
        runtime_directory: "/run/vm".to_owned(),
        main_pid: before.main_pid.unwrap(),
        timeout_ms: 1000,
    };
    units.never_shuts_down(&vm(), "no answer");
    let stubborn = Asked::Runs { reason: "no answer".to_owned() };
    assert_eq!(units.shutdown(ask()).await.unwrap(), stubborn);
    assert_eq!(units.unit(&vm()).unwrap(), before);
    let obedient = self::units();
    obedient.start(restarted(3)).await.unwrap();
    assert_eq!(obedient.shutdown(ask()).await.unwrap(), Asked::Ended);
    assert_eq!(obedient.unit(&vm()).unwrap().restarts, 1, "its policy starts it again");
}
