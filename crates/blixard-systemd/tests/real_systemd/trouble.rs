//! Units while systemd and the bus have trouble.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use blixard_core::ports::units::{
    ObservedUnit, Readiness, TransientUnit, UnitChange, UnitError, UnitManager, UnitState,
};
use blixard_testkit::fake::units::contract::{PATIENCE, seen, until};
use blixard_types::VmId;
use blixard_types::unit::RunUnitName;
use futures_util::StreamExt;
use futures_util::future::{join, try_join_all};
use tokio::time::timeout;

use crate::machine::{Machine, run, say, vm};

async fn start_and_stop(machine: &Machine, rounds: usize, name: &str) -> Result<()> {
    let vms: Vec<VmId> = (0..8).map(|number| vm(&format!("{name}-{number}"))).collect::<Result<_>>()?;
    for round in 0..rounds {
        let starts = vms.iter().map(|vm| machine.systemd.start(machine.unit(vm)));
        try_join_all(starts).await.with_context(|| format!("round {round}"))?;
        let units = machine.systemd.observe().await?;
        let active = units.iter().filter(|unit| unit.state == UnitState::Active).count();
        ensure!(active == vms.len(), "round {round}: {units:?}");
        let stops = vms.iter().map(|vm| machine.systemd.stop(RunUnitName::of(vm)));
        try_join_all(stops).await.with_context(|| format!("round {round}"))?;
    }
    Ok(())
}

#[tokio::test]
async fn starts_and_stops_go_on_while_systemd_reloads_again_and_again() -> Result<()> {
    let Some(machine) = Machine::get("reloads").await? else {
        return Ok(());
    };
    let mut changes = machine.systemd.changes();
    let reloads = async {
        for _ in 0..10 {
            run(&["systemctl", "daemon-reload"]).await?;
        }
        anyhow::Ok(())
    };
    let (work, reloads) = join(start_and_stop(&machine, 5, "reload"), reloads).await;
    work.and(reloads)?;
    any(&mut changes).await
}

#[tokio::test]
async fn a_unit_and_its_watcher_outlive_a_re_execution_of_systemd() -> Result<()> {
    let Some(machine) = Machine::get("a re-execution").await? else {
        return Ok(());
    };
    let vm = vm("re-executed")?;
    machine.systemd.start(machine.unit(&vm)).await?;
    let before = seen(&machine.systemd, &vm).await?;
    let mut changes = machine.systemd.changes();
    run(&["systemctl", "daemon-reexec"]).await?;
    any(&mut changes).await?;
    ensure!(before.is_some() && seen(&machine.systemd, &vm).await? == before);
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    start_and_stop(&machine, 1, "after-reexec").await
}

#[tokio::test]
async fn a_start_that_is_under_way_outlives_a_re_execution_of_systemd() -> Result<()> {
    let Some(machine) = Machine::get("a start during a re-execution").await? else {
        return Ok(());
    };
    let vm = vm("slow")?;
    let unit = slow(&machine, &vm);
    let go = Path::new(&unit.working_directory).join("go");
    let (mut before, mut after) = (machine.systemd.changes(), machine.systemd.changes());
    let orders = async {
        until(&machine.systemd, &mut before, &vm, is_activating).await?;
        run(&["systemctl", "daemon-reexec"]).await?;
        any(&mut after).await?;
        std::fs::write(&go, "")?;
        anyhow::Ok(())
    };
    let (start, orders) = join(machine.systemd.start(unit), orders).await;
    orders?;
    start?;
    std::fs::remove_file(&go)?;
    let unit = seen(&machine.systemd, &vm).await?.context("it is gone")?;
    ensure!(unit.state == UnitState::Active, "{unit:?}");
    Ok(machine.systemd.stop(RunUnitName::of(&vm)).await?)
}

#[tokio::test]
async fn a_start_whose_connection_is_lost_says_that_systemd_is_unreachable() -> Result<()> {
    let Some(machine) = Machine::get("a start without a bus").await? else {
        return Ok(());
    };
    let vm = vm("cut-off")?;
    let (mut before, mut after) = (machine.systemd.changes(), machine.systemd.changes());
    let orders = async {
        until(&machine.systemd, &mut before, &vm, is_activating).await?;
        run(&["systemctl", "kill", "-s", "KILL", "dbus.service"]).await
    };
    let (start, orders) = join(machine.systemd.start(slow(&machine, &vm)), orders).await;
    orders?;
    ensure!(matches!(start, Err(UnitError::Unreachable { .. })), "{start:?}");
    any(&mut after).await?;
    let left = seen(&machine.systemd, &vm).await?.context("it is gone")?;
    ensure!(left.state == UnitState::Activating, "{left:?}");
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    ensure!(seen(&machine.systemd, &vm).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn every_start_has_an_answer_when_systemd_is_re_executed_meanwhile() -> Result<()> {
    let Some(machine) = Machine::get("starts during a re-execution").await? else {
        return Ok(());
    };
    let vms: Vec<VmId> = (0..40).map(|number| vm(&format!("reexec-{number}"))).collect::<Result<_>>()?;
    let starts = vms.iter().map(|vm| machine.systemd.start(machine.unit(vm)));
    let starting = timeout(PATIENCE * 2, futures_util::future::join_all(starts));
    let (results, reexec) = join(starting, run(&["systemctl", "daemon-reexec"])).await;
    let results = results.context("a start has no answer")?;
    reexec?;
    let failed: Vec<_> = results.iter().filter_map(|result| result.as_ref().err()).collect();
    say(&format!("FIGURE {} of 40 starts were cut off by a re-execution", failed.len()));
    for error in failed {
        ensure!(matches!(error, UnitError::Unreachable { .. }), "{error}");
    }
    try_join_all(vms.iter().map(|vm| machine.systemd.stop(RunUnitName::of(vm)))).await?;
    ensure!(machine.systemd.observe().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn the_connection_comes_back_after_the_bus_was_killed() -> Result<()> {
    let Some(machine) = Machine::get("a killed bus").await? else {
        return Ok(());
    };
    let vm = vm("bus-killed")?;
    machine.systemd.start(machine.unit(&vm)).await?;
    let before = seen(&machine.systemd, &vm).await?;
    let mut changes = machine.systemd.changes();
    run(&["systemctl", "kill", "-s", "KILL", "dbus.service"]).await?;
    any(&mut changes).await?;
    ensure!(before.is_some() && seen(&machine.systemd, &vm).await? == before);
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    start_and_stop(&machine, 1, "after-bus").await
}

#[tokio::test]
async fn without_a_bus_every_operation_says_that_systemd_is_unreachable() -> Result<()> {
    let Some(machine) = Machine::get("no bus").await? else {
        return Ok(());
    };
    let mut changes = machine.systemd.changes();
    run(&["systemctl", "stop", "dbus.socket", "dbus.service"]).await?;
    let vm = vm("no-bus")?;
    let start = machine.systemd.start(machine.unit(&vm)).await;
    let stop = machine.systemd.stop(RunUnitName::of(&vm)).await;
    let observe = machine.systemd.observe().await.map(drop);
    run(&["systemctl", "start", "dbus.socket", "dbus.service"]).await?;
    for result in [start, stop, observe] {
        ensure!(matches!(result, Err(UnitError::Unreachable { .. })), "{result:?}");
    }
    any(&mut changes).await?;
    start_and_stop(&machine, 1, "bus-again").await
}

/// A unit that is ready once the file `go` is in its working directory.
fn slow(machine: &Machine, vm: &VmId) -> TransientUnit {
    let script = "until test -e go; do sleep 0.05; done; systemd-notify --ready; exec sleep 1000";
    TransientUnit { readiness: Readiness::Notified, start_timeout_ms: 30_000, ..machine.script(vm, script) }
}

fn is_activating(unit: Option<&ObservedUnit>) -> bool {
    unit.is_some_and(|unit| unit.state == UnitState::Activating && unit.main_pid.is_some())
}

/// Waits for the change that says "look at everything".
async fn any(changes: &mut (impl futures_util::Stream<Item = UnitChange> + Unpin)) -> Result<()> {
    let waiting = async {
        while let Some(change) = changes.next().await {
            if change == UnitChange::Any {
                return Ok(());
            }
        }
        bail!("the stream of changes has ended")
    };
    timeout(PATIENCE, waiting).await.context("no such change")?
}
