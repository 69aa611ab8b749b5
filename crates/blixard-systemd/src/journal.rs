//! The port [`Journal`] by a `journalctl` child for each open log.
//!
//! Owns: the child and its arguments. Refuses to know: how an entry is written (see `entry`), and
//! who reads.

mod entry;

use std::path::{Path, PathBuf};
use std::process::Stdio;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::journal::{Journal, JournalError, LogLine, LogLines, LogQuery};
use blixard_types::unit::RunUnitName;
use futures_util::stream;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::process::{Child, ChildStderr, ChildStdout, Command};

/// Longest entry that is read: journald cuts a line of output at 48 KiB, each byte of which takes at
/// most five characters in JSON. A longer entry is dropped.
const ENTRY_MAX: usize = 1 << 20;

/// As much of what `journalctl` says about its own failure as an error quotes.
const COMPLAINT_MAX: u64 = 1024;

/// Reads the journal with `journalctl`.
#[derive(Debug, Clone)]
pub struct Journalctl {
    program: PathBuf,
}

impl Journalctl {
    /// With this program: a path, or a name that is looked up in `PATH`.
    pub fn new(program: impl Into<PathBuf>) -> Self {
        Self { program: program.into() }
    }
}

impl Journal for Journalctl {
    fn lines(&self, unit: RunUnitName, query: LogQuery) -> BoxFuture<'_, Result<LogLines, JournalError>> {
        Box::pin(async move {
            let reading = Reading::open(&self.program, &unit, query)?;
            let lines: LogLines = Box::pin(stream::unfold(Some(reading), Reading::step));
            Ok(lines)
        })
    }
}

/// Matches on fields that journald itself writes, so that neither systemd's messages about the unit
/// nor another program's claims are among the lines.
fn arguments(unit: &RunUnitName, query: LogQuery) -> Vec<String> {
    let lines = query.tail.map_or_else(|| "all".to_owned(), |count| count.to_string());
    let mut arguments = vec![
        "--output=json".to_owned(),
        "--output-fields=MESSAGE".to_owned(),
        // Otherwise a field above 4 KiB is shown as null.
        "--all".to_owned(),
        "--no-pager".to_owned(),
        "--quiet".to_owned(),
        format!("--lines={lines}"),
    ];
    if query.follow {
        arguments.push("--follow".to_owned());
    }
    arguments.push(format!("_SYSTEMD_UNIT={unit}"));
    arguments.push("_TRANSPORT=stdout".to_owned());
    arguments
}

/// One child whose output is read.
struct Reading {
    child: Child,
    output: BufReader<ChildStdout>,
    complaints: ChildStderr,
}

/// The next entry of the output.
enum Next {
    Line(LogLine),
    /// Too long, or no line of output.
    Skipped,
    End,
}

impl Reading {
    fn open(program: &Path, unit: &RunUnitName, query: LogQuery) -> Result<Self, JournalError> {
        #[expect(clippy::disallowed_methods, reason = "the adapter's one wrapper of journalctl")]
        let mut command = Command::new(program);
        let mut child = command
            .args(arguments(unit, query))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| broken(format!("{}: {error}", program.display())))?;
        let (Some(output), Some(complaints)) = (child.stdout.take(), child.stderr.take()) else {
            return Err(broken("journalctl has no output".to_owned()));
        };
        Ok(Self { child, output: BufReader::new(output), complaints })
    }

    /// The next item of the stream; a failure is the last.
    async fn step(reading: Option<Self>) -> Option<(Result<LogLine, JournalError>, Option<Self>)> {
        let mut reading = reading?;
        loop {
            match reading.next().await {
                Ok(Next::Line(line)) => return Some((Ok(line), Some(reading))),
                Ok(Next::Skipped) => {}
                Ok(Next::End) => return reading.verdict().await.err().map(|error| (Err(error), None)),
                Err(error) => return Some((Err(broken(error.to_string())), None)),
            }
        }
    }

    async fn next(&mut self) -> std::io::Result<Next> {
        let mut bytes = Vec::new();
        let limit = u64::try_from(ENTRY_MAX).unwrap_or(u64::MAX);
        (&mut self.output).take(limit).read_until(b'\n', &mut bytes).await?;
        if bytes.is_empty() {
            return Ok(Next::End);
        }
        if bytes.len() == ENTRY_MAX && bytes.last() != Some(&b'\n') {
            tracing::warn!(limit, "an entry of the journal is too long to be read");
            self.skip_line().await?;
            return Ok(Next::Skipped);
        }
        Ok(entry::parse(&bytes).map_or(Next::Skipped, Next::Line))
    }

    async fn skip_line(&mut self) -> std::io::Result<()> {
        loop {
            let buffer = self.output.fill_buf().await?;
            let end = buffer.iter().position(|&byte| byte == b'\n');
            let (length, has_ended) = (buffer.len(), buffer.is_empty() || end.is_some());
            self.output.consume(end.map_or(length, |at| at + 1));
            if has_ended {
                return Ok(());
            }
        }
    }

    /// How the child has ended.
    async fn verdict(&mut self) -> Result<(), JournalError> {
        let mut complaint = Vec::new();
        let mut complaints = (&mut self.complaints).take(COMPLAINT_MAX);
        let read = complaints.read_to_end(&mut complaint).await;
        let status = self.child.wait().await.map_err(|error| broken(error.to_string()))?;
        read.map_err(|error| broken(error.to_string()))?;
        if status.success() {
            return Ok(());
        }
        let complaint = String::from_utf8_lossy(&complaint);
        Err(broken(format!("{status}: {}", complaint.trim())))
    }
}

fn broken(reason: String) -> JournalError {
    JournalError { reason }
}

#[cfg(test)]
mod tests;
