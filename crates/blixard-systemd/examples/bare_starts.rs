//! Starts many units by bare `StartTransientUnit` calls on one connection: what `cargo xtask bench start-storm`
//! compares a host's starts with. The units are those of vms, setting by setting; nobody looks at them.
//!
//! `bare_starts N PROGRAM…`: PROGRAM is what each executes, with `{}` for its number. Prints nothing: systemd knows
//! when each was active.

#![allow(clippy::print_stderr, reason = "a tool that says what it lacks")]

use std::collections::BTreeMap;

use anyhow::Context as _;
use blixard_core::ports::units::{Readiness, RestartPolicy, TransientUnit};
use blixard_types::VmId;
use blixard_types::unit::RunUnitName;
use futures_util::StreamExt as _;
use systemd_zbus::{ManagerProxy, Mode};

#[path = "../src/settings.rs"]
#[expect(dead_code, reason = "the settings of the other units are of no use here")]
mod settings;

/// As many as the adapter has under way.
const CALLS_AT_ONCE: usize = 64;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let count: u32 = arguments.next().context("how many?")?.parse()?;
    let program: Vec<String> = arguments.collect();
    let connection = zbus::connection::Builder::system()?.build().await?;
    let manager = ManagerProxy::new(&connection).await?;
    let starts = (1..=count).map(|number| {
        let (manager, program) = (&manager, &program);
        async move {
            let unit = unit(number, program)?;
            let settings = settings::settings(&unit)?;
            tokio::fs::create_dir_all(&unit.working_directory).await?;
            manager.start_transient_unit(unit.name.as_str(), Mode::Fail, &settings, &[]).await?;
            anyhow::Ok(())
        }
    });
    let mut starts = futures_util::stream::iter(starts).buffer_unordered(CALLS_AT_ONCE);
    while let Some(started) = starts.next().await {
        started?;
    }
    Ok(())
}

/// What a host makes of a sleeper of the fixtures.
fn unit(number: u32, program: &[String]) -> anyhow::Result<TransientUnit> {
    let vm: VmId = format!("bare/sleeper-{number}").parse()?;
    let argv = program.iter().map(|word| word.replace("{}", &number.to_string())).collect();
    let variable = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    Ok(TransientUnit {
        name: RunUnitName::of(&vm),
        description: format!("microVM {vm}"),
        slice: "blixard-bare.slice".to_owned(),
        account: None,
        argv,
        environment: BTreeMap::from([
            variable("BLIXARD_EPOCH", "1"),
            variable("BLIXARD_GENERATION", "1"),
            variable("BLIXARD_VM", &vm.to_string()),
        ]),
        working_directory: format!("/var/lib/blixard-bare/{vm}"),
        runtime_directory: format!("/run/blixard-bare/{vm}"),
        readiness: Readiness::Executed,
        start_timeout_ms: 90_000,
        stop_timeout_ms: 1_000,
        restart: RestartPolicy::Always { delay_ms: 1000, burst: 5, within_ms: 300_000 },
        memory_max: 32 << 20,
        tasks_max: 1024,
        devices: vec!["/dev/kvm".to_owned()],
        writable: Vec::new(),
        credentials: Vec::new(),
        bound_to: None,
        before: "blixard-drain.service",
    })
}
