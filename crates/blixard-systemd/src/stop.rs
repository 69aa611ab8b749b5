//! A stop: job, empty cgroup, nothing left that is loaded.
//!
//! Owns: what "stopped" means. Refuses to know: why the unit should stop, and the graceful stop
//! that may have come before.
//!
//! ```text
//! loaded? ─ no ─▶ stopped
//!   │ yes: its cgroup
//!   ▼
//! StopUnit ─▶ job done ─▶ cgroup unpopulated ─▶ systemd has forgotten it ─▶ stopped
//! ```
//! A run unit that is not loaded is stopped only once the cgroup that it had is unpopulated, too.

use std::time::Duration;

use blixard_core::ports::units::{UnitError, UnitState};
use blixard_types::unit::RunUnitName;
use tokio::time::timeout;

use crate::bus::{JobEnd, Link};
use crate::cgroup;
use crate::error::CallError;
use crate::observed::UnitProperties;
use crate::start::{DONE, JOB_MARGIN};

const ACTION: &str = "stop";

/// How long systemd may take to forget a unit whose cgroup is empty. It does so in the next turn of
/// its loop, once the kernel has told it of the cgroup.
const FORGET_LIMIT: Duration = Duration::from_secs(5);
const FORGET_PAUSE: Duration = Duration::from_millis(5);

/// What the end of a stop job leaves to do.
#[derive(Debug, PartialEq, Eq)]
enum Stopped {
    /// As systemd sees it.
    Yes,
    /// The job has failed.
    No { result: String },
}

/// Stops a unit; returns when no process of it is left and systemd has forgotten it.
pub(crate) async fn stop(link: &Link, name: &str) -> Result<(), UnitError> {
    let during = |error: CallError| error.during(ACTION, name);
    let failed = |result: String| UnitError::Job { action: ACTION, unit: name.to_owned(), result };
    let Some(unit) = link.unit(name).await.map_err(during)? else {
        return Ok(());
    };
    let stopping = async {
        let stopped = run_job(link, name).await?;
        if stopped == Stopped::Yes
            && let Some(group) = unit.control_group()
        {
            cgroup::emptied(&cgroup::directory(&group)).await;
        }
        Ok(stopped)
    };
    match timeout(limit(&unit), stopping).await {
        Ok(Ok(Stopped::Yes)) => forget(link, name).await.map_err(during),
        Ok(Ok(Stopped::No { result })) => Err(failed(result)),
        Ok(Err(error)) => Err(during(error)),
        Err(_) => Err(failed("timeout".to_owned())),
    }
}

/// Stops a vm's run unit. Its processes may outlive it: systemd gives up on one that the kernel does not
/// end in time, and forgets the unit. The cgroup says when the last one is gone.
pub(crate) async fn stop_run(link: &Link, unit: &RunUnitName) -> Result<(), UnitError> {
    stop(link, unit.as_str()).await?;
    let emptied = async {
        for group in unit.control_groups() {
            cgroup::emptied(&cgroup::directory(&group)).await;
        }
    };
    let failed =
        |_| UnitError::Job { action: ACTION, unit: unit.as_str().to_owned(), result: "timeout".to_owned() };
    timeout(JOB_MARGIN, emptied).await.map_err(failed)
}

/// systemd kills twice, each with the unit's own limit: the cgroup, then what is left in it.
fn limit(unit: &UnitProperties) -> Duration {
    let own = Duration::from_micros(unit.stop_timeout_us().unwrap_or_default());
    own.saturating_mul(2).saturating_add(JOB_MARGIN)
}

async fn run_job(link: &Link, name: &str) -> Result<Stopped, CallError> {
    let mut ticket = link.expect_job(name);
    let job = match link.stop(name).await {
        Ok(job) => job,
        Err(CallError::NoSuchUnit) => return Ok(Stopped::Yes),
        Err(error) => return Err(error),
    };
    match link.job_end(&mut ticket, &job).await? {
        JobEnd::Result(result) if result == DONE => Ok(Stopped::Yes),
        JobEnd::Result(result) => Ok(Stopped::No { result }),
        JobEnd::Unheard => {
            let unit = link.unit(name).await?;
            let has_ended = unit.is_none_or(|unit| matches!(unit.state(), UnitState::Ended { .. }));
            let result = "unknown".to_owned();
            Ok(if has_ended { Stopped::Yes } else { Stopped::No { result } })
        }
    }
}

/// Has systemd forget an ended unit and waits until it has, so that neither an observation nor the
/// next start of that name meets it.
pub(crate) async fn forget(link: &Link, name: &str) -> Result<(), CallError> {
    match link.reset_failed(name).await {
        Ok(()) => {}
        Err(CallError::NoSuchUnit) => return Ok(()),
        Err(error) => return Err(error),
    }
    let forgotten = async {
        while link.is_loaded(name).await? {
            tokio::time::sleep(FORGET_PAUSE).await;
        }
        Ok(())
    };
    timeout(FORGET_LIMIT, forgotten).await.unwrap_or_else(|_| {
        // It is stopped all the same; another may hold it loaded.
        tracing::warn!(unit = name, "systemd keeps a unit loaded that has ended");
        Ok(())
    })
}
