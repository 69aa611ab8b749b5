//! The daemon's end of the pipe to the importer.
//!
//! Owns: the process, the frames that go in and the lines that come out. Refuses to know: what is asked of
//! which peer. The importer ends when its pipe is closed, which dropping [`Import`] does.

use std::ffi::OsString;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};

use blixard_types::{ClosureRef, Manifest};
use tokio::sync::mpsc;

use super::root::closure_line;
use super::{Answer, Order, frame, record};

/// What the pipe holds: as much as Linux lets any process have.
const PIPE_BYTES: usize = 1 << 20;
/// Frames are written in runs of about this many bytes.
const RUN: usize = 256 << 10;
/// Answers that may wait; the importer waits beyond that.
const ANSWERS_QUEUED: usize = 64;

/// How the importer is started: program and arguments.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImporterCommand(pub Vec<OsString>);

/// An importer that runs.
#[derive(Debug)]
pub(crate) struct Import {
    pub(crate) pipe: Pipe,
    pub(crate) answers: mpsc::Receiver<Answer>,
}

/// The way in, shared by all lanes.
#[derive(Debug, Clone)]
pub(crate) struct Pipe(Arc<Mutex<ChildStdin>>);

/// One lane's frames, which go in whole and in their order.
#[derive(Debug)]
pub(crate) struct LaneWriter {
    pipe: Pipe,
    lane: u8,
    waiting: Vec<u8>,
}

impl Import {
    /// Starts an importer and tells it which closure; its first answer is what is missing.
    pub(crate) async fn begin(
        command: &ImporterCommand,
        closure: ClosureRef,
        manifest: Arc<Manifest>,
    ) -> io::Result<Self> {
        let (stdin, stdout, child) = start(command)?;
        let (sender, answers) = mpsc::channel(ANSWERS_QUEUED);
        // Ends with the importer, which ends with the pipe.
        drop(
            std::thread::Builder::new()
                .name("importer".to_owned())
                .spawn(move || read(stdout, child, &sender))?,
        );
        let pipe = Pipe(Arc::new(Mutex::new(stdin)));
        let to = pipe.clone();
        let told = tokio::task::spawn_blocking(move || tell_manifest(&to, &closure, &manifest)).await;
        let mut import = Self { pipe, answers };
        match told.map_err(io::Error::other)? {
            Ok(()) => Ok(import),
            // It has hung up; it may have said why.
            Err(error) => Err(match import.answers.recv().await {
                Some(Answer::Failed { reason }) => io::Error::other(reason),
                _ => error,
            }),
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the adapter around this process")]
fn start(command: &ImporterCommand) -> io::Result<(ChildStdin, ChildStdout, Child)> {
    let (program, arguments) = command.0.split_first().ok_or(io::ErrorKind::InvalidInput)?;
    let mut child =
        Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (stdin, stdout) = child.stdin.take().zip(child.stdout.take()).ok_or(io::ErrorKind::BrokenPipe)?;
    // A smaller pipe only makes it slower.
    let _ = rustix::pipe::fcntl_setpipe_size(&stdin, PIPE_BYTES);
    Ok((stdin, stdout, child))
}

fn read(stdout: ChildStdout, mut child: Child, answers: &mpsc::Sender<Answer>) {
    for line in BufReader::new(stdout).lines() {
        let Ok(line) = line else { break };
        let answer = Answer::parse(&line)
            .unwrap_or_else(|| Answer::Failed { reason: format!("the importer says {line:?}") });
        // With nobody left to hear it, the importer is about to end, too.
        let _ = answers.blocking_send(answer);
    }
    let status = child.wait();
    tracing::debug!(?status, "an importer has ended");
}

fn tell_manifest(pipe: &Pipe, closure: &ClosureRef, manifest: &Manifest) -> io::Result<()> {
    let mut lane = LaneWriter::new(pipe.clone(), 0);
    lane.put(Order::Closure(closure_line(closure).as_bytes()))?;
    for one in manifest.records() {
        lane.put(Order::Record(record::to_line(one).as_bytes()))?;
    }
    lane.put(Order::Check)?;
    lane.flush()
}

impl LaneWriter {
    pub(crate) fn new(pipe: Pipe, lane: u8) -> Self {
        Self { pipe, lane, waiting: Vec::with_capacity(RUN) }
    }

    /// Takes an order; it goes in with the next run. Waits for the importer where it is behind.
    pub(crate) fn put(&mut self, order: Order<'_>) -> io::Result<()> {
        frame::put(&mut self.waiting, self.lane, order);
        if self.waiting.len() >= RUN { self.flush() } else { Ok(()) }
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        let mut stdin = self.pipe.0.lock().unwrap_or_else(PoisonError::into_inner);
        stdin.write_all(&self.waiting)?;
        self.waiting.clear();
        Ok(())
    }
}
