//! A [`Confinement`] of child processes: every limit of the port, none of its walls.
//!
//! Owns: running programs as the caller, within bounds. Refuses to know: users, name spaces, cgroups;
//! what is run with this must be trusted.

pub mod contract;

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::confined::{
    ConfinedError, ConfinedOutput, ConfinedProgram, Confinement, LimitReached, Limits, ProgramEnd, StderrSink,
};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

const CHUNK: usize = 64 * 1024;

/// Runs the program with a limit on its private memory, in KiB.
const WITH_LIMIT: &str = r#"ulimit -d "$1"; shift; exec "$@""#;

/// Runs programs as children.
#[derive(Debug, Clone, Copy, Default)]
pub struct ChildProcesses;

impl Confinement for ChildProcesses {
    fn run<'a>(
        &'a self,
        program: ConfinedProgram,
        stderr: StderrSink<'a>,
    ) -> BoxFuture<'a, Result<ConfinedOutput, ConfinedError>> {
        Box::pin(async move {
            let limit = program.limits.time_ms;
            let running = run(&program, stderr);
            tokio::time::timeout(Duration::from_millis(limit), running)
                .await
                .unwrap_or(Err(ConfinedError::Limit(LimitReached::Time(limit))))
        })
    }
}

async fn run(program: &ConfinedProgram, stderr: StderrSink<'_>) -> Result<ConfinedOutput, ConfinedError> {
    let mut child = start(program)?;
    let family = Family::of(&child);
    let (Some(out), Some(err)) = (child.stdout.take(), child.stderr.take()) else {
        return Err(ConfinedError::Lost { reason: "it has no streams".to_owned() });
    };
    let Limits { stdout_max, stderr_max, .. } = program.limits;
    let mut stdout = Vec::new();
    let mut keep = |bytes: &[u8]| stdout.extend_from_slice(bytes);
    tokio::try_join!(read(out, stdout_max, &mut keep), read(err, stderr_max, stderr))?;
    let status = child.wait().await.map_err(|cause| lost(&cause))?;
    family.has_ended();
    Ok(ConfinedOutput { end: end(status), stdout })
}

/// A child and its children, which are killed together when the wait for them is given up: a shell that is
/// killed alone leaves what it runs.
struct Family(Option<Pid>);

impl Family {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| Pid::from_raw(id.try_into().ok()?)))
    }

    /// Its number may be another's from now on.
    fn has_ended(mut self) {
        self.0 = None;
    }
}

impl Drop for Family {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // It fails where they are gone already.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the fake's programs are its children")]
fn start(program: &ConfinedProgram) -> Result<Child, ConfinedError> {
    let name = program.argv.first().map_or("", String::as_str);
    if !std::path::Path::new(name).is_file() {
        return Err(ConfinedError::Start { reason: format!("{name} cannot be executed") });
    }
    Command::new("/bin/sh")
        .args(["-c", WITH_LIMIT, "sh", &(program.limits.memory_max >> 10).to_string()])
        .args(&program.argv)
        .env_clear()
        .envs(&program.environment)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|cause| ConfinedError::Start { reason: cause.to_string() })
}

fn end(status: ExitStatus) -> ProgramEnd {
    match (status.code(), status.signal()) {
        (Some(code), _) => ProgramEnd::Exited(code),
        (None, signal) => ProgramEnd::Killed(signal.unwrap_or_default()),
    }
}

async fn read(
    mut stream: impl AsyncRead + Unpin,
    max: u64,
    sink: &mut (dyn FnMut(&[u8]) + Send),
) -> Result<(), ConfinedError> {
    let mut chunk = vec![0; CHUNK];
    let mut seen = 0;
    loop {
        let count = stream.read(&mut chunk).await.map_err(|cause| lost(&cause))?;
        let Some(bytes) = chunk.get(..count).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        seen += count as u64;
        if seen > max {
            return Err(ConfinedError::Limit(LimitReached::Output(max)));
        }
        sink(bytes);
    }
}

fn lost(cause: &io::Error) -> ConfinedError {
    ConfinedError::Lost { reason: cause.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_fake_keeps_the_contract() {
        contract::confinement_contract(&ChildProcesses).await.unwrap();
    }
}
