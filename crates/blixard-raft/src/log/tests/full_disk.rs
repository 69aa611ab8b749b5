//! A log on a disk that is full.

use openraft::storage::{RaftLogReader, RaftLogStorage, RaftLogStorageExt};

use super::super::engine::{EngineError, LogEngine as _, Slot, Write};
use super::{close, command, open, segments};
use crate::LogDisk as _;
use crate::testing::{Disk, Keep};
use crate::types::{Entry, Vote};

const SECTOR: usize = 512;
/// Shorter than a seal: where one of these has no room, a seal has none.
const RECORD_BYTES: usize = 4000;

/// As many as fit into the first segment, and the disk they are on, as a loss of power leaves it.
async fn a_full_segment() -> (Vec<Entry>, Disk) {
    let disk = Disk::new();
    let (mut log, _writer) = open(&disk).unwrap();
    let first = disk.size();
    let mut entries = Vec::new();
    loop {
        let before = disk.after_a_crash(Keep::Nothing);
        let next = command(entries.len() as u64, vec![7; RECORD_BYTES]);
        log.blocking_append([next.clone()]).await.unwrap();
        if disk.size() > first {
            return (entries, before);
        }
        entries.push(next);
    }
}

#[tokio::test]
async fn a_log_without_a_seal_opens_on_a_full_disk_and_takes_what_there_is_room_for() {
    let (entries, disk) = a_full_segment().await;
    assert!(!segments(&disk).unwrap().was_sealed());
    disk.fill_up();

    let (mut log, writer) = open(&disk).unwrap();

    assert_eq!(log.get_log_reader().await.try_get_log_entries(..).await.unwrap(), entries);
    log.save_vote(&Vote::new(7, 1)).await.unwrap();
    close(log, writer).await;
    let (mut log, writer) = open(&disk.after_a_crash(Keep::Nothing)).unwrap();
    assert_eq!(log.get_log_reader().await.read_vote().await.unwrap(), Some(Vote::new(7, 1)));
    close(log, writer).await;
}

#[tokio::test]
async fn a_log_that_was_opened_on_a_full_disk_is_sealed_when_it_is_closed_and_there_is_room() {
    let (entries, disk) = a_full_segment().await;
    disk.fill_up();
    let (mut log, writer) = open(&disk).unwrap();
    disk.clear_up();

    assert_eq!(log.get_log_reader().await.try_get_log_entries(..).await.unwrap(), entries);
    close(log, writer).await;

    assert!(segments(&disk).unwrap().was_sealed());
}

#[tokio::test]
async fn a_frame_that_was_the_last_on_a_full_disk_is_no_longer_in_doubt_once_a_segment_was_begun() {
    let (entries, disk) = a_full_segment().await;
    let first = disk.size();
    disk.fill_up();
    let (mut log, _writer) = open(&disk).unwrap();
    disk.clear_up();
    let lost = |disk: Disk| {
        // A sector in the midst of the last entry, which ends before the header that is there again.
        let mut bytes = vec![0; first - SECTOR];
        disk.read(0, &mut bytes).unwrap();
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        let sector = (end - RECORD_BYTES / 2) / SECTOR * SECTOR;
        disk.write(sector as u64, &[0; SECTOR]).unwrap();
        disk.sync().unwrap();
        segments(&disk).is_err()
    };
    assert!(!lost(disk.after_a_crash(Keep::Nothing)), "nobody can tell it from a torn one");

    log.blocking_append([command(entries.len() as u64, vec![7; RECORD_BYTES])]).await.unwrap();

    assert!(lost(disk.after_a_crash(Keep::Nothing)));
}

#[test]
fn a_full_disk_changes_nothing_and_can_be_asked_again() {
    let disk = Disk::new();
    let log = segments(&disk).unwrap();
    let note = Write::Note { slot: Slot::Node, record: vec![1; 8] };
    log.commit(std::slice::from_ref(&note)).unwrap();
    let (size, batch) = (disk.size(), vec![note; 20_000]);
    disk.fill_up();

    for _ in 0..3 {
        let refused = log.make_room(&[&batch]);
        assert!(matches!(refused, Err(EngineError::NoRoom(_))), "{refused:?}");
        assert_eq!(disk.size(), 2 * size);
    }
    disk.clear_up();
    log.make_room(&[&batch]).unwrap();

    // The slot that was refused is the one that is used.
    assert_eq!(disk.size(), 2 * size);
}
