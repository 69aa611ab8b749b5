//! PID 1 of a simulated machine: it does what it is asked, later.
//!
//! Owns: when. A start that was asked for may be carried out long after its daemon is gone, and what it executes looks
//! first whether it still may, as `blixard-lease run` does.

use std::path::Path;
use std::time::Duration;

use blixard_core::ports::units::{
    Asked, GracefulStop, ObservedUnit, TransientUnit, UnitChange, UnitError, UnitManager,
};
use blixard_core::ports::{BoxFuture, BoxStream};
use blixard_core::unit::{ENV_EPOCH, ENV_GENERATION};
use blixard_testkit::fake::units::FakeProgram;
use blixard_types::holder::{EPOCHS_LEASED, StartUnder};
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, VmId};
use futures_util::FutureExt as _;
use tokio::sync::oneshot;

use super::{Executed, Ground, State};
use crate::shape::BrokenRule;

type Reply<T> = oneshot::Sender<Result<T, UnitError>>;

/// Something that PID 1 was asked.
pub(super) struct Job {
    due: Duration,
    work: Work,
}

enum Work {
    Start(Box<TransientUnit>, Reply<()>),
    Stop(RunUnitName, Reply<()>),
    Shutdown(Box<GracefulStop>, Reply<Asked>),
}

impl Job {
    fn stops(&self, vm: &VmId) -> bool {
        matches!(&self.work, Work::Stop(unit, _) if RunUnitName::vm(unit.as_str()).as_ref() == Some(vm))
    }
}

/// The service manager, as an agent speaks to it.
pub(crate) struct Systemd(pub(crate) Ground);

impl Systemd {
    /// Asks, and waits for what comes of it; for ever, if the machine is gone by then.
    async fn ask<T>(&self, delay: Duration, work: impl FnOnce(Reply<T>) -> Work) -> Result<T, UnitError> {
        let (reply, answer) = oneshot::channel();
        let due = self.0.0.now.get() + delay;
        self.0.state().jobs.push(Job { due, work: work(reply) });
        match answer.await {
            Ok(done) => done,
            Err(_) => std::future::pending().await,
        }
    }

    /// Mostly at once; now and then PID 1 has much else to do, and more often where something is broken that shows
    /// when it is late.
    fn delay(&self, most: u64) -> Duration {
        let dice = &self.0.0.dice;
        let late = match self.0.state().broken {
            Some(BrokenRule::StopsTooEarly | BrokenRule::StartsWhatIsOver) => 400,
            _ => 80,
        };
        if dice.chance(late) { dice.millis(100, most) } else { dice.millis(1, 40) }
    }
}

impl UnitManager for Systemd {
    fn start(&self, unit: TransientUnit) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(self.ask(self.delay(6000), |reply| Work::Start(Box::new(unit), reply)))
    }

    fn stop(&self, unit: RunUnitName) -> BoxFuture<'_, Result<(), UnitError>> {
        Box::pin(async move {
            let gone = self.ask(self.delay(3000), |reply| Work::Stop(unit, reply));
            if self.0.stops_too_early() {
                // Asked, and not waited for.
                return gone.now_or_never().unwrap_or(Ok(()));
            }
            gone.await
        })
    }

    fn shutdown(&self, order: GracefulStop) -> BoxFuture<'_, Result<Asked, UnitError>> {
        Box::pin(self.ask(self.delay(2000), |reply| Work::Shutdown(Box::new(order), reply)))
    }

    fn observe(&self) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(async move {
            tokio::time::sleep(self.0.0.dice.millis(0, 3)).await;
            let units = self.0.state().units.clone();
            let mut units = units.observe().await?;
            if self.0.stops_too_early() {
                let state = self.0.state();
                units.retain(|unit| !state.jobs.iter().any(|job| job.stops(&unit.vm)));
            }
            Ok(units)
        })
    }

    fn look(
        &self,
        vms: std::collections::BTreeSet<VmId>,
    ) -> BoxFuture<'_, Result<Vec<ObservedUnit>, UnitError>> {
        Box::pin(async move {
            let units = self.observe().await?;
            Ok(units.into_iter().filter(|unit| vms.contains(&unit.vm)).collect())
        })
    }

    fn changes(&self) -> BoxStream<'static, UnitChange> {
        self.0.state().units.changes()
    }
}

impl Ground {
    fn stops_too_early(&self) -> bool {
        self.state().broken == Some(BrokenRule::StopsTooEarly)
    }

    /// Does what is due.
    pub(super) fn work_off(&self, now: Duration) -> Vec<Executed> {
        let mut state = self.state();
        let (mut due, later): (Vec<_>, Vec<_>) = state.jobs.drain(..).partition(|job| job.due <= now);
        state.jobs = later;
        due.sort_by_key(|job| job.due);
        let mut executed = Vec::new();
        for job in due {
            // Who asked may be gone.
            match job.work {
                Work::Start(unit, reply) => drop(reply.send(state.execute(*unit, &mut executed))),
                Work::Stop(unit, reply) => {
                    drop(reply.send(at_once(state.units.stop(unit))));
                }
                Work::Shutdown(order, reply) => {
                    drop(reply.send(at_once(state.units.shutdown(*order))));
                }
            }
        }
        executed
    }
}

/// The fake's operations take no time.
fn at_once<T>(operation: BoxFuture<'_, Result<T, UnitError>>) -> Result<T, UnitError> {
    operation.now_or_never().unwrap_or_else(|| {
        let (action, result) = ("ask", "the fake has waited".to_owned());
        Err(UnitError::Job { action, unit: String::new(), result })
    })
}

impl State {
    /// Starts a unit, whose program ends at once where it may not run any more.
    fn execute(&self, unit: TransientUnit, executed: &mut Vec<Executed>) -> Result<(), UnitError> {
        let may = self.may_start(&unit.argv);
        if let Some(program) = unit.argv.first() {
            self.units.program(program, if may { FakeProgram::Runs } else { FakeProgram::Fails });
        }
        let number = |name: &str| unit.environment.get(name)?.parse().ok();
        let run = RunUnitName::vm(unit.name.as_str()).zip(number(ENV_EPOCH)).zip(number(ENV_GENERATION));
        at_once(self.units.start(unit))?;
        if let Some(((vm, epoch), generation)) = run.filter(|_| may) {
            executed.push(Executed { vm, epoch: Epoch(epoch), generation: GenerationNumber(generation) });
        }
        Ok(())
    }

    /// As `blixard-lease run` looks, which is what is executed.
    fn may_start(&self, argv: &[String]) -> bool {
        let [_, _, under, mark, epoch, ..] = argv else { return false };
        let (Ok(under), Ok(epoch)) = (under.parse::<StartUnder>(), epoch.parse::<u64>()) else {
            return false;
        };
        let mark = Path::new(mark);
        let over = match std::fs::read_to_string(mark) {
            Ok(text) => text.trim_end().parse().unwrap_or(u64::MAX),
            // Epochs begin with 1.
            Err(_) => 0,
        };
        if epoch <= over && self.broken != Some(BrokenRule::StartsWhatIsOver) {
            return false;
        }
        match under {
            StartUnder::Lease(lease) => self.holder.held().is_some_and(|(held, _)| held == lease),
            StartUnder::Kept => true,
            StartUnder::Alone => !mark.with_file_name(EPOCHS_LEASED).exists(),
        }
    }
}
