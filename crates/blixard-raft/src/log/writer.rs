//! The one thread that writes the log.
//!
//! Owns group commit: it drains its queue, makes all of it durable with one commit, and only then
//! answers. Refuses to go on after a failure: an fsync that failed may have lost earlier writes
//! without a trace, so it is never tried again, and all later writes are refused.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::JoinHandle;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};

use super::engine::{EngineError, LogEngine, Write};
use super::tail::Tail;
use crate::stop::StopCause;
use crate::types::TypeConfig;

/// Jobs that may wait. openraft gathers up to 4,096 entries into one append, so a queue this long
/// holds more than a second of the fastest disk; beyond it openraft's own task waits.
const QUEUE_JOBS: usize = 256;

/// What the writer is asked for.
pub(crate) enum Job {
    /// Entries up to `last`; the callback is called once they are durable.
    Append { writes: Vec<Write>, last: u64, done: IOFlushed<TypeConfig> },
    /// One write that the caller waits for.
    Wait { write: Write, done: oneshot::Sender<Result<(), io::Error>> },
    /// Writes that are in order with all others but not worth a commit: they go with the next one.
    Later(Vec<Write>),
}

/// The running thread. It ends, after writing all that is queued, when the last sender is gone.
#[derive(Debug)]
pub(crate) struct WriterThread(JoinHandle<()>);

impl WriterThread {
    /// Waits for its end; blocks.
    pub(crate) fn join(self) {
        if self.0.join().is_err() {
            tracing::error!("the log writer has panicked");
        }
    }
}

/// Starts the thread.
pub(crate) fn start(
    engine: Arc<dyn LogEngine>,
    tail: Arc<Tail>,
    stop: StopCause,
) -> io::Result<(mpsc::Sender<Job>, WriterThread)> {
    let (sender, jobs) = mpsc::channel(QUEUE_JOBS);
    let writer = Writer { engine, tail, stop, pending: Vec::new(), failed: false };
    let thread =
        std::thread::Builder::new().name("blixard-log".to_owned()).spawn(move || writer.run(jobs))?;
    Ok((sender, WriterThread(thread)))
}

struct Writer {
    engine: Arc<dyn LogEngine>,
    tail: Arc<Tail>,
    stop: StopCause,
    /// What the next commit will hold.
    pending: Vec<Write>,
    failed: bool,
}

/// Who is told when a batch is durable.
enum Waiter {
    Append { last: u64, done: IOFlushed<TypeConfig> },
    Write { done: oneshot::Sender<Result<(), io::Error>> },
}

impl Writer {
    fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        let mut batch = Vec::with_capacity(QUEUE_JOBS);
        let mut waiters = Vec::new();
        while jobs.blocking_recv_many(&mut batch, QUEUE_JOBS) > 0 {
            for job in batch.drain(..) {
                self.take(job, &mut waiters);
            }
            if !waiters.is_empty() {
                self.commit();
                for waiter in waiters.drain(..) {
                    self.answer(waiter);
                }
            }
        }
        if !self.pending.is_empty() {
            self.commit();
        }
    }

    fn take(&mut self, job: Job, waiters: &mut Vec<Waiter>) {
        match job {
            Job::Append { mut writes, last, done } => {
                self.pending.append(&mut writes);
                waiters.push(Waiter::Append { last, done });
            }
            Job::Wait { write, done } => {
                self.pending.push(write);
                waiters.push(Waiter::Write { done });
            }
            Job::Later(mut writes) => self.pending.append(&mut writes),
        }
    }

    fn commit(&mut self) {
        if !self.failed {
            // A panic that ended this thread would leave all who wait without an answer.
            let committed = catch_unwind(AssertUnwindSafe(|| self.engine.commit(&self.pending)));
            if let Err(error) = committed.unwrap_or(Err(EngineError::Panicked)) {
                self.failed = true;
                self.stop.fail(&error);
            }
        }
        self.pending.clear();
    }

    fn answer(&self, waiter: Waiter) {
        match waiter {
            Waiter::Append { last, done } => {
                if !self.failed {
                    self.tail.durable_to(last);
                }
                done.io_completed(self.outcome());
            }
            // Who no longer waits does not need the answer.
            Waiter::Write { done } => drop(done.send(self.outcome())),
        }
    }

    fn outcome(&self) -> Result<(), io::Error> {
        if self.failed { Err(io::Error::other(self.stop.or(&"the log has failed"))) } else { Ok(()) }
    }
}
