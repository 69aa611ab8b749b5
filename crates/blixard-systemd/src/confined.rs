//! The port [`Confinement`] by transient units that systemd starts, so that nothing is a child of
//! the daemon.
//!
//! Owns: one unit's life from pipes to result, and that it is stopped when nobody waits for it. Refuses
//! to know: what is run, and why.
//!
//! ```text
//! pipes ─▶ StartTransientUnit (oneshot, referenced) ─▶ job ends ─▶ Result ─▶ unreferenced ─▶ forgotten
//!             │ too much is printed, the bus is lost (then once more), or the future is dropped
//!             └─▶ the janitor stops the unit: SIGKILL of its cgroup
//! ```
//! A unit of a daemon that is gone loses its reference, ends at its time limit, and is stopped earlier
//! by the next daemon's janitor.

mod janitor;
mod properties;
mod streams;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::confined::{
    ConfinedError, ConfinedOutput, ConfinedProgram, Confinement, LimitReached, ProgramEnd, StderrSink,
};
use tokio::time::timeout;

use crate::bus::{Bus, Link};
use crate::error::CallError;
use crate::manager::Systemd;
use janitor::Janitor;
use streams::Streams;

/// Where evaluation and builds are: beside `blixard.slice`, which a fence kills.
const SLICE: &str = "blixardbuild.slice";

/// What each of our units is called, before its purpose.
const PREFIX: &str = "blixard-confined-";

/// How long the end of the pipes may take after the end of every process that could write to them.
const DRAIN_LIMIT: Duration = Duration::from_secs(30);

/// How often a program is started when the bus is lost each time. With the time that one connection is waited
/// for, and that one call may take, a bus may be gone or hang for two minutes.
const ATTEMPTS: u32 = 5;
const PAUSE: Duration = Duration::from_millis(500);

/// Why a unit has told no end of its program.
#[derive(Debug)]
enum RunError {
    /// Nobody can be asked.
    Bus(String),
    Other(ConfinedError),
}

impl RunError {
    fn told(self) -> ConfinedError {
        match self {
            Self::Bus(reason) => {
                ConfinedError::Lost { reason: format!("systemd cannot be reached: {reason}") }
            }
            Self::Other(error) => error,
        }
    }
}

impl From<CallError> for RunError {
    fn from(error: CallError) -> Self {
        match error {
            CallError::Unreachable { reason } => Self::Bus(reason),
            other => Self::Other(ConfinedError::Start { reason: other.words() }),
        }
    }
}

impl From<ConfinedError> for RunError {
    fn from(error: ConfinedError) -> Self {
        Self::Other(error)
    }
}

/// What is the same for all confined programs of a daemon.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConfinementOptions {
    /// The system user; if absent, each unit has one that exists only as long as the unit.
    pub user: Option<String>,
    /// Directories that are out of reach, absolute: what is the daemon's own. They need not exist.
    pub hidden: Vec<PathBuf>,
}

/// Runs programs in transient units of systemd.
#[derive(Debug)]
pub struct SystemdConfinement {
    bus: Arc<Bus>,
    options: ConfinementOptions,
    janitor: Janitor,
    started: AtomicU64,
}

impl SystemdConfinement {
    /// Uses this connection. Units that a daemon before this one has left are stopped in the background.
    #[must_use]
    pub fn new(systemd: &Systemd, options: ConfinementOptions) -> Self {
        let bus = systemd.bus();
        let janitor = Janitor::start(Arc::clone(&bus));
        Self { bus, options, janitor, started: AtomicU64::new(0) }
    }

    /// Runs the program in a unit, and in another one if the bus is lost on the way: how the first has ended
    /// can be asked of nobody then.
    async fn run_patiently(
        &self,
        program: ConfinedProgram,
        stderr: StderrSink<'_>,
    ) -> Result<ConfinedOutput, ConfinedError> {
        let mut attempt = 1;
        loop {
            match self.run_unit(&program, stderr).await {
                Err(RunError::Bus(reason)) if attempt < ATTEMPTS => {
                    tracing::warn!(
                        purpose = program.purpose,
                        reason,
                        "systemd cannot be reached; trying again"
                    );
                    attempt += 1;
                    // The connection may not have been found to be lost yet.
                    tokio::time::sleep(PAUSE).await;
                }
                ended => return ended.map_err(RunError::told),
            }
        }
    }

    async fn run_unit(
        &self,
        program: &ConfinedProgram,
        stderr: StderrSink<'_>,
    ) -> Result<ConfinedOutput, RunError> {
        let link = self.bus.link_soon().await.map_err(|error| RunError::Bus(error.to_string()))?;
        let name = self.unit_name(program.purpose);
        let (streams, ends) = streams::pipes()
            .map_err(|cause| ConfinedError::Start { reason: format!("cannot make a pipe: {cause}") })?;
        // Whatever happens from here on, the unit does not outlive this call.
        let guard = self.janitor.guard(&name);
        let mut ticket = link.expect_job(&name);
        // The ends that are written to are the unit's alone once this has been sent.
        let settings = properties::properties(program, &self.options, ends);
        let job = link.start_transient(&name, &settings).await?;
        drop(settings);
        let ended = async {
            link.job_end(&mut ticket, &job).await?;
            outcome(&link, &name).await
        };
        let (outcome, stdout) = follow(ended, streams, program, stderr, || link.unreference(&name)).await?;
        let end = outcome.end(program)?;
        // systemd has forgotten it or is about to.
        guard.done();
        Ok(ConfinedOutput { end, stdout })
    }

    fn unit_name(&self, purpose: &str) -> String {
        let number = self.started.fetch_add(1, Ordering::Relaxed);
        format!("{PREFIX}{purpose}-{}-{number}.service", std::process::id())
    }
}

impl Confinement for SystemdConfinement {
    fn run<'a>(
        &'a self,
        program: ConfinedProgram,
        stderr: StderrSink<'a>,
    ) -> BoxFuture<'a, Result<ConfinedOutput, ConfinedError>> {
        Box::pin(self.run_patiently(program, stderr))
    }
}

/// Reads both streams until the unit has ended and they have.
async fn follow<F: Future<Output = Result<(), CallError>>>(
    ended: impl Future<Output = Result<Outcome, CallError>>,
    streams: Streams,
    program: &ConfinedProgram,
    stderr: StderrSink<'_>,
    unreference: impl FnOnce() -> F,
) -> Result<(Outcome, Vec<u8>), RunError> {
    let reading = streams.read(program.limits, stderr);
    tokio::pin!(ended, reading);
    let mut stdout = None;
    let outcome = loop {
        tokio::select! {
            read = &mut reading, if stdout.is_none() => stdout = Some(read?),
            outcome = &mut ended => break outcome?,
        }
    };
    // Until then systemd may hold its ends of the pipes.
    unreference().await?;
    let stdout = match stdout {
        Some(stdout) => stdout,
        None => timeout(DRAIN_LIMIT, reading).await.map_err(|_| ConfinedError::Lost {
            reason: "its output does not end although it has".to_owned(),
        })??,
    };
    Ok((outcome, stdout))
}

/// What systemd says of a unit that has ended.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    result: String,
    status: i32,
}

async fn outcome(link: &Link, name: &str) -> Result<Outcome, CallError> {
    let result = link.service_property(name, "Result").await?;
    let status = link.service_property(name, "ExecMainStatus").await?;
    Ok(Outcome { result, status })
}

/// Exit statuses from here on are systemd's own: it could not execute the program (systemd.exec(5)).
const FIRST_OF_SYSTEMD: i32 = 200;

impl Outcome {
    /// What its words mean for the program.
    fn end(&self, program: &ConfinedProgram) -> Result<ProgramEnd, ConfinedError> {
        let limits = &program.limits;
        let name = program.argv.first().map_or("", String::as_str);
        match (self.result.as_str(), self.status) {
            ("success", _) => Ok(ProgramEnd::Exited(0)),
            ("exit-code", 203) => Err(ConfinedError::Start { reason: format!("{name} cannot be executed") }),
            ("exit-code", status) if status >= FIRST_OF_SYSTEMD => Err(ConfinedError::Start {
                reason: format!(
                    "systemd could not prepare {name}: exit status {status}, see systemd.exec(5)"
                ),
            }),
            ("exit-code", status) => Ok(ProgramEnd::Exited(status)),
            ("signal" | "core-dump", signal) => Ok(ProgramEnd::Killed(signal)),
            ("timeout", _) => Err(ConfinedError::Limit(LimitReached::Time(limits.time_ms))),
            ("oom-kill", _) => Err(ConfinedError::Limit(LimitReached::Memory(limits.memory_max))),
            (other, _) => Err(ConfinedError::Start { reason: format!("its unit ended with `{other}`") }),
        }
    }
}

#[cfg(test)]
mod tests;
