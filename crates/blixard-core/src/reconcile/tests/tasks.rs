//! What is made of the end of a task.

use blixard_types::spec::VmKind;

use super::*;

fn task(epoch: u64, generation: u64) -> Assignment {
    let Assignment { epoch, intent: Intent::Run(mut run) } = run(epoch, generation) else { panic!() };
    run.spec.kind = VmKind::Task;
    Assignment { epoch, intent: Intent::Run(run) }
}

fn completed(epoch: u64, generation: u64) -> ObservedUnit {
    ObservedUnit { main_pid: None, ..unit(epoch, generation, UnitState::Completed) }
}

#[test]
fn a_task_that_has_run_to_its_end_is_cleared_away_and_reported_and_not_started_again() {
    let gone = "make sure that nothing is left of 1 at 1, which has succeeded";
    check(Some(task(1, 1)), Some(completed(1, 1)), started(1, 1), gone);
    // Also by a daemon that was away when it ended.
    check(Some(task(1, 1)), Some(completed(1, 1)), nothing(), gone);
    let (epoch, generation) = (Epoch(1), GenerationNumber(1));
    let over = Ended { epoch, generation, exit: Exit::Succeeded, reason: String::new() };
    let memory = VmMemory { ended: Some(over), ..nothing() };
    check(Some(task(1, 1)), None, memory.clone(), "report at 1: succeeded 1");
    let said = acknowledged(memory, 1, VmReport::Succeeded { generation });
    check(Some(task(1, 1)), None, said, "wait");
}

#[test]
fn the_end_of_a_task_that_should_not_run_any_more_is_no_success() {
    let sure = "make sure that 0 at 1 has ended: it was told to stop";
    check(Some(stop(1)), Some(completed(1, 1)), started(1, 1), sure);
    check(Some(task(1, 2)), Some(completed(1, 1)), started(1, 1), "stop what is replaced");
    check(Some(task(2, 1)), Some(completed(1, 1)), started(1, 1), "stop what is replaced");
    check(None, Some(completed(1, 1)), started(1, 1), "stop the orphan");
    // It was asked to shut down with its machine, or ended with its lease.
    let fenced = VmMemory { fenced: Some(Epoch(1)), ..started(1, 1) };
    let lease = "make sure that 0 at 1 has ended: the lease of its host was over";
    check(Some(task(1, 1)), Some(completed(1, 1)), fenced, lease);
}

#[test]
fn a_task_that_ends_otherwise_has_failed() {
    let failed = "make sure that 1 at 1 has ended: its unit has ended with `exit-code`";
    check(Some(task(1, 1)), Some(unit(1, 1, gone())), started(1, 1), failed);
}

#[test]
fn a_task_is_well_as_soon_as_it_runs() {
    let active = ActiveSpell { main_pid: Some(100), restarts: 0, since: BootMillis(0) };
    let memory = VmMemory { active: Some(active), ..started(1, 1) };
    let healthy = "report at 1: running 1, healthy";
    check(Some(task(1, 1)), Some(unit(1, 1, UnitState::Active)), memory, healthy);
}
