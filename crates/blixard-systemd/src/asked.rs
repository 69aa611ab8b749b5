//! A graceful stop without a unit: while the machine goes down systemd starts nothing any more.
//!
//! Owns: the one child process for each guest that is asked. Refuses to know: when that is. The child is as
//! confined as the process that this is called in, which the unit `blixard-drain.service` confines.

use std::process::Stdio;
use std::time::Duration;

use blixard_core::ports::units::{Asked, GracefulStop, UnitError};
use tokio::process::{Child, Command};
use tokio::time::timeout;

use crate::bus::Link;
use crate::cgroup;
use crate::directory::ids;
use crate::error::CallError;

const ACTION: &str = "ask for a shutdown of";

/// Asks the guest of a run unit to shut down by a child process, and waits for the end of its hypervisor.
pub(crate) async fn shutdown(link: &Link, ask: &GracefulStop) -> Result<Asked, UnitError> {
    let during = |error: CallError| error.during(ACTION, ask.run.as_str());
    let unit = link.unit(ask.run.as_str()).await.map_err(during)?;
    let unit = unit.filter(|unit| unit.main_pid() == Some(ask.main_pid));
    let Some(group) = unit.and_then(|unit| unit.control_group()) else { return Ok(Asked::Ended) };
    let group = cgroup::directory(&group);
    let owner = ask.account.as_ref().map(ids).transpose()?;
    // It is killed when it is dropped: with the guest's end, or when the time is over.
    let _child = match start(ask, owner) {
        Ok(child) => child,
        Err(error) => return Ok(Asked::Runs { reason: format!("{}: {error}", ask.program) }),
    };
    let limit = Duration::from_millis(ask.timeout_ms);
    Ok(match timeout(limit, cgroup::left(&group, ask.main_pid)).await {
        Ok(()) => Asked::Ended,
        Err(_) => Asked::Runs { reason: format!("it has not shut down within {} ms", ask.timeout_ms) },
    })
}

#[expect(clippy::disallowed_methods, reason = "this is the adapter's one wrapper around what asks a guest")]
fn start(ask: &GracefulStop, owner: Option<(u32, u32)>) -> std::io::Result<Child> {
    let mut command = Command::new(&ask.program);
    command.env_clear().envs(&ask.environment).current_dir(&ask.working_directory);
    command.stdin(Stdio::null()).kill_on_drop(true);
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command.spawn()
}
