//! Every case of the next step, as a table; what all of them come to together is in [`model`].

mod fetching;
mod health;
mod model;
mod preparing;
mod roots;
mod stops;
mod tasks;
mod volumes;

use super::*;
use crate::fixture::{closure, failed, running, spec, starting, vm};
use crate::state::HealthStatus;

/// An assignment to run this generation.
fn run(epoch: u64, generation: u64) -> Assignment {
    let (generation, sources) = (GenerationNumber(generation), vec![]);
    let run = RunIntent { generation, closure: closure("a"), spec: spec(100), sources, volumes: [].into() };
    Assignment { epoch: Epoch(epoch), intent: Intent::Run(Box::new(run)) }
}

fn stop(epoch: u64) -> Assignment {
    Assignment { epoch: Epoch(epoch), intent: Intent::Stop }
}

fn unit(epoch: u64, generation: u64, state: UnitState) -> ObservedUnit {
    ObservedUnit {
        vm: vm("web"),
        epoch: Some(Epoch(epoch)),
        generation: Some(GenerationNumber(generation)),
        state,
        restarts: 0,
        main_pid: Some(100),
        environment: BTreeMap::new(),
    }
}

fn active(epoch: u64, generation: u64) -> ObservedUnit {
    unit(epoch, generation, UnitState::Active)
}

fn gone() -> UnitState {
    UnitState::Ended { result: "exit-code".to_owned() }
}

fn nothing() -> VmMemory {
    VmMemory::default()
}

fn started(epoch: u64, generation: u64) -> VmMemory {
    let at = BootMillis(0);
    let started = Started { epoch: Epoch(epoch), generation: GenerationNumber(generation), at };
    VmMemory { running: Some(started), ..nothing() }
}

/// It is known how this epoch ended.
fn ended(epoch: u64, generation: u64) -> VmMemory {
    let (epoch, generation) = (Epoch(epoch), GenerationNumber(generation));
    VmMemory { ended: Some(Ended::failed(epoch, generation, "boom".to_owned())), ..nothing() }
}

fn acknowledged(memory: VmMemory, epoch: u64, report: VmReport) -> VmMemory {
    VmMemory { acknowledged: Some((Epoch(epoch), report)), ..memory }
}

fn shown_report(report: &VmReport) -> String {
    match report {
        VmReport::Fetching { generation } => format!("fetching {generation}"),
        VmReport::Preparing { generation, trouble: None } => format!("preparing {generation}"),
        VmReport::Preparing { generation, trouble: Some(reason) } => {
            format!("preparing {generation}, in vain: {reason}")
        }
        VmReport::Starting { generation } => format!("starting {generation}"),
        VmReport::Running { generation, health } => match health {
            HealthStatus::Pending => format!("running {generation}, pending"),
            HealthStatus::Healthy => format!("running {generation}, healthy"),
            HealthStatus::Unhealthy { reason } => format!("running {generation}, unhealthy: {reason}"),
        },
        VmReport::Stopped => "stopped".to_owned(),
        VmReport::FilesGone => "files gone".to_owned(),
        VmReport::VolumeGone { volume } => format!("{volume} gone"),
        VmReport::Succeeded { generation } => format!("succeeded {generation}"),
        VmReport::Failed { generation, reason } => format!("failed {generation}: {reason}"),
        VmReport::Hindered { generation, reason } => format!("hindered {generation}: {reason}"),
    }
}

fn shown_cause(cause: &StopCause) -> String {
    match cause {
        StopCause::Orphan => "stop the orphan".to_owned(),
        StopCause::Withdrawn => "stop what is withdrawn".to_owned(),
        StopCause::Replaced => "stop what is replaced".to_owned(),
        StopCause::Ended(Ended { epoch, generation, exit: Exit::Succeeded, .. }) => {
            format!("make sure that nothing is left of {generation} at {epoch}, which has succeeded")
        }
        StopCause::Ended(Ended { epoch, generation, reason, .. }) => {
            format!("make sure that {generation} at {epoch} has ended: {reason}")
        }
    }
}

fn shown(plan: &HostPlan) -> String {
    let actions = plan.actions.values().map(|action| match action {
        Action::Fetch { epoch, run } => format!("fetch {} at {epoch}", run.generation),
        Action::Prepare { epoch, run, fetch } => {
            format!(
                "{} {} at {epoch} beside what runs",
                if *fetch { "fetch" } else { "root" },
                run.generation
            )
        }
        Action::CancelFetch => "fetch no more".to_owned(),
        Action::Start { epoch, run } => format!("start {} at {epoch}", run.generation),
        Action::Stop(cause) => shown_cause(cause),
        Action::Shutdown { ask, cause } => {
            format!("ask {} for {} ms, {}", ask.main_pid, ask.timeout_ms, shown_cause(cause))
        }
        Action::Probe(run) => format!("probe {}", run.generation),
        Action::Discard { epoch } => format!("discard after {epoch}"),
        Action::DeleteVolume { volume, life } => format!("delete {volume} of {life}"),
        Action::Report { epoch, report } => format!("report at {epoch}: {}", shown_report(report)),
    });
    let vain = plan.vain.iter().map(|_| "prepare no more".to_owned());
    let again = plan.again_at.map(|at| format!("wait until {}", at.0));
    let words: Vec<_> = vain.chain(actions).chain(again).collect();
    if words.is_empty() { "wait".to_owned() } else { words.join(", ") }
}

/// The next step of one vm at an instant.
#[track_caller]
fn check_at(
    now: u64,
    assignment: Option<Assignment>,
    unit: Option<ObservedUnit>,
    memory: VmMemory,
    expected: &str,
) {
    let vm = vm("web");
    let assignments = assignment.map(|assignment| (vm.clone(), assignment)).into_iter().collect();
    let granted = AssignmentSet { assignments, ..AssignmentSet::default() };
    let units = unit.map(|unit| (vm.clone(), unit)).into_iter().collect();
    let plan = plan(&granted, &units, &BTreeMap::from([(vm, memory)]), BootMillis(now));
    assert_eq!(shown(&plan), expected);
}

#[track_caller]
fn check(assignment: Option<Assignment>, unit: Option<ObservedUnit>, memory: VmMemory, expected: &str) {
    check_at(0, assignment, unit, memory, expected);
}

#[test]
fn what_no_assignment_speaks_of_is_stopped_and_nothing_is_said() {
    for state in [UnitState::Activating, UnitState::Active, UnitState::Deactivating, gone()] {
        check(None, Some(unit(1, 1, state)), started(1, 1), "stop the orphan");
    }
    let unreadable = ObservedUnit { epoch: None, generation: None, ..active(1, 1) };
    check(None, Some(unreadable), nothing(), "stop the orphan");
    check(None, None, ended(1, 1), "wait");
    check(None, None, nothing(), "wait");
}

#[test]
fn what_should_run_and_never_did_is_announced_and_then_started() {
    let check = |epoch, generation, memory: VmMemory| {
        let said = format!("report at {epoch}: starting {generation}");
        check(Some(run(epoch, generation)), None, memory.clone(), &said);
        let announced = acknowledged(memory, epoch, starting(generation));
        let start = format!("start {generation} at {epoch}");
        super::tests::check(Some(run(epoch, generation)), None, announced, &start);
    };
    check(1, 1, nothing());
    check(2, 3, nothing());
    // What an earlier epoch or generation came to says nothing of this one.
    check(2, 1, started(1, 1));
    check(2, 1, ended(1, 1));
    check(2, 1, acknowledged(ended(1, 1), 1, failed(1, "boom")));
    check(2, 1, acknowledged(nothing(), 1, starting(1)));
    check(1, 2, acknowledged(started(1, 1), 1, starting(1)));
}

#[test]
fn what_has_ended_is_made_sure_of_then_said_and_never_started_again_at_that_epoch() {
    let sure = "make sure that 1 at 1 has ended: its unit has ended with `exit-code`";
    check(Some(run(1, 1)), Some(unit(1, 1, gone())), started(1, 1), sure);
    let sure = "make sure that 1 at 1 has ended: its unit has ended, and systemd does not start it again";
    check(Some(run(1, 1)), None, started(1, 1), sure);
    check(Some(run(1, 1)), None, ended(1, 1), "report at 1: failed 1: boom");
    let known = acknowledged(ended(1, 1), 1, failed(1, "boom"));
    check(Some(run(1, 1)), None, known.clone(), "wait");
    // Not even for another generation: the epoch is over.
    check(Some(run(1, 2)), None, ended(1, 1), "report at 1: failed 1: boom");
    check(Some(run(1, 2)), None, known, "wait");
}

#[test]
fn what_runs_at_an_epoch_that_is_over_is_stopped() {
    check(Some(run(1, 1)), Some(active(1, 1)), ended(1, 1), "stop what is withdrawn");
    check(Some(stop(1)), Some(active(1, 1)), ended(1, 1), "stop what is withdrawn");
}

#[test]
fn what_should_stop_is_stopped_for_sure_before_that_is_said() {
    let told = "make sure that 0 at 1 has ended: it was told to stop";
    for state in [UnitState::Activating, UnitState::Active, UnitState::Deactivating, gone()] {
        check(Some(stop(1)), Some(unit(1, 1, state)), started(1, 1), told);
    }
    // Also where nothing is seen: the daemon may have been restarted while a stop was under way.
    check(Some(stop(1)), None, nothing(), told);
    check(Some(stop(2)), Some(active(1, 1)), ended(1, 0), &told.replace("at 1", "at 2"));
    check(Some(stop(1)), None, ended(1, 0), "report at 1: stopped");
    check(Some(stop(1)), None, ended(1, 1), "report at 1: stopped");
    check(Some(stop(1)), None, acknowledged(ended(1, 0), 1, VmReport::Stopped), "wait");
    check(Some(stop(2)), None, acknowledged(ended(2, 0), 1, VmReport::Stopped), "report at 2: stopped");
}

#[test]
fn a_vm_that_was_told_to_stop_is_not_started_at_that_epoch_when_the_order_is_taken_back() {
    // The report may be on its way, and what follows it may run elsewhere.
    check(Some(run(1, 1)), None, ended(1, 0), "report at 1: stopped");
    check(Some(run(1, 1)), None, acknowledged(ended(1, 0), 1, VmReport::Stopped), "wait");
    let next = acknowledged(ended(1, 0), 1, VmReport::Stopped);
    check(Some(run(2, 1)), None, next, "report at 2: starting 1");
    // Not even when an earlier announcement of the same start is what was acknowledged last.
    let announced = acknowledged(ended(1, 0), 1, starting(1));
    check(Some(run(1, 1)), None, announced, "report at 1: stopped");
}

#[test]
fn another_epoch_is_replaced_whatever_it_does_and_another_generation_unless_it_is_up() {
    for state in [UnitState::Activating, UnitState::Active, UnitState::Deactivating, gone()] {
        for (epoch, generation) in [(1, 2), (2, 1), (3, 2), (2, 3), (3, 3)] {
            let other = unit(epoch, generation, state.clone());
            let stopped = epoch != 2 || !other.is_up();
            let next = if stopped { "stop what is replaced" } else { "root 2 at 2 beside what runs" };
            check(Some(run(2, 2)), Some(other), started(epoch, generation), next);
        }
    }
    let no_epoch = ObservedUnit { epoch: None, ..active(1, 1) };
    check(Some(run(1, 1)), Some(no_epoch), nothing(), "stop what is replaced");
    let no_generation = ObservedUnit { generation: None, ..active(1, 1) };
    check(Some(run(1, 1)), Some(no_generation), nothing(), "stop what is replaced");
}

#[test]
fn a_unit_that_is_there_is_adopted_and_not_touched() {
    check(Some(run(1, 1)), Some(active(1, 1)), nothing(), "report at 1: running 1, pending");
    let starts = unit(1, 1, UnitState::Activating);
    check(Some(run(1, 1)), Some(starts), nothing(), "report at 1: running 1, pending");
    check(Some(run(1, 1)), Some(unit(1, 1, UnitState::Deactivating)), started(1, 1), "wait");
}

#[test]
fn what_the_servers_know_is_not_said_again_and_what_they_do_not_is() {
    let pending = running(1, HealthStatus::Pending);
    let known = |epoch, report| acknowledged(started(1, 1), epoch, report);
    let assigned = || Some(run(1, 1));
    let seen = || Some(active(1, 1));
    check(assigned(), seen(), known(1, pending.clone()), "wait until 120000");
    let said = "report at 1: running 1, pending";
    check(assigned(), seen(), known(0, pending), said);
    check(assigned(), seen(), known(1, starting(1)), said);
    check(assigned(), seen(), known(1, running(2, HealthStatus::Pending)), said);
    check(assigned(), seen(), known(1, running(1, HealthStatus::Healthy)), said);
}

#[test]
fn a_busy_vm_is_left_alone_whatever_is_granted_and_seen() {
    for assignment in [None, Some(run(1, 1)), Some(run(2, 1)), Some(stop(1))] {
        for seen in [None, Some(active(1, 1)), Some(unit(1, 1, gone()))] {
            for memory in [nothing(), started(1, 1), ended(1, 1)] {
                let busy = VmMemory { work: Work::Busy, ..memory };
                check(assignment.clone(), seen.clone(), busy, "wait");
            }
        }
    }
}

#[test]
fn each_vm_has_its_own_step_and_the_earliest_wait_counts() {
    let names = ["a", "b", "c", "d"];
    let assignments = BTreeMap::from([(vm("a"), run(1, 1)), (vm("b"), run(1, 1)), (vm("c"), run(1, 1))]);
    let granted = AssignmentSet { assignments, ..AssignmentSet::default() };
    let seen = |name: &str| (vm(name), ObservedUnit { vm: vm(name), ..active(1, 1) });
    let units = BTreeMap::from([seen("b"), seen("c"), seen("d")]);
    let known = |at| {
        let mut memory = acknowledged(started(1, 1), 1, running(1, HealthStatus::Pending));
        memory.running = memory.running.map(|started| Started { at: BootMillis(at), ..started });
        memory
    };
    let memory = BTreeMap::from([(vm("b"), known(70)), (vm("c"), known(50))]);
    let plan = plan(&granted, &units, &memory, BootMillis(100));
    let planned: Vec<_> = names.iter().filter(|name| plan.actions.contains_key(&vm(name))).collect();
    assert_eq!(planned, [&"a", &"d"]);
    assert_eq!(plan.again_at, Some(BootMillis(120_050)));
}
