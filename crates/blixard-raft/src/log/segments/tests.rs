//! Random writes against a model, with crashes at every step; and damage.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex};

use super::super::engine::{EngineError, LogEngine as _, Slot, Write};
use super::layout::SECTOR;
use super::{BadSegments, Segments};
use crate::log::LogDisk;
use crate::testing::{Disk, Keep};

const SMALL: u64 = 4096;

fn open(disk: &Disk) -> Result<Segments, BadSegments> {
    Segments::open(Box::new(disk.clone()), SMALL)
}

fn put(index: u64, length: usize) -> Write {
    Write::Put { index, record: vec![u8::try_from(index % 255).unwrap() + 1; length] }
}

fn indexes(log: &Segments) -> Vec<u64> {
    log.read(0..u64::MAX, usize::MAX).unwrap().into_iter().map(|(index, _)| index).collect()
}

/// What a log holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Model {
    entries: BTreeMap<u64, Vec<u8>>,
    notes: BTreeMap<Slot, Vec<u8>>,
    next: u64,
}

impl Model {
    fn of(log: &Segments) -> Self {
        let entries: BTreeMap<u64, Vec<u8>> =
            log.read(0..u64::MAX, usize::MAX).unwrap().into_iter().collect();
        let notes = Slot::ALL.into_iter().filter_map(|slot| Some((slot, log.note(slot).unwrap()?))).collect();
        Self { entries, notes, next: 0 }
    }

    fn apply(&mut self, write: &Write) {
        match write {
            Write::Put { index, record } => {
                self.entries.insert(*index, record.clone());
                self.next = index + 1;
            }
            Write::TruncateFrom(index) => {
                self.entries.split_off(index);
                self.next = self.next.min(*index);
            }
            Write::PurgeTo(index) => self.entries = self.entries.split_off(&(index + 1)),
            Write::Note { slot, record } => {
                self.notes.insert(*slot, record.clone());
            }
        }
    }

    fn same(&self, other: &Self) -> bool {
        (&self.entries, &self.notes) == (&other.entries, &other.notes)
    }
}

/// Numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % bound
    }

    fn length(&mut self, bound: u64) -> usize {
        usize::try_from(1 + self.below(bound)).unwrap()
    }

    /// What a consensus would write next, as it is kept by a model.
    fn batch(&mut self, model: &mut Model) -> Vec<Write> {
        let mut batch = Vec::new();
        for _ in 0..=self.below(4) {
            let first = model.entries.first_key_value().map_or(model.next, |(index, _)| *index);
            let kept = model.next.saturating_sub(first);
            let write = match self.below(12) {
                0 if kept > 0 => Write::TruncateFrom(model.next - 1 - self.below(kept.min(5))),
                1 | 2 if kept > 8 => Write::PurgeTo(first + self.below(kept)),
                3 | 4 => {
                    let slot = Slot::ALL[usize::try_from(self.below(4)).unwrap()];
                    Write::Note { slot, record: vec![7; self.length(60)] }
                }
                _ => put(model.next, self.length(900)),
            };
            model.apply(&write);
            batch.push(write);
        }
        batch
    }
}

#[test]
fn a_log_is_what_was_written_whatever_was_and_whenever_it_is_opened_again() {
    for seed in 1..60 {
        let mut numbers = Numbers(seed * 0x9e37_79b9);
        let disk = Disk::new();
        let mut model = Model::default();
        let mut log = open(&disk).unwrap();
        for _ in 0..80 {
            log.commit(&numbers.batch(&mut model)).unwrap();
            assert!(Model::of(&log).same(&model), "seed {seed}");
            if numbers.below(5) == 0 {
                log = open(&disk).unwrap();
                assert!(Model::of(&log).same(&model), "seed {seed}, opened again");
            }
        }
        let size = disk.size();
        assert!(size < 300 * 1024, "the file grows to {size} although it is purged");
    }
}

/// A disk that loses power before a certain write or sync.
#[derive(Debug, Clone)]
struct Failing {
    disk: Disk,
    left: Arc<Mutex<u64>>,
}

impl Failing {
    fn step(&self) -> io::Result<()> {
        let mut left = self.left.lock().unwrap();
        *left = left.checked_sub(1).ok_or_else(|| io::Error::other("the power went"))?;
        Ok(())
    }
}

impl LogDisk for Failing {
    fn size(&self) -> io::Result<u64> {
        LogDisk::size(&self.disk)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.disk.read(offset, out)
    }

    fn write(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.step()?;
        self.disk.write(offset, bytes)
    }

    fn set_size(&self, size: u64) -> io::Result<()> {
        self.step()?;
        self.disk.set_size(size)
    }

    fn sync(&self) -> io::Result<()> {
        self.step()?;
        self.disk.sync()
    }
}

#[test]
fn what_was_found_after_a_kill_is_there_after_a_loss_of_power() {
    let disk = Disk::new();
    let left = Arc::new(Mutex::new(u64::MAX));
    let log = Segments::open(Box::new(Failing { disk: disk.clone(), left: left.clone() }), SMALL).unwrap();
    log.commit(&[put(0, 100)]).unwrap();
    // The process ends between the write and its sync.
    *left.lock().unwrap() = 1;
    log.commit(&[put(1, 100)]).unwrap_err();
    drop(log);
    let found = indexes(&open(&disk).unwrap());
    assert_eq!(found, [0, 1]);

    let later = disk.after_a_crash(Keep::Nothing);

    assert_eq!(indexes(&open(&later).unwrap()), found);
}

/// Writes until the power goes, again and again; each time what is found is what was acknowledged, with
/// the first of what was not, or none of it.
fn crashes(seed: u64) -> usize {
    let mut numbers = Numbers(seed * 0x9e37_79b9);
    let mut disk = Disk::new();
    let mut kept = Model::default();
    let mut torn = 0;
    for round in 0..12 {
        let left = Arc::new(Mutex::new(numbers.below(40)));
        let failing = Failing { disk: disk.clone(), left };
        let mut begun = kept.clone();
        let mut last = Vec::new();
        if let Ok(log) = Segments::open(Box::new(failing), SMALL) {
            assert!(Model::of(&log).same(&kept), "seed {seed}, round {round}");
            loop {
                last = numbers.batch(&mut begun);
                if log.commit(&last).is_err() {
                    break;
                }
                kept = begun.clone();
            }
        }
        let keep = if numbers.below(4) == 0 { Keep::Nothing } else { Keep::Some(numbers.0) };
        disk = disk.after_a_crash(keep);
        let found =
            Model::of(&open(&disk).unwrap_or_else(|error| panic!("seed {seed}, round {round}: {error}")));
        let mut reached = kept.clone();
        let mut left = last.iter();
        while !found.same(&reached) {
            let Some(write) = left.next() else {
                panic!("seed {seed}, round {round}: acknowledged writes are lost")
            };
            reached.apply(write);
        }
        torn += usize::from(left.next().is_some());
        kept = reached;
    }
    torn
}

#[test]
fn a_crash_at_any_step_takes_nothing_that_was_acknowledged_and_leaves_a_log_that_opens() {
    let torn: usize = (1..300).map(crashes).sum();
    assert!(torn > 500, "only {torn} crashes took something");
}

/// A log of a few segments, the first of which was used again.
fn long_log() -> (Disk, Model) {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    let mut model = Model::default();
    for index in 0..40 {
        let note = Write::Note { slot: Slot::Vote, record: vec![9; 20] };
        let mut batch = vec![put(index, 500), note];
        if index == 20 {
            batch.push(Write::PurgeTo(12));
        }
        for write in &batch {
            model.apply(write);
        }
        log.commit(&batch).unwrap();
    }
    (disk, model)
}

#[test]
fn a_byte_that_was_changed_is_refused_or_harmless_wherever_it_is() {
    let (disk, model) = long_log();
    let (mut refused, mut harmless) = (0, 0);
    for offset in 0..disk.size() {
        match open(&disk.with_a_flipped_byte(offset)) {
            Err(_) => refused += 1,
            Ok(log) => {
                // A record may be damaged where it is only read: it has a check of its own.
                assert!(Model::of(&log).same(&model), "at {offset}");
                harmless += 1;
            }
        }
    }
    assert!(refused > 10_000, "{refused} refused, {harmless} harmless");
}

#[test]
fn a_sector_that_was_lost_in_the_midst_is_refused() {
    let (disk, model) = long_log();
    let mut refused = 0;
    for sector in 0..disk.size() / SECTOR {
        let damaged = disk.after_a_crash(Keep::Nothing);
        damaged.write((sector * SECTOR) as u64, &[0; SECTOR]).unwrap();
        damaged.sync().unwrap();
        match open(&damaged) {
            Err(BadSegments::Damaged { .. } | BadSegments::Missing { .. }) => refused += 1,
            Err(other) => panic!("{other}"),
            Ok(log) => {
                // Where the last frame begins it cannot be told from a crash, and the one before ends there.
                let mut found = Model::of(&log);
                for last in [38, 39] {
                    found.entries.entry(last).or_insert_with(|| model.entries[&last].clone());
                }
                assert!(found.same(&model), "sector {sector}");
            }
        }
    }
    assert!(refused > 20, "{refused}");
}

#[test]
fn a_segment_whose_first_4_kib_were_lost_is_not_taken_for_a_free_one() {
    const BYTES: u64 = 16 * 1024;
    for (earlier, last) in [(0, 1), (0, 30), (32, 1), (32, 2), (32, 20)] {
        let disk = Disk::new();
        let log = Segments::open(Box::new(disk.clone()), BYTES).unwrap();
        // 32 fill a segment.
        for index in 0..earlier + last {
            log.commit(&[put(index, 450)]).unwrap();
        }
        let newest = disk.size() as u64 - BYTES;
        assert_eq!(newest, if earlier > 0 { BYTES } else { 0 });
        disk.write(newest, &[0; 4096]).unwrap();
        disk.sync().unwrap();

        let refused = Segments::open(Box::new(disk), BYTES).err();

        let damaged = matches!(refused, Some(BadSegments::Damaged { at }) if at == newest);
        assert!(damaged, "{earlier} entries, then {last}: {refused:?}");
    }
}

#[test]
fn a_head_that_is_gone_where_the_rest_of_its_sector_is_not_was_damaged() {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    log.commit(&[put(0, 20)]).unwrap();
    log.commit(&[put(1, 300)]).unwrap();
    // 16 of the head, 13 of the put, 20 of the record and one that ends it.
    let second = SECTOR as u64 + 64;
    disk.write(second, &[0; 16]).unwrap();
    disk.sync().unwrap();

    let refused = open(&disk).err();

    assert!(matches!(refused, Some(BadSegments::Damaged { at }) if at == second), "{refused:?}");
}

#[test]
fn the_last_frame_is_told_from_a_torn_one_once_the_log_is_sealed() {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    log.commit(&[Write::Note { slot: Slot::Node, record: vec![1; 8] }]).unwrap();
    log.commit(&[put(0, 1500)]).unwrap();
    let lost = |disk: &Disk| {
        let damaged = disk.after_a_crash(Keep::Nothing);
        damaged.write(1024, &[0; SECTOR]).unwrap();
        damaged.sync().unwrap();
        open(&damaged).map(|log| indexes(&log))
    };
    // As if a crash had come in the midst: nobody can tell.
    assert!(lost(&disk).unwrap().is_empty());

    super::super::engine::seal(&log).unwrap();

    let refused = lost(&disk);
    assert!(matches!(refused, Err(BadSegments::Damaged { .. } | BadSegments::Missing { .. })), "{refused:?}");
}

#[test]
fn a_log_says_whether_a_seal_is_the_last_in_it() {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    let node = Write::Note { slot: Slot::Node, record: vec![1; 8] };
    for writes in [vec![node.clone()], vec![node], vec![put(0, 1500)]] {
        log.commit(&writes).unwrap();
        assert!(!open(&disk).unwrap().was_sealed());
    }
    super::super::engine::seal(&log).unwrap();
    assert!(open(&disk).unwrap().was_sealed());
    log.commit(&[put(1, 10)]).unwrap();
    assert!(!open(&disk).unwrap().was_sealed());
}

#[test]
fn a_record_that_does_not_fit_into_a_segment_is_refused() {
    let log = open(&Disk::new()).unwrap();
    let refused = log.commit(&[put(0, 5000)]);
    assert!(matches!(refused, Err(EngineError::TooLarge { .. })), "{refused:?}");
}

#[test]
fn a_file_with_segments_of_another_size_or_version_is_refused() {
    let (disk, _) = long_log();
    let refused = Segments::open(Box::new(disk.clone()), 2 * SMALL).err();
    assert!(matches!(refused, Some(BadSegments::SegmentBytes { found: SMALL, .. })), "{refused:?}");
    disk.write(6, &[0, 1]).unwrap();
    assert!(matches!(open(&disk).err(), Some(BadSegments::Version { found: 1 })));
}

#[test]
fn a_segment_is_used_again_once_all_of_its_entries_are_purged() {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    for index in 0..1000 {
        log.commit(&[put(index, 300), Write::PurgeTo(index.saturating_sub(10))]).unwrap();
    }
    assert_eq!(indexes(&log), (990..1000).collect::<Vec<_>>());
    assert_eq!(indexes(&open(&disk).unwrap()), indexes(&log));
    assert!(disk.size() <= 4 * 4096, "{}", disk.size());
}

#[test]
fn an_entry_that_was_truncated_does_not_come_back() {
    let disk = Disk::new();
    let log = open(&disk).unwrap();
    // Segments full of entries, then one that takes most of them back, then what purges the rest.
    for index in 0..30 {
        log.commit(&[put(index, 400)]).unwrap();
    }
    log.commit(&[Write::TruncateFrom(5)]).unwrap();
    for index in 5..25 {
        log.commit(&[put(index, 200), Write::PurgeTo(index - 2)]).unwrap();
        assert_eq!(indexes(&open(&disk).unwrap()), indexes(&log), "after {index}");
    }
}
