//! The log as openraft sees it.
//!
//! Owns opening (every record is read and checked, so a bad one is found before it matters), and the
//! translation of openraft's calls into jobs of the writer and reads of the tail or the engine.

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use tokio::sync::{mpsc, oneshot};

use super::engine::{self, EngineError, LogEngine, Slot, Write};
use super::tail::{Ends, Readable, Tail};
use super::writer::{self, Job, Seal, WriterHandle};
use crate::alive::Alive;
use crate::offload::Offload;
use crate::record::{self, BadRecord};
use crate::stop::StopCause;
use crate::types::{Entry, LogId, TypeConfig, Vote};
use crate::wire;

/// Records read per step: some may have almost a mebibyte each.
const STEP_RECORDS: usize = 32;

/// How much one message to a follower holds, the last entry aside: far more than a batch of usual
/// entries, and far less than what a gRPC message may have.
const MESSAGE_BYTES: usize = 1024 * 1024;

/// Why a log cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum LogOpenError {
    /// The engine failed.
    #[error("the log's engine failed")]
    Engine(#[from] EngineError),
    /// An entry is not what was written.
    #[error("the log's entry {index} is bad")]
    BadEntry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        #[source]
        source: BadRecord,
    },
    /// A note is not what was written.
    #[error("the log's note `{slot}` is bad")]
    BadNote {
        /// Which note.
        slot: &'static str,
        /// What is wrong with it.
        #[source]
        source: BadRecord,
    },
    /// An entry is missing.
    #[error("the log lacks entry {expected}: the next one is {found}")]
    Hole {
        /// The index that should be there.
        expected: u64,
        /// The index that is.
        found: u64,
    },
    /// The log belongs to another node.
    #[error("the log belongs to node {found}, not to node {expected}")]
    OtherNode {
        /// Who opened it.
        expected: u64,
        /// Whose it is.
        found: u64,
    },
    /// The writer thread could not be started.
    #[error("cannot start the log's writer thread")]
    Thread(#[source] io::Error),
}

/// A log that was read from end to end and is whole.
#[derive(Debug)]
pub(crate) struct FoundLog {
    pub(super) engine: Arc<dyn LogEngine>,
    pub(super) ends: Ends,
    seal: Seal,
}

impl FoundLog {
    /// Checks the log of `node`.
    pub(crate) fn read(node: u64, engine: Arc<dyn LogEngine>) -> Result<Self, LogOpenError> {
        claim(engine.as_ref(), node)?;
        let ends = scan(engine.as_ref())?;
        // Once is enough: a daemon that is started again and again would fill the disk.
        let seal = if engine.was_sealed() { Seal::Last } else { seal(engine.as_ref())? };
        Ok(Self { engine, ends, seal })
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Option<LogId> {
        self.ends.purged
    }
}

/// Reads the log; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct LogReader {
    tail: Arc<Tail>,
    engine: Arc<dyn LogEngine>,
    /// Dropped last: tells whoever waits that the engine is let go of.
    _alive: Alive,
}

/// Reads and writes the log.
#[derive(Debug)]
pub(crate) struct LogStore {
    jobs: mpsc::Sender<Job>,
    reader: LogReader,
}

impl LogStore {
    /// Starts the writer of a log that was found.
    pub(crate) fn start(
        found: FoundLog,
        stop: StopCause,
        alive: Alive,
        offload: &Offload,
    ) -> Result<(Self, WriterHandle), LogOpenError> {
        let FoundLog { engine, ends, seal } = found;
        let tail = Arc::new(Tail::found(ends));
        let started = writer::start((Arc::clone(&engine), seal), Arc::clone(&tail), stop, offload);
        let (jobs, writer) = started.map_err(LogOpenError::Thread)?;
        Ok((Self { jobs, reader: LogReader { tail, engine, _alive: alive } }, writer))
    }

    /// The log in memory.
    pub(crate) fn tail(&self) -> Arc<Tail> {
        Arc::clone(&self.reader.tail)
    }

    async fn send(&self, job: Job) -> Result<(), io::Error> {
        self.jobs.send(job).await.map_err(|_| writer_gone())
    }

    async fn write(&self, write: Write) -> Result<(), io::Error> {
        let (done, answer) = oneshot::channel();
        self.send(Job::Wait { write, done }).await?;
        answer.await.map_err(|_| writer_gone())?
    }
}

fn writer_gone() -> io::Error {
    io::Error::other("the log's writer thread has ended")
}

/// Notes whose log this is, or finds that it is another's.
fn claim(engine: &dyn LogEngine, node: u64) -> Result<(), LogOpenError> {
    let slot = Slot::Node;
    match note(engine, slot, record::decode_node)? {
        Some(found) if found == node => Ok(()),
        Some(found) => Err(LogOpenError::OtherNode { expected: node, found }),
        None => {
            let record = record::encode_node(slot.key(), node);
            Ok(engine.commit(&[Write::Note { slot, record }])?)
        }
    }
}

/// Seals the log. On a full disk it is opened all the same: what is written next does what the seal does, and it is
/// sealed when it is closed.
fn seal(engine: &dyn LogEngine) -> Result<Seal, EngineError> {
    match engine::seal(engine) {
        Ok(()) => Ok(Seal::Last),
        Err(error @ EngineError::NoRoom(_)) => {
            tracing::warn!(error = blixard_types::chain(&error), "the log is opened without a seal");
            Ok(Seal::Due)
        }
        Err(error) => Err(error),
    }
}

/// Reads all that is there.
fn scan(engine: &dyn LogEngine) -> Result<Ends, LogOpenError> {
    let purged = note(engine, Slot::Purged, record::decode_log_id)?;
    let mut last = purged;
    let mut next = purged.map_or(0, |id| id.index + 1);
    loop {
        let records = engine.read(next..u64::MAX, STEP_RECORDS)?;
        if records.is_empty() {
            break;
        }
        for (index, bytes) in records {
            if index != next {
                return Err(LogOpenError::Hole { expected: next, found: index });
            }
            let entry = record::decode_entry(index, &bytes);
            last = Some(entry.map_err(|source| LogOpenError::BadEntry { index, source })?.log_id);
            next = index + 1;
        }
    }
    let vote = note(engine, Slot::Vote, record::decode_vote)?;
    let committed = note(engine, Slot::Committed, record::decode_log_id)?;
    Ok(Ends { vote, committed, purged, last })
}

fn note<T>(
    engine: &dyn LogEngine,
    slot: Slot,
    decode: impl Fn(&str, &[u8]) -> Result<T, BadRecord>,
) -> Result<Option<T>, LogOpenError> {
    let found = engine.note(slot)?;
    let decoded = found.map(|bytes| decode(slot.key(), &bytes)).transpose();
    decoded.map_err(|source| LogOpenError::BadNote { slot: slot.key(), source })
}

fn half_open(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(index) => *index,
        Bound::Excluded(index) => index.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(index) => index.saturating_add(1),
        Bound::Excluded(index) => *index,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl LogReader {
    /// Entries of the range: all that are there, or, where more than `most` bytes are on disk, the first of them.
    fn entries(&self, range: Range<u64>, most: usize) -> Result<Vec<Entry>, io::Error> {
        loop {
            // The tail first: what leaves it in between is on disk by then.
            let Readable { on_disk, held, cuts } = self.tail.read(range.clone());
            if on_disk.is_empty() {
                return Ok(held);
            }
            let read = self.read_disk(on_disk.clone(), most);
            // Entries went meanwhile, because the leadership did or they are old: what is left is read anew.
            if self.tail.cuts() != cuts {
                continue;
            }
            let mut entries = read?;
            if entries.last().is_some_and(|last| last.log_id.index + 1 == on_disk.end) {
                entries.extend(held);
            }
            return Ok(entries);
        }
    }

    /// Entries that are on disk: all of them, or the first, that come to `most` bytes.
    fn read_disk(&self, range: Range<u64>, most: usize) -> Result<Vec<Entry>, io::Error> {
        let (mut entries, mut next, mut bytes) = (Vec::new(), range.start, 0);
        while next < range.end && bytes < most {
            let records = self.engine.read(next..range.end, STEP_RECORDS).map_err(io::Error::other)?;
            if records.first().is_none_or(|(index, _)| *index != next) {
                return Err(io::Error::other(format!("the log lacks entry {next}")));
            }
            for (index, record) in records {
                if index != next {
                    break;
                }
                bytes += record.len();
                entries.push(record::decode_entry(index, &record).map_err(io::Error::other)?);
                next = index + 1;
            }
        }
        Ok(entries)
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        self.entries(half_open(&range), usize::MAX)
    }

    /// Entries for a follower: what fits into one message, and one at least. None if the first of them is
    /// gone: openraft says of what it gets that it follows what the follower has.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        let mut entries = self.entries(start..end, MESSAGE_BYTES)?;
        if entries.first().is_some_and(|first| first.log_id.index != start) {
            return Ok(Vec::new());
        }
        let mut left = MESSAGE_BYTES;
        let fits = entries.iter().take_while(|entry| {
            let fits = left > 0;
            left = left.saturating_sub(wire::entry_bytes(entry));
            fits
        });
        let count = fits.count();
        entries.truncate(count);
        Ok(entries)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.tail.ends().vote)
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let ends = self.reader.tail.ends();
        Ok(LogState { last_purged_log_id: ends.purged, last_log_id: ends.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        self.reader.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let record = record::encode_vote(Slot::Vote.key(), vote);
        self.write(Write::Note { slot: Slot::Vote, record }).await?;
        self.reader.tail.set_vote(*vote);
        Ok(())
    }

    /// Not worth an fsync of its own, nor waking the writer: it goes with the next write. What a crash
    /// takes back is found again when the node hears a commit; see `RaftNode::recovered`.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.reader.tail.set_committed(committed);
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.reader.tail.ends().committed)
    }

    async fn append<I>(&mut self, entries: I, done: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let Some(last) = entries.last().map(|entry| entry.log_id.index) else {
            done.io_completed(Ok(()));
            return Ok(());
        };
        let mut writes = Vec::with_capacity(entries.len());
        for entry in &entries {
            let record = record::encode_entry(entry).map_err(io::Error::other)?;
            writes.push(Write::Put { index: entry.log_id.index, record });
        }
        self.reader.tail.append(&entries);
        self.send(Job::Append { writes, last, done }).await
    }

    async fn truncate_after(&mut self, keep: Option<LogId>) -> Result<(), io::Error> {
        self.reader.tail.begin_truncation(keep);
        self.write(Write::TruncateFrom(keep.map_or(0, |id| id.index + 1))).await?;
        self.reader.tail.truncate_after(keep);
        Ok(())
    }

    /// The space is given back with the next write: openraft purges only what a durable checkpoint
    /// covers, and a purge that a crash takes back is done again. The note first: if there is only the
    /// note, the entries before it are not asked for; if there were only the purge, they would be.
    async fn purge(&mut self, upto: LogId) -> Result<(), io::Error> {
        self.reader.tail.purge_to(upto);
        let record = record::encode_log_id(Slot::Purged.key(), &upto);
        let note = Write::Note { slot: Slot::Purged, record };
        self.send(Job::Later(vec![note, Write::PurgeTo(upto.index)])).await
    }
}
