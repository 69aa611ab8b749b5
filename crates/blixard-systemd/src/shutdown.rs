//! A graceful stop: a unit that asks the guest, and the end of the guest's hypervisor.
//!
//! Owns: how long is waited, and for what. Refuses to know: what the program does. What it reads from a
//! hypervisor that a guest may have taken over, it reads in a unit as confined as that.
//!
//! ```text
//! hypervisor there? ─ no ─▶ ended
//!   │ yes: its cgroup
//!   ▼
//! start the stop unit ─ done, or it runs already ─▶ wait ─ hypervisor ends ──▶ ended   ┐ nothing of the
//!                     └ failed ─▶ runs                   └ the time is over ─▶ runs    ┘ stop unit is left
//! ```

use std::path::{Path, PathBuf};
use std::time::Duration;

use blixard_core::ports::units::{Asked, GracefulStop, UnitError};
use tokio::time::timeout;

use crate::bus::{JobEnd, Link};
use crate::cgroup;
use crate::error::CallError;
use crate::settings::stop_settings;
use crate::start::{DONE, make_job};
use crate::stop;

const ACTION: &str = "ask for a shutdown of";

/// Asks the guest of a run unit to shut down, and waits for the end of its hypervisor.
pub(crate) async fn shutdown(link: &Link, ask: &GracefulStop) -> Result<Asked, UnitError> {
    let during = |error: CallError| error.during(ACTION, ask.run.as_str());
    let Some(group) = group_of_hypervisor(link, ask).await.map_err(during)? else {
        return Ok(Asked::Ended);
    };
    let limit = Duration::from_millis(ask.timeout_ms);
    let asked = match timeout(limit, run(link, ask, &group)).await {
        Ok(asked) => asked.map_err(during),
        Err(_) => Ok(Asked::Runs { reason: format!("it has not shut down within {} ms", ask.timeout_ms) }),
    };
    stop::stop(link, ask.name.as_str()).await?;
    asked
}

/// The cgroup in which the process is that should end; `None` if it has ended.
async fn group_of_hypervisor(link: &Link, ask: &GracefulStop) -> Result<Option<PathBuf>, CallError> {
    let unit = link.unit(ask.run.as_str()).await?;
    let unit = unit.filter(|unit| unit.main_pid() == Some(ask.main_pid));
    Ok(unit.and_then(|unit| unit.control_group()).map(|group| cgroup::directory(&group)))
}

async fn run(link: &Link, ask: &GracefulStop, group: &Path) -> Result<Asked, CallError> {
    tokio::select! {
        biased;
        () = cgroup::left(group, ask.main_pid) => return Ok(Asked::Ended),
        result = order(link, ask) => {
            if let Err(reason) = result? {
                return Ok(Asked::Runs { reason });
            }
        }
    }
    cgroup::left(group, ask.main_pid).await;
    Ok(Asked::Ended)
}

/// Runs the program to its end; the inner error says how it failed.
async fn order(link: &Link, ask: &GracefulStop) -> Result<Result<(), String>, CallError> {
    let name = ask.name.as_str();
    let mut ticket = link.expect_job(name);
    let job = match make_job(link, name, &stop_settings(ask)).await {
        Ok(job) => job,
        // A daemon before this one has given the order.
        Err(CallError::UnitExists { .. }) => return Ok(Ok(())),
        Err(error) => return Err(error),
    };
    Ok(match link.job_end(&mut ticket, &job).await? {
        JobEnd::Result(result) if result != DONE => {
            Err(format!("{} has failed (`{result}`); `journalctl -u '{name}'` says why", ask.program))
        }
        JobEnd::Result(_) | JobEnd::Unheard => Ok(()),
    })
}
