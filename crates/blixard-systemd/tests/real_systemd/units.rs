//! Units in good times.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use blixard_core::ports::units::{
    ObservedUnit, Readiness, RestartPolicy, TransientUnit, UnitChange, UnitError, UnitManager, UnitState,
};
use blixard_testkit::fake::units::contract::{seen, unit_manager_contract, until};
use blixard_types::VmId;
use blixard_types::unit::RunUnitName;
use futures_util::StreamExt as _;
use futures_util::future::try_join_all;
use tokio::time::Instant;

use crate::machine::{Machine, run, say, vm};

#[tokio::test]
async fn systemd_keeps_the_contract_of_unit_managers() -> Result<()> {
    let Some(machine) = Machine::get("the contract of unit managers").await? else {
        return Ok(());
    };
    unit_manager_contract(&machine.systemd, &machine.ground).await
}

#[tokio::test]
async fn two_hundred_units_start_and_stop_at_once_on_one_connection() -> Result<()> {
    let Some(machine) = Machine::get("two hundred units at once").await? else {
        return Ok(());
    };
    // More calls than the bus lets a connection have under way.
    let vms: Vec<VmId> = (0..200).map(|number| vm(&format!("many-{number}"))).collect::<Result<_>>()?;
    // Nobody reads this stream: it must not hold up anything.
    let _unread = machine.systemd.changes();
    let begin = Instant::now();
    try_join_all(vms.iter().map(|vm| machine.systemd.start(machine.unit(vm)))).await?;
    let started = begin.elapsed();
    let begin = Instant::now();
    let units = machine.systemd.observe().await?;
    let observed = begin.elapsed();
    let active = units.iter().filter(|unit| unit.state == UnitState::Active).count();
    let begin = Instant::now();
    try_join_all(vms.iter().map(|vm| machine.systemd.stop(RunUnitName::of(vm)))).await?;
    let stopped = begin.elapsed();
    say(&format!("FIGURE 200 units: start {started:?}, observe {observed:?}, stop {stopped:?}"));
    ensure!(active == 200, "{active} of 200 are active");
    ensure!(machine.systemd.observe().await?.is_empty());
    Ok(())
}

#[tokio::test]
async fn a_unit_whose_process_is_killed_is_started_again_and_announced() -> Result<()> {
    let Some(machine) = Machine::get("a killed process").await? else {
        return Ok(());
    };
    let vm = vm("killed")?;
    let unit = TransientUnit { restart: always(5), ..machine.unit(&vm) };
    machine.systemd.start(unit).await?;
    let before = seen(&machine.systemd, &vm).await?.context("not started")?;
    let mut changes = machine.systemd.changes();
    let pid = before.main_pid.context("no process")?.to_string();
    run(&["kill", "-KILL", &pid]).await?;
    let is_back = |unit: Option<&ObservedUnit>| {
        unit.is_some_and(|unit| unit.restarts == 1 && unit.state == UnitState::Active)
    };
    let after = until(&machine.systemd, &mut changes, &vm, is_back).await?;
    ensure!(after.is_some_and(|unit| unit.main_pid != before.main_pid && unit.epoch == before.epoch));
    Ok(machine.systemd.stop(RunUnitName::of(&vm)).await?)
}

#[tokio::test]
async fn a_unit_that_crashes_again_and_again_is_gone_after_its_start_limit() -> Result<()> {
    let Some(machine) = Machine::get("a crash loop").await? else {
        return Ok(());
    };
    let vm = vm("loops")?;
    let mut changes = machine.systemd.changes();
    let unit = TransientUnit { restart: always(3), ..machine.script(&vm, "sleep 0.1; exit 7") };
    machine.systemd.start(unit).await?;
    let last = until(&machine.systemd, &mut changes, &vm, |unit| unit.is_none()).await?;
    ensure!(last.is_none());
    Ok(())
}

#[tokio::test]
async fn a_unit_that_is_never_ready_is_not_left_behind() -> Result<()> {
    let Some(machine) = Machine::get("a unit that is never ready").await? else {
        return Ok(());
    };
    let vm = vm("never-ready")?;
    let unit = TransientUnit {
        readiness: Readiness::Notified,
        start_timeout_ms: 300,
        restart: always(5),
        ..machine.unit(&vm)
    };
    let start = machine.systemd.start(unit).await;
    ensure!(matches!(start, Err(UnitError::Job { .. })), "{start:?}");
    ensure!(seen(&machine.systemd, &vm).await?.is_none());
    Ok(())
}

#[tokio::test]
async fn what_is_left_of_a_failed_unit_does_not_keep_the_next_from_starting() -> Result<()> {
    let Some(machine) = Machine::get("what is left of a failed unit").await? else {
        return Ok(());
    };
    let vm = vm("remnant")?;
    let name = RunUnitName::of(&vm);
    // Without `CollectMode=`, systemd keeps it.
    run(&["systemd-run", "--wait", "--unit", name.as_str(), "/bin/false"]).await.unwrap_err();
    let left = seen(&machine.systemd, &vm).await?.context("nothing is left")?;
    let failed = UnitState::Ended { result: "exit-code".to_owned() };
    ensure!(left.state == failed && left.epoch.is_none(), "{left:?}");
    machine.systemd.start(machine.unit(&vm)).await?;
    Ok(machine.systemd.stop(name).await?)
}

#[tokio::test]
async fn arguments_and_environment_reach_the_program_as_they_are() -> Result<()> {
    let Some(machine) = Machine::get("arguments as they are").await? else {
        return Ok(());
    };
    let vm = vm("literal-args")?;
    let mut unit = machine.script(&vm, r#"printf '%s\n' "$@" "$ODD" > got; exec sleep 1000"#);
    unit.argv.extend(["name", "$HOME ${HOME} %n", "$$ \\x2d ;"].map(str::to_owned));
    unit.environment.insert("ODD".to_owned(), "a=b '\"$PATH %i".to_owned());
    let got = Path::new(&unit.working_directory).join("got");
    machine.systemd.start(unit).await?;
    let text = written(&got).await?;
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    ensure!(text == "$HOME ${HOME} %n\n$$ \\x2d ;\na=b '\"$PATH %i\n", "{text}");
    Ok(())
}

#[tokio::test]
async fn a_unit_writes_to_its_own_directories_and_nowhere_else() -> Result<()> {
    let Some(machine) = Machine::get("own directories").await? else {
        return Ok(());
    };
    let vm = vm("confined")?;
    let mut unit = machine.script(&vm, "");
    let script = format!(
        "touch {}/socket && echo run > got; touch /var/lib/stray || echo ro >> got; \
         head -c 1 /dev/kvm; test -r /proc/1/mem && echo ok >> got; echo end >> got; exec sleep 1000",
        unit.runtime_directory
    );
    unit.argv = ["/bin/sh", "-c", &script].map(str::to_owned).to_vec();
    let (state, runtime) = (unit.working_directory.clone(), unit.runtime_directory.clone());
    machine.systemd.start(unit).await?;
    let got = Path::new(&state).join("got");
    let text = loop {
        let text = written(&got).await?;
        if text.ends_with("end\n") {
            break text;
        }
    };
    ensure!(text.starts_with("run\nro\n"), "{text}");
    ensure!(Path::new(&runtime).is_dir(), "no runtime directory");
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    ensure!(!Path::new(&runtime).exists(), "the runtime directory is left");
    ensure!(Path::new(&state).is_dir(), "the working directory is gone");
    Ok(())
}

#[tokio::test]
async fn a_stop_returns_when_no_process_is_left() -> Result<()> {
    let Some(machine) = Machine::get("no process is left").await? else {
        return Ok(());
    };
    let vm = vm("family")?;
    let script = "trap '' TERM; for n in 1 2 3 4; do setsid sleep 4321 & done; wait";
    machine.systemd.start(machine.script(&vm, script)).await?;
    let begin = Instant::now();
    machine.systemd.stop(RunUnitName::of(&vm)).await?;
    say(&format!("FIGURE stop of five processes: {:?}", begin.elapsed()));
    ensure!(run(&["pgrep", "-f", "sleep 4321"]).await.is_err());
    Ok(())
}

#[tokio::test]
async fn a_unit_does_not_start_beside_a_process_of_its_last_run() -> Result<()> {
    let Some(machine) = Machine::get("a process of the last run").await? else {
        return Ok(());
    };
    let vm = vm("haunted")?;
    let groups = RunUnitName::of(&vm).control_groups();
    let group =
        Path::new("/sys/fs/cgroup").join(groups.first().context("no cgroup")?.trim_start_matches('/'));
    std::fs::create_dir_all(&group)?;
    // As one that is stuck in the kernel: systemd knows nothing of it.
    let stuck = format!("sleep 1000 >/dev/null 2>&1 & echo $! > {}/cgroup.procs; echo $!", group.display());
    let stuck = run(&["sh", "-c", &stuck]).await?;
    let stuck = stuck.trim();
    let refused = machine.systemd.start(machine.unit(&vm)).await;
    run(&["sh", "-c", &format!("kill {stuck}; while [ -d /proc/{stuck} ]; do :; done")]).await?;
    ensure!(matches!(refused, Err(UnitError::Refused { .. })), "{refused:?}");
    ensure!(seen(&machine.systemd, &vm).await?.is_none());
    machine.systemd.start(machine.unit(&vm)).await?;
    Ok(machine.systemd.stop(RunUnitName::of(&vm)).await?)
}

#[tokio::test]
async fn a_look_at_a_vm_that_is_not_there_is_no_change() -> Result<()> {
    let Some(machine) = Machine::get("a look at a vm that is not there").await? else {
        return Ok(());
    };
    let (absent, present) = (vm("absent")?, vm("present")?);
    let mut changes = machine.systemd.changes();
    for _ in 0..3 {
        ensure!(machine.systemd.look([absent.clone()].into()).await?.is_empty());
    }
    // Everything that was announced before this one's start comes before it.
    machine.systemd.start(machine.unit(&present)).await?;
    while let Some(change) = changes.next().await {
        ensure!(change != UnitChange::Unit(absent.clone()), "it was loaded by being looked at");
        if change == UnitChange::Unit(present.clone()) {
            break;
        }
    }
    Ok(machine.systemd.stop(RunUnitName::of(&present)).await?)
}

fn always(burst: u32) -> RestartPolicy {
    RestartPolicy::Always { delay_ms: 100, burst, within_ms: 60_000 }
}

/// The content of a file, once there is one.
async fn written(path: &Path) -> Result<String> {
    let reading = async {
        loop {
            match tokio::fs::read_to_string(path).await {
                Ok(text) if !text.is_empty() => return text,
                _ => tokio::task::yield_now().await,
            }
        }
    };
    Ok(tokio::time::timeout(Duration::from_secs(30), reading).await?)
}
