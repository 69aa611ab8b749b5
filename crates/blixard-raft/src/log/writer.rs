//! The one thread that writes the log; in a simulation, a task.
//!
//! Owns group commit: it drains its queue, makes all of it durable with one commit, and only then
//! answers. Refuses to go on after a failure: an fsync that failed may have lost earlier writes
//! without a trace, so it is never tried again, and all later writes are refused.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};
use tokio::task::spawn_blocking;

use super::engine::{self, EngineError, LogEngine, Slot, Write};
use super::tail::Tail;
use crate::offload::{Offload, Pace};
use crate::record;
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

/// Whether a log ends with a seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seal {
    /// It does.
    Last,
    /// Something else is the last in it.
    Due,
}

/// The running writer. It ends, after writing all that is queued, when the last sender is gone.
#[derive(Debug)]
pub(crate) enum WriterHandle {
    Thread(std::thread::JoinHandle<()>),
    Task(tokio::task::JoinHandle<()>),
}

impl WriterHandle {
    /// Waits for its end.
    pub(crate) async fn ended(self) {
        let well = match self {
            Self::Thread(thread) => spawn_blocking(move || thread.join().is_ok()).await.unwrap_or(false),
            Self::Task(task) => task.await.is_ok(),
        };
        if !well {
            tracing::error!("the log writer has not ended well");
        }
    }
}

/// Starts it.
pub(crate) fn start(
    (engine, seal): (Arc<dyn LogEngine>, Seal),
    tail: Arc<Tail>,
    stop: StopCause,
    offload: &Offload,
) -> io::Result<(mpsc::Sender<Job>, WriterHandle)> {
    let (sender, jobs) = mpsc::channel(QUEUE_JOBS);
    let writer = Writer { engine, tail, stop, pending: Vec::new(), last: 0, seal, failed: false };
    let handle = match offload {
        Offload::Threads => {
            let thread = std::thread::Builder::new().name("blixard-log".to_owned());
            WriterHandle::Thread(thread.spawn(move || writer.run(jobs))?)
        }
        Offload::Inline(pace) => {
            let run = writer.run_inline(jobs, Arc::clone(pace));
            #[expect(clippy::disallowed_methods, reason = "the handle is kept with its owner")]
            WriterHandle::Task(tokio::task::spawn(run))
        }
    };
    Ok((sender, handle))
}

struct Writer {
    engine: Arc<dyn LogEngine>,
    tail: Arc<Tail>,
    stop: StopCause,
    /// What the next commit will hold.
    pending: Vec<Write>,
    /// The last entry that is in it.
    last: u64,
    seal: Seal,
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
        while jobs.blocking_recv_many(&mut batch, QUEUE_JOBS) > 0 {
            self.write(&mut batch);
        }
        self.finish();
    }

    /// The same in a task. What waits meanwhile is queued, and lost in a crash, as with the thread.
    async fn run_inline(mut self, mut jobs: mpsc::Receiver<Job>, pace: Arc<dyn Pace>) {
        let mut batch = Vec::with_capacity(QUEUE_JOBS);
        while jobs.recv_many(&mut batch, QUEUE_JOBS).await > 0 {
            tokio::time::sleep(pace.next()).await;
            self.write(&mut batch);
        }
        self.finish();
    }

    fn write(&mut self, batch: &mut Vec<Job>) {
        let mut waiters = Vec::new();
        for job in batch.drain(..) {
            self.take(job, &mut waiters);
        }
        if !waiters.is_empty() {
            self.take_committed();
            self.commit();
            for waiter in waiters {
                self.answer(waiter);
            }
        }
    }

    fn finish(&mut self) {
        self.take_committed();
        if !self.pending.is_empty() {
            self.commit();
        }
        self.seal();
    }

    /// So that the last that was acknowledged is not the last that is in the log. Of a log that cannot take it
    /// nothing is lost.
    fn seal(&mut self) {
        if self.seal == Seal::Due && !self.failed {
            let sealed = catch_unwind(AssertUnwindSafe(|| engine::seal(self.engine.as_ref())));
            if let Err(error) = sealed.unwrap_or(Err(EngineError::Panicked)) {
                tracing::warn!(error = blixard_types::chain(&error), "the log is not sealed");
            }
        }
    }

    fn take(&mut self, job: Job, waiters: &mut Vec<Waiter>) {
        match job {
            Job::Append { mut writes, last, done } => {
                self.pending.append(&mut writes);
                self.last = last;
                waiters.push(Waiter::Append { last, done });
            }
            Job::Wait { write, done } => {
                self.pending.push(write);
                waiters.push(Waiter::Write { done });
            }
            Job::Later(mut writes) => self.pending.append(&mut writes),
        }
    }

    fn take_committed(&mut self) {
        if let Some(id) = self.tail.new_committed(self.last) {
            let slot = Slot::Committed;
            let record = record::encode_log_id(slot.key(), &id);
            self.pending.push(Write::Note { slot, record });
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
            self.seal = Seal::Due;
            self.tail.count_commit();
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
