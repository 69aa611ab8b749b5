//! A host that executes the plan as `blixard-host` does.

use std::collections::VecDeque;

use super::super::super::*;
use super::super::gone;

#[derive(Debug, Default)]
pub(super) struct Host {
    pub(super) starts: u64,
    pub(super) held: Option<AssignmentSet>,
    pub(super) mail: VecDeque<AssignmentSet>,
    /// What is there, and what was seen of it last.
    pub(super) units: BTreeMap<VmId, ObservedUnit>,
    view: Option<BTreeMap<VmId, ObservedUnit>>,
    pub(super) memory: BTreeMap<VmId, VmMemory>,
    /// Operations in flight, and those that wait for an observation.
    work: BTreeMap<VmId, Action>,
    /// What is prepared beside them, and whether it is fetched.
    preparing: BTreeMap<VmId, bool>,
    finished: BTreeSet<VmId>,
    pub(super) open: BTreeMap<VmId, (Epoch, VmReport)>,
    /// The epochs that this daemon has said to be over.
    over: BTreeSet<(VmId, Epoch)>,
    pid: u32,
}

impl Host {
    /// A host whose first daemon has just started.
    pub(super) fn new() -> Self {
        Self { starts: 1, ..Self::default() }
    }

    pub(super) fn observe(&mut self, now: u64) {
        let now = BootMillis(now);
        self.view = Some(self.units.clone());
        for (vm, unit) in &self.units {
            let memory = self.memory.entry(vm.clone()).or_default();
            let (epoch, generation) = (unit.epoch.unwrap(), unit.generation.unwrap());
            if memory.running.is_none_or(|known| (known.epoch, known.generation) != (epoch, generation)) {
                memory.running = Some(Started { epoch, generation, at: now });
            }
            let spell = ActiveSpell { main_pid: unit.main_pid, restarts: unit.restarts, since: now };
            let same = |known: &ActiveSpell| ActiveSpell { since: now, ..*known } == spell;
            if unit.state != UnitState::Active {
                (memory.active, memory.checks) = (None, Checks::NotAsked);
            } else if !memory.active.as_ref().is_some_and(same) {
                (memory.active, memory.checks) = (Some(spell), Checks::NotAsked);
            }
        }
        for vm in std::mem::take(&mut self.finished) {
            self.memory.entry(vm).or_default().work = Work::Idle;
        }
    }

    /// Begins what is planned; gives the reports to send.
    pub(super) fn plan(&mut self, now: u64) -> Vec<(VmId, Epoch, VmReport)> {
        let (Some(held), Some(view)) = (&self.held, &self.view) else { return Vec::new() };
        let plan = super::super::plan(held, view, &self.memory, BootMillis(now));
        let busy = |memory: &VmMemory| memory.work == Work::Busy;
        self.memory.retain(|vm, memory| memory.is_busy() || view.contains_key(vm) || held.speaks_of(vm));
        let mut reports = Vec::new();
        for vm in plan.vain {
            self.preparing.remove(&vm);
            self.memory.entry(vm).or_default().preparation = None;
        }
        for (vm, action) in plan.actions {
            let memory = self.memory.entry(vm.clone()).or_default();
            if let Action::Prepare { epoch, run, fetch } = action {
                let generation = run.generation;
                memory.preparation = Some(Preparation { epoch, generation, outcome: None });
                assert!(self.preparing.insert(vm.clone(), fetch).is_none(), "{vm} is prepared twice");
                continue;
            }
            assert!(!busy(memory), "{vm} is busy: {action:?}");
            memory.work = Work::Busy;
            match action {
                Action::Report { epoch, report } => {
                    if matches!(
                        report,
                        VmReport::Stopped | VmReport::Failed { .. } | VmReport::Hindered { .. }
                    ) {
                        self.over.insert((vm.clone(), epoch));
                    }
                    self.open.insert(vm.clone(), (epoch, report.clone()));
                    reports.push((vm, epoch, report));
                }
                Action::Start { epoch, .. } => {
                    assert!(!self.over.contains(&(vm.clone(), epoch)), "{vm} at {epoch} is over");
                    self.work.insert(vm, action);
                }
                // A guest that is asked and one that is not are gone alike.
                Action::Shutdown { cause, .. } => drop(self.work.insert(vm, Action::Stop(cause))),
                Action::Stop(_)
                | Action::Probe(_)
                | Action::Discard { .. }
                | Action::DeleteVolume { .. }
                | Action::Fetch { .. } => {
                    self.work.insert(vm, action);
                }
                Action::Prepare { .. } => unreachable!("it is begun above"),
                Action::CancelFetch => panic!("{vm}: nothing is fetched here beside what is busy"),
            }
        }
        reports
    }

    /// Every other successor is not in the store, and some fetches fail.
    fn prepared(&mut self, vm: &VmId, good: bool, now: u64) {
        let Some(fetch) = self.preparing.remove(vm) else { return };
        let memory = self.memory.entry(vm.clone()).or_default();
        let preparation = memory.preparation.as_mut().expect("it is under way");
        let lacks = preparation.generation.0 % 2 == 1 && !fetch;
        preparation.outcome = Some(match (lacks, good) {
            (true, _) => Prepared::Lacking,
            (false, true) => Prepared::Ready,
            (false, false) => Prepared::Failed { reason: "away".to_owned(), at: BootMillis(now) },
        });
    }

    pub(super) fn finish(&mut self, vm: &VmId, good: bool, now: u64) {
        self.prepared(vm, good, now);
        let Some(action) = self.work.remove(vm) else { return };
        self.take_effect(vm, &action, good);
        let at = BootMillis(now);
        let memory = self.memory.entry(vm.clone()).or_default();
        match action {
            Action::Start { epoch, run } if good => {
                memory.running = Some(Started { epoch, generation: run.generation, at });
            }
            // Every other epoch finds that its closure is not there.
            Action::Start { epoch, run } if epoch.0 % 2 == 1 && memory.lacking.is_none() => {
                memory.lacking = Some((epoch, run.generation));
            }
            Action::Fetch { .. } if good => memory.lacking = None,
            Action::Start { epoch, run } => {
                memory.lacking = None;
                let reason = "it could not be started".to_owned();
                memory.ended = Some(Ended::failed(epoch, run.generation, reason));
            }
            Action::Fetch { epoch, run } => {
                memory.lacking = None;
                let reason = "nobody has it".to_owned();
                memory.ended = Some(Ended::hindered(epoch, run.generation, reason));
            }
            Action::Stop(cause) if good => {
                memory.running = None;
                if let StopCause::Ended(ended) = cause {
                    memory.ended = Some(ended);
                }
            }
            Action::Probe(_) => {
                let reason = "refused".to_owned();
                memory.checks = if good { Checks::Passed } else { Checks::Failed { reason, at } };
            }
            Action::Discard { epoch } => memory.discarded = Some(epoch).filter(|_| good),
            Action::DeleteVolume { volume, life } => {
                if good {
                    memory.deleted.insert((volume, life));
                }
            }
            Action::Shutdown { .. }
            | Action::Stop(_)
            | Action::Report { .. }
            | Action::Prepare { .. }
            | Action::CancelFetch => {}
        }
        self.finished.insert(vm.clone());
    }

    /// What systemd has done by the time an operation is over.
    fn take_effect(&mut self, vm: &VmId, action: &Action, good: bool) {
        match action {
            Action::Start { epoch, run } if good => {
                self.pid += 1;
                let unit = ObservedUnit {
                    vm: vm.clone(),
                    epoch: Some(*epoch),
                    generation: Some(run.generation),
                    state: UnitState::Active,
                    restarts: 0,
                    main_pid: Some(self.pid),
                    environment: BTreeMap::new(),
                };
                assert_eq!(self.units.insert(vm.clone(), unit), None, "{vm} runs already");
            }
            Action::Stop(_) if good => drop(self.units.remove(vm)),
            _ => {}
        }
    }

    pub(super) fn hang_up(&mut self) {
        self.mail.clear();
        for (vm, _) in std::mem::take(&mut self.open) {
            self.memory.entry(vm).or_default().work = Work::Idle;
        }
    }

    /// A new daemon knows nothing; what the old one had begun is done or is not.
    pub(super) fn restart(&mut self, done: bool) {
        for (vm, action) in std::mem::take(&mut self.work) {
            self.take_effect(&vm, &action, done);
        }
        let (starts, pid) = (self.starts + 1, self.pid);
        *self = Self { starts, pid, units: std::mem::take(&mut self.units), ..Self::default() };
    }

    pub(super) fn unit_ends(&mut self, vm: &VmId, how: usize) {
        let Some(unit) = self.units.get_mut(vm) else { return };
        match how {
            0 => {
                self.pid += 1;
                (unit.restarts, unit.main_pid) = (unit.restarts + 1, Some(self.pid));
            }
            1 => unit.state = gone(),
            _ => drop(self.units.remove(vm)),
        }
    }
}
