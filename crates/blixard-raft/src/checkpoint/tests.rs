use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::file::{self, CheckpointError};
use super::store::CheckpointStore;
use crate::files::RealFiles;
use crate::offload::Offload;
use crate::types::{SnapshotMeta, StoredMembership, log_id};

type Loaded = (SnapshotMeta, Vec<u8>);

fn open(directory: &Path) -> (CheckpointStore, Option<Loaded>) {
    CheckpointStore::open(Arc::new(RealFiles), Offload::Threads, directory).unwrap()
}

fn read(path: &Path) -> Result<Loaded, CheckpointError> {
    file::read(&RealFiles, path)
}

fn write(path: &Path, meta: &SnapshotMeta, state: &[u8]) -> Result<(), CheckpointError> {
    file::write(&RealFiles, path, meta, state)
}

/// A checkpoint file as it would be sent.
pub(crate) fn encoded(meta: &SnapshotMeta, state: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("encoded");
    write(&path, meta, state).unwrap();
    fs::read(path).unwrap()
}

fn meta(term: u64, index: u64) -> SnapshotMeta {
    SnapshotMeta { last_log_id: Some(log_id(term, index)), last_membership: StoredMembership::default() }
}

fn files(directory: &Path) -> usize {
    fs::read_dir(directory).unwrap().count()
}

#[test]
fn a_checkpoint_is_read_as_it_was_written() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.checkpoint");
    for state in [&b""[..], b"state"] {
        write(&path, &meta(2, 5), state).unwrap();
        assert_eq!(read(&path).unwrap(), (meta(2, 5), state.to_vec()));
    }
    assert_eq!(files(directory.path()), 1);
}

#[test]
fn a_checkpoint_cut_short_anywhere_is_torn() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.checkpoint");
    write(&path, &meta(2, 5), b"state").unwrap();
    let whole = fs::read(&path).unwrap();
    for length in 0..whole.len() {
        fs::write(&path, &whole[..length]).unwrap();
        assert!(matches!(read(&path), Err(CheckpointError::Torn { .. })), "{length} bytes");
    }
}

#[test]
fn a_checkpoint_with_a_flipped_bit_anywhere_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.checkpoint");
    write(&path, &meta(2, 5), b"state").unwrap();
    let whole = fs::read(&path).unwrap();
    for bit in 0..whole.len() * 8 {
        let mut damaged = whole.clone();
        damaged[bit / 8] ^= 1 << (bit % 8);
        fs::write(&path, damaged).unwrap();
        read(&path).unwrap_err();
    }
}

#[test]
fn a_checkpoint_of_another_version_is_named_as_such() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("a.checkpoint");
    write(&path, &meta(2, 5), b"state").unwrap();
    let mut bytes = fs::read(&path).unwrap();
    bytes[8] = 2;
    fs::write(&path, bytes).unwrap();
    assert!(matches!(read(&path), Err(CheckpointError::Version { found: 2, .. })));
}

#[test]
fn only_the_newest_checkpoint_is_kept_and_loaded() {
    let directory = tempfile::tempdir().unwrap();
    let (store, none) = open(directory.path());
    assert!(none.is_none());
    for index in [9, 10, 100] {
        store.save(meta(2, index), format!("at {index}").as_bytes()).unwrap();
    }
    assert_eq!(files(directory.path()), 1);

    let (store, newest) = open(directory.path());

    assert_eq!(newest, Some((meta(2, 100), b"at 100".to_vec())));
    assert_eq!(store.current().unwrap().meta, meta(2, 100));
}

#[test]
fn a_crash_before_the_old_checkpoint_is_removed_leaves_the_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.save(meta(2, 9), b"older").unwrap();
    let older = store.current().unwrap().snapshot.path().to_owned();
    let kept = fs::read(&older).unwrap();
    store.save(meta(3, 8), b"newer term").unwrap();
    fs::write(&older, kept).unwrap();

    let (_, newest) = open(directory.path());

    assert_eq!(newest, Some((meta(3, 8), b"newer term".to_vec())));
    assert!(!older.exists());
}

#[test]
fn a_half_written_checkpoint_is_removed() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("half.tmp"), b"BLX").unwrap();

    let (_, newest) = open(directory.path());

    assert!(newest.is_none());
    assert_eq!(files(directory.path()), 0);
}

#[test]
fn a_checkpoint_that_comes_late_does_not_replace_a_newer_one() {
    let directory = tempfile::tempdir().unwrap();
    let (store, _) = open(directory.path());
    store.save(meta(2, 10), b"newer").unwrap();

    let current = store.save(meta(2, 9), b"late").unwrap();

    assert_eq!(current.meta, meta(2, 10));
    assert_eq!(current.snapshot.read().unwrap(), b"newer");
}
