//! A service manager in memory.
//!
//! Owns: units as data, what programs do, the count of restarts. Refuses to know: time; a restart
//! comes at once, and a start limit counts all starts, whatever its window.
//!
//! ```text
//! start ─▶ Active ─ exit ─▶ restart allowed? ─ yes ─▶ Active, restarts + 1
//!            │                      ├─ no ─▶ gone, as with CollectMode=inactive-or-failed
//!            │                      └─ never ─▶ Completed or Ended, until it is stopped
//!            └─ stop ─▶ gone
//! ```

pub mod contract;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::units::{
    Asked, GracefulStop, ObservedUnit, RestartPolicy, TransientUnit, UnitChange, UnitError, UnitManager,
    UnitState,
};
use blixard_core::ports::{BoxFuture, BoxStream};
use blixard_core::unit::{ENV_EPOCH, ENV_GENERATION};
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, VmId};
use futures_util::stream;
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

/// Changes that a slow reader may be behind before it gets one [`UnitChange::Any`] instead.
const CHANGES_KEPT: usize = 1024;

/// What happens when a program is executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FakeProgram {
    /// It runs until it is stopped.
    #[default]
    Runs,
    /// It starts and exits with an error, each time.
    Fails,
    /// It starts and exits with status 0, each time.
    Completes,
    /// There is no such program.
    Missing,
}

/// What a test may let fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Operation {
    /// [`UnitManager::start`].
    Start,
    /// [`UnitManager::stop`].
    Stop,
    /// [`UnitManager::shutdown`].
    Shutdown,
    /// [`UnitManager::observe`].
    Observe,
}

/// A call that changes something, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UnitCall {
    /// A start was asked for.
    Start(Box<TransientUnit>),
    /// A stop was asked for.
    Stop(RunUnitName),
    /// A guest was asked to shut down.
    Shutdown(Box<GracefulStop>),
}

/// Units in memory. Clones are handles to the same units.
#[derive(Debug, Clone)]
pub struct FakeUnits {
    state: Arc<Mutex<State>>,
    changes: broadcast::Sender<UnitChange>,
}

#[derive(Debug, Default)]
struct State {
    units: BTreeMap<VmId, Unit>,
    programs: BTreeMap<String, FakeProgram>,
    stubborn: BTreeMap<VmId, String>,
    failures: VecDeque<(Operation, UnitError)>,
    calls: Vec<UnitCall>,
    pids: u32,
}

#[derive(Debug)]
struct Unit {
    restart: RestartPolicy,
    seen: ObservedUnit,
}

impl Default for FakeUnits {
    fn default() -> Self {
        Self::new()
    }
}

impl FakeUnits {
    /// No units; every program runs.
    #[must_use]
    pub fn new() -> Self {
        Self { state: Arc::default(), changes: broadcast::channel(CHANGES_KEPT).0 }
    }

    /// What this program does from now on.
    pub fn program(&self, path: &str, does: FakeProgram) {
        self.state().programs.insert(path.to_owned(), does);
    }

    /// The guest of this vm does not shut down when it is asked; all others do.
    pub fn never_shuts_down(&self, vm: &VmId, reason: &str) {
        self.state().stubborn.insert(vm.clone(), reason.to_owned());
    }

    /// A unit that is there already, as a restarted daemon finds it. It is not restarted.
    pub fn adopt(&self, unit: ObservedUnit) {
        let vm = unit.vm.clone();
        let adopted = Unit { restart: RestartPolicy::Never, seen: unit };
        self.state().units.insert(vm.clone(), adopted);
        self.emit(UnitChange::Unit(vm));
    }

    /// The program of a vm's unit exits with an error; its restart policy decides what follows.
    pub fn exit(&self, vm: &VmId) {
        self.state().exit(vm, &ended());
        self.emit(UnitChange::Unit(vm.clone()));
    }

    /// The next operation of this kind does nothing but fail. Failures queue up.
    pub fn fail_next(&self, operation: Operation, error: UnitError) {
        self.state().failures.push_back((operation, error));
    }

    /// Tells all listeners that signals were lost.
    pub fn lose_signals(&self) {
        self.emit(UnitChange::Any);
    }

    /// All starts and stops so far, oldest first, those that failed included.
    pub fn calls(&self) -> Vec<UnitCall> {
        self.state().calls.clone()
    }

    /// The unit of a vm, if it is loaded.
    pub fn unit(&self, vm: &VmId) -> Option<ObservedUnit> {
        self.state().units.get(vm).map(|unit| unit.seen.clone())
    }

    fn emit(&self, change: UnitChange) {
        // An error says that nobody listens.
        let _ = self.changes.send(change);
    }

    /// A test that panics elsewhere has failed already; the state is data in any case.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn start_unit(&self, unit: &TransientUnit) -> Result<(), UnitError> {
        let vm = vm_of(&unit.name, "start")?;
        let result = {
            let mut state = self.state();
            state.calls.push(UnitCall::Start(Box::new(unit.clone())));
            state.injected(Operation::Start)?;
            state.start(&vm, unit)
        };
        self.emit(UnitChange::Unit(vm));
        result
    }

    fn stop_unit(&self, unit: RunUnitName) -> Result<(), UnitError> {
        let vm = vm_of(&unit, "stop")?;
        let was_loaded = {
            let mut state = self.state();
            state.calls.push(UnitCall::Stop(unit));
            state.injected(Operation::Stop)?;
            state.units.remove(&vm).is_some()
        };
        if was_loaded {
            self.emit(UnitChange::Unit(vm));
        }
        Ok(())
    }

    /// As systemd does it, the program of a guest that has shut down is started again by its policy.
    fn ask(&self, order: GracefulStop) -> Result<Asked, UnitError> {
        let vm = vm_of(&order.run, "shutdown")?;
        let asked = {
            let mut state = self.state();
            let runs = state.units.get(&vm).is_some_and(|unit| unit.seen.main_pid == Some(order.main_pid));
            state.calls.push(UnitCall::Shutdown(Box::new(order)));
            state.injected(Operation::Shutdown)?;
            if let Some(reason) = state.stubborn.get(&vm).cloned().filter(|_| runs) {
                Asked::Runs { reason }
            } else {
                if runs {
                    state.exit(&vm, &UnitState::Completed);
                }
                Asked::Ended
            }
        };
        self.emit(UnitChange::Unit(vm));
        Ok(asked)
    }

    fn observe_units(&self) -> Result<Vec<ObservedUnit>, UnitError> {
        let mut state = self.state();
        state.injected(Operation::Observe)?;
        Ok(state.units.values().map(|unit| unit.seen.clone()).collect())
    }
}

impl State {
    fn injected(&mut self, operation: Operation) -> Result<(), UnitError> {
        let at = self.failures.iter().position(|(which, _)| *which == operation);
        match at.and_then(|at| self.failures.remove(at)) {
            Some((_, error)) => Err(error),
            None => Ok(()),
        }
    }

    fn start(&mut self, vm: &VmId, unit: &TransientUnit) -> Result<(), UnitError> {
        let refused = |reason: &str| UnitError::Refused {
            action: "start",
            unit: unit.name.to_string(),
            reason: reason.to_owned(),
        };
        if self.units.contains_key(vm) {
            return Err(refused("a unit of that name is loaded"));
        }
        let program = unit.argv.first().ok_or_else(|| refused("it has no program"))?;
        let does = self.programs.get(program).copied().unwrap_or_default();
        if does == FakeProgram::Missing {
            return Err(UnitError::Job {
                action: "start",
                unit: unit.name.to_string(),
                result: "failed".to_owned(),
            });
        }
        let pid = self.pid();
        let started = Unit { restart: unit.restart, seen: observed(vm, unit, pid) };
        self.units.insert(vm.clone(), started);
        let how = if does == FakeProgram::Completes { UnitState::Completed } else { ended() };
        let ends = matches!(does, FakeProgram::Fails | FakeProgram::Completes);
        while ends && self.units.get(vm).is_some_and(|unit| unit.seen.state == UnitState::Active) {
            self.exit(vm, &how);
        }
        Ok(())
    }

    fn exit(&mut self, vm: &VmId, how: &UnitState) {
        let pid = self.pid();
        let Some(unit) = self.units.get_mut(vm) else {
            return;
        };
        match unit.restart {
            RestartPolicy::Always { burst, .. } if unit.seen.restarts + 1 < burst => {
                unit.seen.restarts += 1;
                unit.seen.state = UnitState::Active;
                unit.seen.main_pid = Some(pid);
            }
            RestartPolicy::Always { .. } => {
                self.units.remove(vm);
            }
            RestartPolicy::Never => {
                unit.seen.state = how.clone();
                unit.seen.main_pid = None;
            }
        }
    }

    fn pid(&mut self) -> u32 {
        self.pids += 1;
        self.pids
    }
}

impl UnitManager for FakeUnits {
    fn start(&self, unit: TransientUnit) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async move { self.start_unit(&unit) })
    }

    fn stop(&self, unit: RunUnitName) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async move { self.stop_unit(unit) })
    }

    fn shutdown(&self, order: GracefulStop) -> BoxFuture<'_, Result<Asked, UnitError>> {
        Box::pin(async move { self.ask(order) })
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(async move { self.observe_units() })
    }

    fn look(&self, vms: BTreeSet<VmId>) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(async move {
            let units = self.observe_units()?;
            Ok(units.into_iter().filter(|unit| vms.contains(&unit.vm)).collect())
        })
    }

    fn changes(&self) -> BoxStream<'static, UnitChange> {
        Box::pin(stream::unfold(self.changes.subscribe(), |mut changes| async move {
            match changes.recv().await {
                Ok(change) => Some((change, changes)),
                Err(RecvError::Lagged(_)) => Some((UnitChange::Any, changes)),
                Err(RecvError::Closed) => None,
            }
        }))
    }
}

fn ended() -> UnitState {
    UnitState::Ended { result: "exit-code".to_owned() }
}

fn vm_of(unit: &RunUnitName, action: &'static str) -> Result<VmId, UnitError> {
    RunUnitName::vm(unit.as_str()).ok_or_else(|| UnitError::Refused {
        action,
        unit: unit.to_string(),
        reason: "it is not the run unit of a vm".to_owned(),
    })
}

fn observed(vm: &VmId, unit: &TransientUnit, pid: u32) -> ObservedUnit {
    let number = |name: &str| unit.environment.get(name)?.parse().ok();
    ObservedUnit {
        vm: vm.clone(),
        epoch: number(ENV_EPOCH).map(Epoch),
        generation: number(ENV_GENERATION).map(GenerationNumber),
        state: UnitState::Active,
        restarts: 0,
        main_pid: Some(pid),
        environment: unit.environment.clone(),
    }
}

#[cfg(test)]
mod tests;
