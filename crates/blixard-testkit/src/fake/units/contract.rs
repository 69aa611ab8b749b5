//! What every [`UnitManager`] must do, as one sequence that the fake and the real one both pass.
//!
//! Owns: the promises of the port. Refuses to know: whose they are; programs and directories come
//! as parameters. A check waits for changes and never sleeps; [`PATIENCE`] only bounds a failure.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blixard_core::ports::BoxStream;
use blixard_core::ports::units::{
    ObservedUnit, Readiness, RestartPolicy, TransientUnit, UnitChange, UnitError, UnitManager, UnitState,
};
use blixard_core::unit::{ENV_EPOCH, ENV_GENERATION};
use blixard_types::unit::RunUnitName;
use blixard_types::{Epoch, GenerationNumber, VmId};
use futures_util::StreamExt;

/// How long a change may take to come.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Where the contract's units live and what they execute.
#[derive(Debug, Clone)]
pub struct Ground {
    /// The directory below which working directories are made, absolute. Not below `/tmp`, of which
    /// each unit has its own.
    pub state_dir: String,
    /// The directory below which runtime directories are made, below `/run`.
    pub runtime_dir: String,
    /// A program, with arguments, that runs until it is killed.
    pub runs: Vec<String>,
    /// A program, with arguments, that exits with an error at once.
    pub fails: Vec<String>,
    /// A program, with arguments, that exits with status 0 at once.
    pub completes: Vec<String>,
    /// The path of no program.
    pub missing: Vec<String>,
}

impl Ground {
    /// A unit for this vm that executes `argv`, at epoch 3 and generation 7, never restarted.
    pub fn unit(&self, vm: &VmId, argv: &[String]) -> TransientUnit {
        TransientUnit {
            name: RunUnitName::of(vm),
            description: format!("contract of units: {vm}"),
            slice: "blixard-contract.slice".to_owned(),
            account: None,
            argv: argv.to_vec(),
            environment: BTreeMap::from([
                (ENV_EPOCH.to_owned(), "3".to_owned()),
                (ENV_GENERATION.to_owned(), "7".to_owned()),
            ]),
            working_directory: format!("{}/{vm}", self.state_dir),
            runtime_directory: format!("{}/{vm}", self.runtime_dir),
            readiness: Readiness::Executed,
            start_timeout_ms: 10_000,
            stop_timeout_ms: 2_000,
            restart: RestartPolicy::Never,
            memory_max: 64 << 20,
            tasks_max: 16,
            devices: vec!["/dev/kvm".to_owned()],
            writable: Vec::new(),
            credentials: Vec::new(),
            bound_to: None,
            before: "blixard-drain.service",
        }
    }
}

/// Checks all promises, one after another, on units of the tenant `contract`.
pub async fn unit_manager_contract(manager: &dyn UnitManager, ground: &Ground) -> Result<()> {
    let contract = Contract { manager, ground };
    contract
        .a_started_unit_is_seen_with_its_placement()
        .await
        .context("a started unit is seen with its placement")?;
    contract
        .a_unit_that_runs_is_not_started_again()
        .await
        .context("a unit that runs is not started again")?;
    contract
        .a_stopped_unit_is_gone_and_can_be_started_again()
        .await
        .context("a stopped unit is gone and can be started again")?;
    contract
        .stopping_what_is_not_loaded_is_no_error()
        .await
        .context("stopping what is not loaded is no error")?;
    contract
        .starts_and_stops_are_announced_to_everyone()
        .await
        .context("starts and stops are announced to everyone")?;
    contract.a_program_that_fails_ends_its_unit().await.context("a program that fails ends its unit")?;
    contract
        .how_a_program_that_runs_once_has_ended_is_seen_until_it_is_stopped()
        .await
        .context("how a program that runs once has ended is seen until it is stopped")?;
    contract
        .a_program_that_is_missing_leaves_nothing()
        .await
        .context("a program that is missing leaves nothing")
}

struct Contract<'a> {
    manager: &'a dyn UnitManager,
    ground: &'a Ground,
}

impl Contract<'_> {
    async fn a_started_unit_is_seen_with_its_placement(&self) -> Result<()> {
        let vm = vm("seen-1")?;
        self.start(&vm, &self.ground.runs).await?;
        let unit = self.seen(&vm).await?.context("it is not observed")?;
        ensure!(unit.state == UnitState::Active, "{unit:?}");
        ensure!(unit.epoch == Some(Epoch(3)), "{unit:?}");
        ensure!(unit.generation == Some(GenerationNumber(7)), "{unit:?}");
        ensure!(unit.restarts == 0 && unit.main_pid.is_some(), "{unit:?}");
        self.stop(&vm).await
    }

    async fn a_unit_that_runs_is_not_started_again(&self) -> Result<()> {
        let vm = vm("twice")?;
        self.start(&vm, &self.ground.runs).await?;
        let before = self.seen(&vm).await?;
        let again = self.start(&vm, &self.ground.runs).await;
        let refused = again
            .as_ref()
            .is_err_and(|error| matches!(error.downcast_ref(), Some(UnitError::Refused { .. })));
        ensure!(refused, "the second start gave {again:?}");
        ensure!(self.seen(&vm).await? == before, "the first is not as it was");
        self.stop(&vm).await
    }

    async fn a_stopped_unit_is_gone_and_can_be_started_again(&self) -> Result<()> {
        let vm = vm("again")?;
        for _ in 0..3 {
            self.start(&vm, &self.ground.runs).await?;
            self.stop(&vm).await?;
            let left = self.seen(&vm).await?;
            ensure!(left.is_none(), "{left:?} is left");
        }
        Ok(())
    }

    async fn stopping_what_is_not_loaded_is_no_error(&self) -> Result<()> {
        self.stop(&vm("nobody")?).await
    }

    async fn starts_and_stops_are_announced_to_everyone(&self) -> Result<()> {
        let vm = vm("announced")?;
        let mut listeners = [self.manager.changes(), self.manager.changes()];
        self.start(&vm, &self.ground.runs).await?;
        for changes in &mut listeners {
            let active =
                |unit: Option<&ObservedUnit>| unit.is_some_and(|unit| unit.state == UnitState::Active);
            self.until(changes, &vm, active).await?;
        }
        self.stop(&vm).await?;
        for changes in &mut listeners {
            self.until(changes, &vm, |unit| unit.is_none()).await?;
        }
        Ok(())
    }

    async fn a_program_that_fails_ends_its_unit(&self) -> Result<()> {
        let vm = vm("fails")?;
        let mut changes = self.manager.changes();
        match self.start(&vm, &self.ground.fails).await {
            Ok(()) => {}
            // It may exit before it counts as started.
            Err(error) if matches!(error.downcast_ref(), Some(UnitError::Job { .. })) => {}
            Err(error) => return Err(error),
        }
        let ended = |unit: Option<&ObservedUnit>| {
            unit.is_none_or(
                |unit| matches!(&unit.state, UnitState::Ended { result } if result == "exit-code"),
            )
        };
        self.until(&mut changes, &vm, ended).await?;
        self.stop(&vm).await
    }

    async fn how_a_program_that_runs_once_has_ended_is_seen_until_it_is_stopped(&self) -> Result<()> {
        let vm = vm("once")?;
        let failed = UnitState::Ended { result: "exit-code".to_owned() };
        for (argv, state) in [(&self.ground.completes, UnitState::Completed), (&self.ground.fails, failed)] {
            let mut changes = self.manager.changes();
            match self.start(&vm, argv).await {
                // One that has failed by the time it counts as started is no start, and leaves nothing.
                Err(error) if matches!(error.downcast_ref(), Some(UnitError::Job { .. })) => {
                    ensure!(state != UnitState::Completed, "{error:#}");
                    continue;
                }
                started => started?,
            }
            let is_seen = |unit: Option<&ObservedUnit>| unit.is_some_and(|unit| unit.state == state);
            self.until(&mut changes, &vm, is_seen).await?;
            ensure!(self.seen(&vm).await?.is_some_and(|unit| unit.state == state), "it is forgotten");
            self.stop(&vm).await?;
            let left = self.seen(&vm).await?;
            ensure!(left.is_none(), "{left:?} is left");
        }
        Ok(())
    }

    async fn a_program_that_is_missing_leaves_nothing(&self) -> Result<()> {
        let restarted = RestartPolicy::Always { delay_ms: 50, burst: 5, within_ms: 10_000 };
        for (name, restart) in [("missing", RestartPolicy::Never), ("missing-again", restarted)] {
            let vm = vm(name)?;
            let unit = TransientUnit { restart, ..self.ground.unit(&vm, &self.ground.missing) };
            let result = self.manager.start(unit).await;
            let is_expected =
                matches!(result, Err(UnitError::Job { action: "start", .. } | UnitError::Refused { .. }));
            ensure!(is_expected, "the start gave {result:?}");
            let left = self.seen(&vm).await?;
            ensure!(left.is_none(), "{left:?} is left");
        }
        Ok(())
    }

    async fn start(&self, vm: &VmId, argv: &[String]) -> Result<()> {
        Ok(self.manager.start(self.ground.unit(vm, argv)).await?)
    }

    async fn stop(&self, vm: &VmId) -> Result<()> {
        Ok(self.manager.stop(RunUnitName::of(vm)).await?)
    }

    async fn seen(&self, vm: &VmId) -> Result<Option<ObservedUnit>> {
        seen(self.manager, vm).await
    }

    async fn until(
        &self,
        changes: &mut BoxStream<'static, UnitChange>,
        vm: &VmId,
        holds: impl Fn(Option<&ObservedUnit>) -> bool,
    ) -> Result<()> {
        until(self.manager, changes, vm, holds).await.map(drop)
    }
}

/// The unit of a vm, if it is loaded.
pub async fn seen(manager: &dyn UnitManager, vm: &VmId) -> Result<Option<ObservedUnit>> {
    let units = manager.observe().await?;
    let all = units.into_iter().find(|unit| unit.vm == *vm);
    // Between two looks at a unit that changes much may happen; that one knows none that the other lacks may not.
    let (stranger, asked) = (format!("{vm}-stranger").parse()?, vm.clone());
    let some = manager.look([stranger, asked].into()).await?;
    ensure!(some.iter().all(|unit| unit.vm == *vm), "a look gives what was not asked for: {some:?}");
    let again = manager.observe().await?.into_iter().find(|unit| unit.vm == *vm);
    if again == all {
        ensure!(some.first() == all.as_ref(), "a look gives {some:?} of what is {all:?}");
    }
    Ok(again)
}

/// Waits for changes of a vm until what is observed after one of them holds.
pub async fn until(
    manager: &dyn UnitManager,
    changes: &mut BoxStream<'static, UnitChange>,
    vm: &VmId,
    holds: impl Fn(Option<&ObservedUnit>) -> bool,
) -> Result<Option<ObservedUnit>> {
    let mut last = None;
    let waiting = async {
        while let Some(change) = changes.next().await {
            if change == UnitChange::Any || change == UnitChange::Unit(vm.clone()) {
                last = seen(manager, vm).await?;
                if holds(last.as_ref()) {
                    return Ok(());
                }
            }
        }
        anyhow::bail!("the stream of changes has ended")
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(result) => result.map(|()| last),
        Err(_) => anyhow::bail!("no change brought it about; last seen: {last:?}"),
    }
}

fn vm(name: &str) -> Result<VmId> {
    Ok(format!("contract/{name}").parse()?)
}
