//! The log store, by openraft's own suite and by what the suite does not ask.

use std::ops::Range;
use std::sync::{Arc, Mutex, mpsc};

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use tempfile::TempDir;
use tokio::task::{JoinSet, spawn_blocking};

use super::engine::{EngineError, LogEngine, Slot, Write};
use super::segments::BadSegments;
use super::store::{FoundLog, LogOpenError, LogStore};
use super::tail::Readable;
use super::{FileDisk, Segments, WriterHandle};
use crate::LogDisk as _;
use crate::alive;
use crate::checkpoint::CheckpointStore;
use crate::files::RealFiles;
use crate::machine::{DueCheckpoints, Machine};
use crate::offload::Offload;
use crate::record;
use crate::stop::StopCause;
use crate::testing::{Disk, Keep, Recorder};
use crate::types::{Cmd, Entry, StoredMembership, TypeConfig, Vote, log_id};

mod full_disk;

struct Builder;

impl StoreBuilder<TypeConfig, LogStore, Machine, TempDir> for Builder {
    async fn build(&self) -> Result<(TempDir, LogStore, Machine), openraft::StorageError<TypeConfig>> {
        let directory = tempfile::tempdir().unwrap();
        let engine = FileDisk::open(&directory.path().join("log")).unwrap();
        let engine = Segments::open(Box::new(engine), SEGMENT_BYTES).unwrap();
        let (alive, _) = alive::watch();
        let stop = StopCause::default();
        let found = FoundLog::read(0, Arc::new(engine)).unwrap();
        let (log, _) = LogStore::start(found, stop.clone(), alive.clone(), &Offload::Threads).unwrap();
        let checkpoints = directory.path().join("checkpoints");
        let (checkpoints, _) =
            CheckpointStore::open(Arc::new(RealFiles), Offload::Threads, &checkpoints).unwrap();
        let machine = Machine {
            replicated: Recorder::new(),
            checkpoints: Arc::new(checkpoints),
            applied: None,
            membership: StoredMembership::default(),
            stop,
            offload: Offload::Threads,
            due: DueCheckpoints::new(u64::MAX).0,
            alive,
        };
        Ok((directory, log, machine))
    }
}

// The suite sleeps while a purge might go on.
#[tokio::test(start_paused = true)]
async fn the_store_passes_the_suite_of_openraft() {
    Suite::test_all(Builder).await.unwrap();
}

/// So many that a few hundred entries fill some.
const SEGMENT_BYTES: u64 = 256 * 1024;

fn segments(disk: &Disk) -> Result<Segments, BadSegments> {
    Segments::open(Box::new(disk.clone()), SEGMENT_BYTES)
}

fn open(disk: &Disk) -> Result<(LogStore, WriterHandle), LogOpenError> {
    open_as(1, segments(disk).unwrap(), StopCause::default())
}

fn open_as(
    node: u64,
    engine: impl LogEngine,
    stop: StopCause,
) -> Result<(LogStore, WriterHandle), LogOpenError> {
    let found = FoundLog::read(node, Arc::new(engine))?;
    LogStore::start(found, stop, alive::watch().0, &Offload::Threads)
}

#[test]
fn a_log_that_is_opened_again_and_again_does_not_grow() {
    let disk = Disk::new();
    open(&disk).map(drop).unwrap();
    let before = segments(&disk).unwrap();
    let (node, sealed) = (before.note(Slot::Node).unwrap(), disk.size());
    for _ in 0..200 {
        FoundLog::read(1, Arc::new(segments(&disk).unwrap())).unwrap();
    }
    assert_eq!((segments(&disk).unwrap().note(Slot::Node).unwrap(), disk.size()), (node, sealed));
    assert!(segments(&disk).unwrap().was_sealed());
}

fn command(index: u64, bytes: Vec<u8>) -> Entry {
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(Cmd(Bytes::from(bytes))) }
}

fn commands(count: u64) -> Vec<Entry> {
    (0..count).map(|index| command(index, index.to_be_bytes().to_vec())).collect()
}

/// Ends the store, so that all it has queued is written.
async fn close(log: LogStore, writer: WriterHandle) {
    drop(log);
    writer.ended().await;
}

#[tokio::test]
async fn entries_can_be_read_before_they_are_durable() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    disk.break_down();

    log.append(commands(3), IOFlushed::noop()).await.unwrap();

    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(0..3).await.unwrap(), commands(3));
    drop(reader);
    close(log, writer).await;
}

#[tokio::test]
async fn entries_that_no_longer_fit_in_memory_are_read_from_disk() {
    let (mut log, writer) = open(&Disk::new()).unwrap();
    let large: Vec<Entry> = (0..256).map(|index| command(index, vec![7; 64 * 1024])).collect();
    for entries in large.chunks(16) {
        log.blocking_append(entries.to_vec()).await.unwrap();
    }
    let Readable { on_disk, held, .. } = log.tail().read(0..256);
    assert!(!on_disk.is_empty() && !held.is_empty(), "{on_disk:?}");

    let mut reader = log.get_log_reader().await;

    assert!(reader.try_get_log_entries(..).await.unwrap() == large);
    assert!(reader.try_get_log_entries(3..5).await.unwrap() == large[3..5]);
    drop(reader);
    close(log, writer).await;
}

#[tokio::test]
async fn a_log_is_found_again_as_it_was_left() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    log.save_vote(&Vote::new_committed(1, 1)).await.unwrap();
    log.blocking_append(commands(10)).await.unwrap();
    log.truncate_after(Some(log_id(1, 7))).await.unwrap();
    log.save_committed(Some(log_id(1, 6))).await.unwrap();
    log.purge(log_id(1, 2)).await.unwrap();
    close(log, writer).await;

    let (mut log, writer) = open(&disk).unwrap();

    let state = log.get_log_state().await.unwrap();
    assert_eq!(state.last_purged_log_id, Some(log_id(1, 2)));
    assert_eq!(state.last_log_id, Some(log_id(1, 7)));
    assert_eq!(log.read_committed().await.unwrap(), Some(log_id(1, 6)));
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new_committed(1, 1)));
    assert_eq!(reader.try_get_log_entries(..).await.unwrap(), commands(10)[3..8]);
    drop(reader);
    close(log, writer).await;
}

#[tokio::test]
async fn a_vote_and_entries_that_were_answered_survive_a_crash() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    log.save_vote(&Vote::new(6, 1)).await.unwrap();
    log.blocking_append(commands(5)).await.unwrap();
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    let found = disk.after_a_crash(Keep::Nothing);
    close(log, writer).await;

    let (mut log, writer) = open(&found).unwrap();

    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(7, 1)));
    assert_eq!(reader.try_get_log_entries(..).await.unwrap(), commands(5));
    drop(reader);
    close(log, writer).await;
}

#[tokio::test]
async fn after_a_failed_sync_every_write_is_refused() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    disk.break_down();

    log.blocking_append(commands(1)).await.unwrap_err();
    let writes = disk.writes();
    log.save_vote(&Vote::new(7, 1)).await.unwrap_err();

    assert_eq!(disk.writes(), writes);
    close(log, writer).await;
}

#[tokio::test]
async fn writes_that_are_queued_behind_a_sync_share_the_next_one() {
    const QUEUED: u64 = 50;
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    let syncs_before = disk.syncs();
    disk.hold_syncs();

    let mut answers = Vec::new();
    for entry in commands(QUEUED) {
        let (done, answer) = TypeConfig::oneshot();
        log.append([entry], IOFlushed::signal(done)).await.unwrap();
        answers.push(answer);
    }
    disk.let_syncs_go();
    for answer in answers {
        answer.await.unwrap().unwrap();
    }

    // One for the first, if the writer took it alone, and one for all behind it.
    let syncs = disk.syncs() - syncs_before;
    assert!(syncs <= 2, "{syncs} syncs for {QUEUED} writes");
    close(log, writer).await;
}

/// An engine that breaks one of its own assumptions when an entry is put.
#[derive(Debug)]
struct Panics;

impl LogEngine for Panics {
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError> {
        assert!(!writes.iter().any(|write| matches!(write, Write::Put { .. })), "as intended");
        Ok(())
    }

    fn read(&self, _: Range<u64>, _: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        Ok(Vec::new())
    }

    fn note(&self, _: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        Ok(None)
    }
}

#[tokio::test]
async fn a_panic_of_the_engine_is_answered_as_a_failure() {
    let stop = StopCause::default();
    let (mut log, writer) = open_as(1, Panics, stop.clone()).unwrap();

    log.blocking_append(commands(1)).await.unwrap_err();

    assert_eq!(stop.or(&""), "the log's engine has panicked");
    close(log, writer).await;
}

/// A log whose disk was written by `writes`.
fn written(writes: &[Write]) -> Disk {
    let disk = Disk::new();
    segments(&disk).unwrap().commit(writes).unwrap();
    disk
}

fn put(entry: &Entry) -> Write {
    Write::Put { index: entry.log_id.index, record: record::encode_entry(entry).unwrap() }
}

#[test]
fn a_bad_entry_is_found_when_the_log_is_opened() {
    let [first, second] = [put(&commands(2)[0]), Write::Put { index: 1, record: vec![1, 1, 0] }];

    let refused = open(&written(&[first, second])).unwrap_err();

    assert_eq!(refused.to_string(), "the log's entry 1 is bad");
}

#[test]
fn a_bad_note_is_found_when_the_log_is_opened() {
    let vote = Write::Note { slot: Slot::Vote, record: vec![9] };

    let refused = open(&written(&[vote])).unwrap_err();

    assert_eq!(refused.to_string(), "the log's note `vote` is bad");
}

#[test]
fn a_missing_entry_is_found_when_the_log_is_opened() {
    let entries = commands(3);

    let refused = open(&written(&[put(&entries[0]), put(&entries[2])])).unwrap_err();

    assert!(matches!(refused, LogOpenError::Hole { expected: 1, found: 2 }), "{refused}");
}

#[tokio::test]
async fn damage_anywhere_in_the_file_is_refused_or_harmless() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    log.blocking_append(commands(50)).await.unwrap();
    close(log, writer).await;
    let mut refused = 0;

    for offset in (0..disk.size()).step_by(997) {
        let damaged = disk.with_a_flipped_byte(offset);
        let Ok(engine) = segments(&damaged) else {
            refused += 1;
            continue;
        };
        match open_as(1, engine, StopCause::default()) {
            Err(_) => refused += 1,
            Ok((mut log, writer)) => {
                let mut reader = log.get_log_reader().await;
                assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(7, 1)), "at {offset}");
                assert_eq!(reader.try_get_log_entries(..).await.unwrap(), commands(50), "at {offset}");
                drop(reader);
                close(log, writer).await;
            }
        }
    }

    assert!(refused > 0);
}

#[tokio::test]
async fn a_follower_is_sent_nothing_rather_than_entries_that_begin_later_than_asked() {
    let (mut log, writer) = open(&Disk::new()).unwrap();
    log.blocking_append(commands(10)).await.unwrap();
    log.purge(log_id(1, 4)).await.unwrap();

    let mut reader = log.get_log_reader().await;

    assert_eq!(reader.limited_get_log_entries(3, 8).await.unwrap(), []);
    assert_eq!(reader.limited_get_log_entries(5, 8).await.unwrap(), commands(10)[5..8]);
    drop(reader);
    close(log, writer).await;
}

/// An engine that counts the bytes that are read.
#[derive(Debug)]
struct Counts {
    engine: Segments,
    read: Arc<std::sync::atomic::AtomicUsize>,
}

impl LogEngine for Counts {
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError> {
        self.engine.commit(writes)
    }

    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        let records = self.engine.read(range, limit)?;
        let bytes = records.iter().map(|(_, record)| record.len()).sum();
        self.read.fetch_add(bytes, std::sync::atomic::Ordering::Relaxed);
        Ok(records)
    }

    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        self.engine.note(slot)
    }
}

#[tokio::test]
async fn for_a_message_to_a_follower_little_more_is_read_than_goes_into_it() {
    const LARGE: usize = 100 << 10;
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    let large: Vec<Entry> = (0..200).map(|index| command(index, vec![7; LARGE])).collect();
    log.blocking_append(large.clone()).await.unwrap();
    close(log, writer).await;
    let read = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let counts = Counts { engine: segments(&disk).unwrap(), read: Arc::clone(&read) };
    let (mut log, writer) = open_as(1, counts, StopCause::default()).unwrap();
    let mut reader = log.get_log_reader().await;
    read.store(0, std::sync::atomic::Ordering::Relaxed);

    let sent = reader.limited_get_log_entries(0, 200).await.unwrap();

    assert_eq!(sent.len(), 11);
    let read = read.load(std::sync::atomic::Ordering::Relaxed);
    assert!(read <= 40 * LARGE, "{read} bytes were read");
    assert!(reader.try_get_log_entries(..).await.unwrap() == large, "what is asked for whole comes whole");
    drop(reader);
    close(log, writer).await;
}

/// An engine that has truncated, and says so only when it is let go.
#[derive(Debug)]
struct Slow {
    engine: Segments,
    truncated: mpsc::Sender<()>,
    go: Mutex<mpsc::Receiver<()>>,
}

impl LogEngine for Slow {
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError> {
        self.engine.commit(writes)?;
        if writes.iter().any(|write| matches!(write, Write::TruncateFrom(_))) {
            self.truncated.send(()).unwrap();
            self.go.lock().unwrap().recv().unwrap();
        }
        Ok(())
    }

    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        self.engine.read(range, limit)
    }

    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        self.engine.note(slot)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_during_a_truncation_gives_what_is_left() {
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    log.blocking_append(commands(10)).await.unwrap();
    close(log, writer).await;
    let (truncated, is_truncated) = mpsc::channel();
    let (go, go_on) = mpsc::channel();
    let slow = Slow { engine: segments(&disk).unwrap(), truncated, go: Mutex::new(go_on) };
    let (mut log, writer) = open_as(1, slow, StopCause::default()).unwrap();
    let mut reader = log.get_log_reader().await;

    let mut truncation = JoinSet::new();
    truncation.spawn(async move {
        log.truncate_after(Some(log_id(1, 6))).await.unwrap();
        log
    });
    spawn_blocking(move || is_truncated.recv().unwrap()).await.unwrap();
    let read = reader.try_get_log_entries(0..10).await;
    go.send(()).unwrap();

    assert_eq!(read.unwrap(), commands(10)[..7]);
    let log = truncation.join_next().await.unwrap().unwrap();
    assert_eq!(reader.try_get_log_entries(0..10).await.unwrap(), commands(10)[..7]);
    drop(reader);
    close(log, writer).await;
}

#[tokio::test]
async fn a_sector_that_a_log_has_lost_while_it_was_closed_is_noticed_or_harmless() {
    const SECTOR: usize = 512;
    let disk = Disk::new();
    let (mut log, writer) = open(&disk).unwrap();
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    let entries: Vec<Entry> = (0..5).map(|index| command(index, vec![7; 900])).collect();
    for entry in &entries {
        log.blocking_append([entry.clone()]).await.unwrap();
    }
    close(log, writer).await;
    let mut refused = 0;

    for offset in (0..disk.size()).step_by(SECTOR) {
        let damaged = disk.after_a_crash(Keep::Nothing);
        damaged.write(offset as u64, &[0; SECTOR]).unwrap();
        damaged.sync().unwrap();
        let Ok((mut log, writer)) =
            segments(&damaged).map(|engine| open_as(1, engine, StopCause::default()).unwrap())
        else {
            refused += 1;
            continue;
        };
        let mut reader = log.get_log_reader().await;
        assert_eq!(reader.read_vote().await.unwrap(), Some(Vote::new(7, 1)), "at {offset}");
        assert_eq!(reader.try_get_log_entries(..).await.unwrap(), entries, "at {offset}");
        drop(reader);
        close(log, writer).await;
    }

    assert!(refused > 5, "{refused}");
}
