//! The host's plan: what it does next about each vm, from what it is granted and what it sees.
//!
//! Owns: when to start, stop, adopt and report. Refuses to know: systemd, Nix, the network; and what
//! an operation in flight is doing (a busy vm is left alone until it is done).
//!
//! The plan is level-triggered: it looks at what is, never at what happened, so that a lost signal, a
//! lost report or a restarted daemon is mended by looking again.

mod health;
mod prepare;

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{Epoch, GenerationNumber, VmId, VolumeName};

use crate::assignment::{Assignment, AssignmentSet, Intent, RunIntent};
use crate::ports::BootMillis;
use crate::ports::units::{GracefulStop, ObservedUnit, UnitState};
use crate::state::VmReport;
use crate::unit::graceful_stop;

use health::{Health, health};
pub use prepare::{Preparation, Prepared};

/// What a daemon remembers of a vm. It is lost with the daemon, and nothing is started because of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct VmMemory {
    /// Whether an operation is in flight.
    pub work: Work,
    /// What this daemon has started, or found running and adopted, and since when it knows of it.
    pub running: Option<Started>,
    /// How that ended, once no process is left.
    pub ended: Option<Ended>,
    /// Since when the hypervisor has been active without a break.
    pub active: Option<ActiveSpell>,
    /// What the checks said last.
    pub checks: Checks,
    /// The placement whose run was ended with the host's lease.
    pub fenced: Option<Epoch>,
    /// The placement after which its files were removed.
    pub discarded: Option<Epoch>,
    /// The volumes that were removed, with the placements that they were made for.
    pub deleted: BTreeSet<(VolumeName, Epoch)>,
    /// The generation whose closure was not in the store when it was to be started.
    pub lacking: Option<(Epoch, GenerationNumber)>,
    /// How far the host is with the generation that is to run in place of the one that does.
    pub preparation: Option<Preparation>,
    /// The newest report that the servers have accepted.
    pub acknowledged: Option<(Epoch, VmReport)>,
}

impl VmMemory {
    /// Whether an operation is in flight, or a preparation.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.work != Work::Idle || self.preparation.as_ref().is_some_and(Preparation::is_under_way)
    }
}

/// Whether an operation on a vm is in flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Work {
    /// None is.
    #[default]
    Idle,
    /// One is.
    Busy,
    /// The closure of this generation is being fetched. That changes nothing of the vm, and is given up
    /// when something else is wanted.
    Fetching {
        /// The placement.
        epoch: Epoch,
        /// What is fetched.
        generation: GenerationNumber,
    },
}

/// A generation that was started at an epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Started {
    /// The placement.
    pub epoch: Epoch,
    /// What runs.
    pub generation: GenerationNumber,
    /// When.
    pub at: BootMillis,
}

/// A run that has ended; no process of it is left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The placement.
    pub epoch: Epoch,
    /// What ran; 0, which no generation has, if it was told to stop.
    pub generation: GenerationNumber,
    /// How.
    pub exit: Exit,
    /// Why.
    pub reason: String,
}

/// How a run has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// As it should not have, or as it was told.
    Failed,
    /// Its host could not run it, which says nothing of the vm.
    Hindered,
    /// It was to run once, and has done so.
    Succeeded,
}

/// In place of a generation where a vm was told to stop.
const TOLD_TO_STOP: GenerationNumber = GenerationNumber(0);

impl Ended {
    fn as_told(epoch: Epoch) -> Self {
        Self::told(epoch, "it was told to stop")
    }

    /// Not a failure of the vm: it is placed anew at once.
    fn with_the_lease(epoch: Epoch) -> Self {
        Self::told(epoch, "the lease of its host was over")
    }

    fn told(epoch: Epoch, reason: &str) -> Self {
        Self { epoch, generation: TOLD_TO_STOP, exit: Exit::Failed, reason: reason.to_owned() }
    }

    /// A run that did not go well.
    #[must_use]
    pub fn failed(epoch: Epoch, generation: GenerationNumber, reason: String) -> Self {
        Self { epoch, generation, exit: Exit::Failed, reason }
    }

    /// A run that its host could not begin, for reasons of its own or of others.
    #[must_use]
    pub fn hindered(epoch: Epoch, generation: GenerationNumber, reason: String) -> Self {
        Self { epoch, generation, exit: Exit::Hindered, reason }
    }

    /// A daemon before this one has ended it, and what it was to say is not known any more.
    #[must_use]
    pub fn before(epoch: Epoch) -> Self {
        Self::told(epoch, "it was ended before the daemon began")
    }

    /// Whether it was made to end, by its servers or by the end of the host's lease.
    #[must_use]
    pub fn was_told(&self) -> bool {
        self.generation == TOLD_TO_STOP
    }

    fn last_word(&self) -> VmReport {
        match self.exit {
            _ if self.was_told() => VmReport::Stopped,
            Exit::Succeeded => VmReport::Succeeded { generation: self.generation },
            Exit::Failed => VmReport::Failed { generation: self.generation, reason: self.reason.clone() },
            Exit::Hindered => VmReport::Hindered { generation: self.generation, reason: self.reason.clone() },
        }
    }
}

/// A time in which a hypervisor ran without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ActiveSpell {
    /// Its process.
    pub main_pid: Option<u32>,
    /// systemd's count of restarts.
    pub restarts: u32,
    /// When it was first seen.
    pub since: BootMillis,
}

/// What the checks of a vm said last.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Checks {
    /// They were not asked in this spell.
    #[default]
    NotAsked,
    /// All passed.
    Passed,
    /// One did not.
    Failed {
        /// Why.
        reason: String,
        /// When.
        at: BootMillis,
    },
}

/// What to do about one vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Fetch the closure from other nodes, and root it.
    Fetch {
        /// The placement.
        epoch: Epoch,
        /// What to fetch.
        run: Box<RunIntent>,
    },
    /// Give the fetch up.
    CancelFetch,
    /// Make sure that a closure is there and rooted while the generation before it runs on.
    Prepare {
        /// The placement.
        epoch: Epoch,
        /// What is to run next.
        run: Box<RunIntent>,
        /// Whether what is not there is fetched: that it is missing has been said then.
        fetch: bool,
    },
    /// Make sure the closure is there and rooted, and start the unit.
    Start {
        /// The placement.
        epoch: Epoch,
        /// What to run.
        run: Box<RunIntent>,
    },
    /// Stop the unit until no process is left.
    Stop(StopCause),
    /// Ask the guest to shut down, give it its time, then stop the unit.
    Shutdown {
        /// How it is asked.
        ask: Box<GracefulStop>,
        /// Why it is stopped.
        cause: StopCause,
    },
    /// Run the checks.
    Probe(Box<RunIntent>),
    /// Remove the files of a vm that goes away.
    Discard {
        /// Its last placement, which is over.
        epoch: Epoch,
    },
    /// Remove a volume.
    DeleteVolume {
        /// Which.
        volume: VolumeName,
        /// The placement that it was made for.
        life: Epoch,
    },
    /// Tell the servers.
    Report {
        /// The placement.
        epoch: Epoch,
        /// What.
        report: VmReport,
    },
}

/// Why a unit is stopped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StopCause {
    /// No assignment speaks of it.
    Orphan,
    /// It runs at an epoch that is over.
    Withdrawn,
    /// Another generation or epoch should run.
    Replaced,
    /// It has ended by itself or is told to: make sure of it, and remember why.
    Ended(Ended),
}

/// The next step of every vm.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct HostPlan {
    /// What to do, at most one action for each vm.
    pub actions: BTreeMap<VmId, Action>,
    /// The vms whose preparations are for nothing, and given up.
    pub vain: BTreeSet<VmId>,
    /// When to plan again although nothing has changed.
    pub again_at: Option<BootMillis>,
}

/// Plans the next step of every vm that is granted or seen.
#[must_use]
pub fn plan(
    granted: &AssignmentSet,
    units: &BTreeMap<VmId, ObservedUnit>,
    memory: &BTreeMap<VmId, VmMemory>,
    now: BootMillis,
) -> HostPlan {
    let mut plan = HostPlan::default();
    let nothing = VmMemory::default();
    let granted_at_all = granted.assignments.keys().chain(granted.discarded.keys());
    let granted_at_all = granted_at_all.chain(granted.deleted_volumes.keys());
    for vm in granted_at_all.chain(units.keys()).collect::<BTreeSet<_>>() {
        let memory = memory.get(vm).unwrap_or(&nothing);
        if memory
            .preparation
            .as_ref()
            .is_some_and(|one| one.is_vain(granted.assignments.get(vm), units.get(vm)))
        {
            plan.vain.insert(vm.clone());
        }
        match memory.work {
            Work::Idle => {}
            Work::Busy => continue,
            Work::Fetching { epoch, generation } => {
                if !is_wanted(granted.assignments.get(vm), epoch, generation) {
                    plan.actions.insert(vm.clone(), Action::CancelFetch);
                }
                continue;
            }
        }
        let discard = granted.discarded.get(vm).filter(|_| !units.contains_key(vm));
        let step = match discard {
            Some(epoch) => self::discard(*epoch, memory),
            None => step(granted.assignments.get(vm), units.get(vm), memory, now),
        };
        let step = match (step, granted.deleted_volumes.get(vm)) {
            (Step::Wait(again), Some(volumes)) => delete_volumes(volumes, memory, again),
            (step, _) => step,
        };
        match step {
            Step::Do(action) => {
                plan.actions.insert(vm.clone(), action);
            }
            Step::Wait(Some(until)) => plan.again_at = Some(plan.again_at.map_or(until, |at| at.min(until))),
            Step::Wait(None) => {}
        }
    }
    plan
}

fn is_wanted(assignment: Option<&Assignment>, epoch: Epoch, generation: GenerationNumber) -> bool {
    assignment.is_some_and(|assignment| match &assignment.intent {
        Intent::Run(run) => assignment.epoch == epoch && run.generation == generation,
        Intent::Stop => false,
    })
}

enum Step {
    Do(Action),
    Wait(Option<BootMillis>),
}

/// No process of the vm is left, and none will come.
fn discard(epoch: Epoch, memory: &VmMemory) -> Step {
    if memory.discarded == Some(epoch) {
        report(memory, epoch, VmReport::FilesGone, None)
    } else {
        Step::Do(Action::Discard { epoch })
    }
}

/// Nothing of the vm that is here has these volumes.
fn delete_volumes(
    volumes: &BTreeMap<VolumeName, Epoch>,
    memory: &VmMemory,
    again: Option<BootMillis>,
) -> Step {
    for (volume, life) in volumes {
        if !memory.deleted.contains(&(volume.clone(), *life)) {
            return Step::Do(Action::DeleteVolume { volume: volume.clone(), life: *life });
        }
        let gone = VmReport::VolumeGone { volume: volume.clone() };
        if let Step::Do(action) = report(memory, *life, gone, None) {
            return Step::Do(action);
        }
    }
    Step::Wait(again)
}

fn step(
    assignment: Option<&Assignment>,
    unit: Option<&ObservedUnit>,
    memory: &VmMemory,
    now: BootMillis,
) -> Step {
    let Some(assignment) = assignment else {
        return unit.map_or(Step::Wait(None), |_| Step::Do(Action::Stop(StopCause::Orphan)));
    };
    let epoch = assignment.epoch;
    // Once this daemon has remembered an end it may have reported it, and what follows the epoch may run
    // elsewhere. Then the epoch is over for good, even if a grant made before says to run the vm.
    let ended = memory.ended.as_ref().filter(|ended| ended.epoch == epoch);
    match (&assignment.intent, unit, ended) {
        (_, Some(_), Some(_)) => Step::Do(Action::Stop(StopCause::Withdrawn)),
        (Intent::Stop, None, Some(_)) => report(memory, epoch, VmReport::Stopped, None),
        (Intent::Stop, _, None) => Step::Do(stop(epoch, unit, StopCause::Ended(Ended::as_told(epoch)))),
        (Intent::Run(_), None, Some(ended)) => report(memory, epoch, ended.last_word(), None),
        (Intent::Run(_), _, None) if memory.fenced == Some(epoch) => {
            Step::Do(Action::Stop(StopCause::Ended(Ended::with_the_lease(epoch))))
        }
        (Intent::Run(run), None, None) => absent(epoch, run, memory),
        (Intent::Run(run), Some(unit), None) => match (unit.epoch == Some(epoch), unit.generation) {
            (true, Some(generation)) if generation == run.generation => {
                present(epoch, run, unit, memory, now)
            }
            (true, Some(_)) if unit.is_up() => prepare::replace(epoch, run, unit, memory, now),
            _ => Step::Do(stop(epoch, Some(unit), StopCause::Replaced)),
        },
    }
}

/// Stops a vm: gracefully where the run is one of the epoch in force. A run of another epoch may go on
/// elsewhere by now, so it gets no time.
fn stop(epoch: Epoch, unit: Option<&ObservedUnit>, cause: StopCause) -> Action {
    match unit.filter(|unit| unit.epoch == Some(epoch)).and_then(graceful_stop) {
        Some(ask) => Action::Shutdown { ask: Box::new(ask), cause },
        None => Action::Stop(cause),
    }
}

/// The vm should run and has no unit: it was never started here, or it has vanished.
fn absent(epoch: Epoch, run: &RunIntent, memory: &VmMemory) -> Step {
    let ours = |started: Started| started.epoch == epoch && started.generation == run.generation;
    if memory.running.is_some_and(ours) {
        let reason = "its unit has ended, and systemd does not start it again".to_owned();
        let ended = Ended::failed(epoch, run.generation, reason);
        return Step::Do(Action::Stop(StopCause::Ended(ended)));
    }
    if memory.lacking == Some((epoch, run.generation)) {
        let fetching = VmReport::Fetching { generation: run.generation };
        return match report(memory, epoch, fetching, None) {
            Step::Wait(_) => Step::Do(Action::Fetch { epoch, run: Box::new(run.clone()) }),
            Step::Do(action) => Step::Do(action),
        };
    }
    // The log says that it is being started before any process of it exists.
    let starting = VmReport::Starting { generation: run.generation };
    match report(memory, epoch, starting, None) {
        Step::Wait(_) => Step::Do(Action::Start { epoch, run: Box::new(run.clone()) }),
        Step::Do(action) => Step::Do(action),
    }
}

/// The right unit is there: report how it does.
fn present(epoch: Epoch, run: &RunIntent, unit: &ObservedUnit, memory: &VmMemory, now: BootMillis) -> Step {
    let generation = run.generation;
    match &unit.state {
        UnitState::Ended { result } => {
            let reason = format!("its unit has ended with `{result}`");
            Step::Do(Action::Stop(StopCause::Ended(Ended::failed(epoch, generation, reason))))
        }
        UnitState::Completed => {
            let (exit, reason) = (Exit::Succeeded, "it has run to its end".to_owned());
            Step::Do(Action::Stop(StopCause::Ended(Ended { epoch, generation, exit, reason })))
        }
        UnitState::Deactivating => Step::Wait(None),
        UnitState::Activating | UnitState::Active => {
            let health = health(run, unit, memory, now);
            match health {
                Health::Known(health, again) => {
                    report(memory, epoch, VmReport::Running { generation, health }, again)
                }
                Health::AskChecks => Step::Do(Action::Probe(Box::new(run.clone()))),
            }
        }
    }
}

/// Reports what the servers do not know yet.
fn report(memory: &VmMemory, epoch: Epoch, report: VmReport, again: Option<BootMillis>) -> Step {
    let known = memory.acknowledged.as_ref().is_some_and(|(at, what)| *at == epoch && *what == report);
    if known { Step::Wait(again) } else { Step::Do(Action::Report { epoch, report }) }
}

/// The generations whose roots the host may drop: neither kept nor running.
#[must_use]
pub fn stale_generations(
    rooted: &BTreeSet<(VmId, GenerationNumber)>,
    granted: &AssignmentSet,
    units: &BTreeMap<VmId, ObservedUnit>,
    memory: &BTreeMap<VmId, VmMemory>,
) -> Vec<(VmId, GenerationNumber)> {
    let kept = |(vm, generation): &&(VmId, GenerationNumber)| {
        let retained = granted.retained.get(vm).is_some_and(|kept| kept.contains(generation));
        let runs = units.get(vm).is_some_and(|unit| unit.generation.is_none_or(|runs| runs == *generation));
        // Work may end in another generation than the unit's.
        retained || runs || memory.get(vm).is_some_and(VmMemory::is_busy)
    };
    rooted.iter().filter(|root| !kept(root)).cloned().collect()
}

/// The vms that have left the host for good, of those that have a directory of their own there.
#[must_use]
pub fn forsaken(
    homes: &BTreeSet<VmId>,
    granted: &AssignmentSet,
    units: &BTreeMap<VmId, ObservedUnit>,
    memory: &BTreeMap<VmId, VmMemory>,
) -> BTreeSet<VmId> {
    let belongs = |vm: &&VmId| {
        let granted = granted.retained.contains_key(*vm) || granted.assignments.contains_key(*vm);
        let busy = memory.get(*vm).is_some_and(VmMemory::is_busy);
        granted || units.contains_key(*vm) || busy
    };
    homes.iter().filter(|vm| !belongs(vm)).cloned().collect()
}

#[cfg(test)]
mod tests;
