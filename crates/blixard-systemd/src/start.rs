//! A start: secrets, directory, transient unit, job.
//!
//! Owns: the order of these, and that nothing is left of a unit that did not start. Refuses to
//! know: why the unit should run.
//!
//! ```text
//! secrets ─▶ directory ─▶ StartTransientUnit ─▶ job ─ done ─▶ started
//!                │ UnitExists         └── else ─▶ stop what is left ─▶ Job { result }
//!                └─ ended? forget it, once more │ else Refused
//! ```

use std::time::Duration;

use blixard_core::ports::units::{TransientUnit, UnitError, UnitState};
use tokio::time::timeout;

use crate::bus::{Bus, JobEnd, JobPath, Link};
use crate::cgroup;
use crate::credentials;
use crate::directory;
use crate::error::CallError;
use crate::settings::{Setting, settings};
use crate::stop;

const ACTION: &str = "start";

/// systemd's word for a job that has done what it should.
pub(crate) const DONE: &str = "done";

/// How much longer than the unit's own limits its job may take: systemd may be busy with others.
pub(crate) const JOB_MARGIN: Duration = Duration::from_secs(30);

/// Starts a unit and waits for its job.
pub(crate) async fn start(bus: &Bus, unit: &TransientUnit) -> Result<(), UnitError> {
    let name = unit.name.as_str();
    let mut settings = settings(unit).map_err(|bad| UnitError::Refused {
        action: ACTION,
        unit: name.to_owned(),
        reason: bad.to_string(),
    })?;
    settings.extend(credentials::settings(name, &credentials::find(&unit.credentials).await?));
    directory::prepare(&unit.working_directory, unit.account.as_ref()).await?;
    let link = bus.link()?;
    if is_haunted(&link, unit).await.map_err(|error| error.during(ACTION, name))? {
        let reason = "a process of its last run is left, which the kernel has not ended".to_owned();
        return Err(UnitError::Refused { action: ACTION, unit: name.to_owned(), reason });
    }
    // A start that fails is followed by a stop, in systemd too.
    let limit = Duration::from_millis(unit.start_timeout_ms.saturating_add(unit.stop_timeout_ms));
    let result = match timeout(limit.saturating_add(JOB_MARGIN), run_job(&link, name, &settings)).await {
        Ok(result) => result.map_err(|error| error.during(ACTION, name))?,
        Err(_) => "timeout".to_owned(),
    };
    if result == DONE {
        return Ok(());
    }
    // A restart policy would go on with what the caller takes for not started.
    if let Err(error) = stop::stop(&link, name).await {
        tracing::warn!(unit = name, %error, "what is left of a failed start is not stopped");
    }
    Err(UnitError::Job { action: ACTION, unit: name.to_owned(), result })
}

/// Whether systemd has forgotten a unit of this name of which a process is left. It may write to what the next
/// run has.
async fn is_haunted(link: &Link, unit: &TransientUnit) -> Result<bool, CallError> {
    for group in unit.name.control_groups() {
        if cgroup::is_populated(&cgroup::directory(&group)).await
            && !link.is_loaded(unit.name.as_str()).await?
        {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Makes the start job and waits for its result.
async fn run_job(link: &Link, name: &str, settings: &[Setting]) -> Result<String, CallError> {
    let mut ticket = link.expect_job(name);
    let job = make_job(link, name, settings).await?;
    match link.job_end(&mut ticket, &job).await? {
        JobEnd::Result(result) => Ok(result),
        JobEnd::Unheard => {
            let unit = link.unit(name).await?;
            let is_active = unit.is_some_and(|unit| unit.state() == UnitState::Active);
            Ok(if is_active { DONE } else { "unknown" }.to_owned())
        }
    }
}

/// Makes the start job; what is left of an ended unit of that name does not keep it from doing so.
pub(crate) async fn make_job(link: &Link, name: &str, settings: &[Setting]) -> Result<JobPath, CallError> {
    match link.start_transient(name, settings).await {
        Err(CallError::UnitExists { reason }) => {
            let unit = link.unit(name).await?;
            let is_remnant = unit.is_none_or(|unit| matches!(unit.state(), UnitState::Ended { .. }));
            if !is_remnant {
                return Err(CallError::UnitExists { reason });
            }
            stop::forget(link, name).await?;
            link.start_transient(name, settings).await
        }
        result => result,
    }
}
