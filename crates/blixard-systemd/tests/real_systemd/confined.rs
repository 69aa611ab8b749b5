//! Confinement by a real systemd: the contract, and the walls.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use blixard_core::ports::confined::ProgramEnd;
use blixard_systemd::{ConfinementOptions, SystemdConfinement};
use blixard_testkit::fake::confined::contract::{confinement_contract, run as run_confined, shell};

use super::machine::{Machine, run};

const HIDDEN: &str = "/var/lib/blixard-real-systemd-hidden";
const UNITS: &str = "blixard-confined-*.service";

fn confinement(machine: &Machine) -> SystemdConfinement {
    let hidden = vec![PathBuf::from(HIDDEN), PathBuf::from("/nowhere/at/all")];
    SystemdConfinement::new(&machine.systemd, ConfinementOptions { user: None, hidden })
}

/// Waits until no unit of ours is loaded.
async fn no_unit_is_left() -> Result<()> {
    loop {
        let left = run(&["systemctl", "list-units", "--all", "--plain", "--no-legend", UNITS]).await?;
        if left.trim().is_empty() {
            return Ok(());
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn systemd_keeps_the_contract_and_no_unit_is_left() -> Result<()> {
    let Some(machine) = Machine::get("confinement contract").await? else { return Ok(()) };
    let confinement = confinement(&machine);
    confinement_contract(&confinement).await?;
    no_unit_is_left().await
}

#[tokio::test]
async fn a_confined_program_is_nobody_and_sees_and_changes_nothing_of_ours() -> Result<()> {
    let Some(machine) = Machine::get("confinement walls").await? else { return Ok(()) };
    std::fs::create_dir_all(HIDDEN)?;
    std::fs::write(format!("{HIDDEN}/open"), "secret")?;
    let confinement = confinement(&machine);
    for forbidden in [
        "test $(id -u) = 0",
        "cat /etc/shadow",
        &format!("cat {HIDDEN}/open"),
        &format!("ls {HIDDEN}"),
        "ls /root",
        "touch /var/tmp/../lib/x",
        "touch /nix/store/x",
        "echo 1 > /proc/sys/kernel/panic",
        "busctl --system list",
        "ls /proc/1/fd",
        "mknod /tmp/null c 1 3",
        "unshare --user true",
        "cat /proc/net/dev | grep -v lo: | grep :",
        "grep -q 'CapEff:.*[1-9a-f]' /proc/self/status",
    ] {
        let (result, stderr) = run_confined(&confinement, shell(forbidden)).await;
        let output = result?;
        ensure!(output.end != ProgramEnd::Exited(0), "{forbidden}: {output:?} {stderr}");
    }
    let allowed = "echo x > /tmp/x && cat /tmp/x && grep -q 'NoNewPrivs:.1' /proc/self/status";
    let (result, stderr) = run_confined(&confinement, shell(allowed)).await;
    ensure!(result.is_ok_and(|output| output.end == ProgramEnd::Exited(0)), "{stderr}");
    std::fs::remove_dir_all(HIDDEN)?;
    Ok(())
}

#[tokio::test]
async fn children_that_outlive_their_program_are_killed_with_it() -> Result<()> {
    let Some(machine) = Machine::get("confinement children").await? else { return Ok(()) };
    let program = shell("setsid sleep 4321 > /dev/null 2>&1 & echo $!");
    let (result, _) = run_confined(&confinement(&machine), program).await;
    let pid = String::from_utf8(result?.stdout)?;
    let status = std::fs::read_to_string(format!("/proc/{}/status", pid.trim()));
    ensure!(
        status.as_ref().is_ok_and(|status| status.contains("State:\tZ")) || status.is_err(),
        "{status:?}"
    );
    no_unit_is_left().await
}

#[tokio::test]
async fn a_program_cannot_have_more_processes_than_it_may() -> Result<()> {
    let Some(machine) = Machine::get("confinement processes").await? else { return Ok(()) };
    // No bomb: if the limit did not hold, the machine would have to.
    let program = shell("i=0; while [ $i -lt 100 ]; do sleep 1000 & i=$((i+1)); done");
    let (result, stderr) = run_confined(&confinement(&machine), program).await;
    ensure!(!matches!(&result, Ok(output) if output.end == ProgramEnd::Exited(0)), "{result:?}");
    ensure!(stderr.contains("fork"), "{stderr}");
    no_unit_is_left().await
}

#[tokio::test]
async fn a_daemon_stops_what_one_before_it_has_left() -> Result<()> {
    let Some(machine) = Machine::get("confinement left behind").await? else { return Ok(()) };
    let unit = "blixard-confined-evaluate-0-0";
    run(&["systemd-run", "--unit", unit, "--slice=blixardbuild.slice", "sleep", "1000"]).await?;
    let _confinement = confinement(&machine);
    no_unit_is_left().await
}
