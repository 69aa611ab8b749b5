//! What a log engine must do: keep numbered records and four notes, and make a batch durable at once.
//!
//! Narrow on purpose, so that a faster engine can come with evidence. Sees bytes.

use std::fmt::Debug;
use std::io;
use std::ops::Range;

/// One change. Those of a batch are applied in order; a crash in the midst leaves the first of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Write {
    /// Keeps a record under its index, over what was there.
    Put { index: u64, record: Vec<u8> },
    /// Forgets this index and all after it.
    TruncateFrom(u64),
    /// Forgets this index and all before it.
    PurgeTo(u64),
    /// Keeps a note.
    Note { slot: Slot, record: Vec<u8> },
}

/// The notes that are kept beside the entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Slot {
    /// Whose log this is.
    Node,
    /// The last vote.
    Vote,
    /// What is known to be committed.
    Committed,
    /// The last entry that was purged.
    Purged,
}

impl Slot {
    /// All, in the order of their numbers.
    pub(crate) const ALL: [Self; 4] = [Self::Node, Self::Vote, Self::Committed, Self::Purged];

    /// Its name, which its record is sealed with.
    pub(crate) const fn key(self) -> &'static str {
        match self {
            Self::Node => "node",
            Self::Vote => "vote",
            Self::Committed => "committed",
            Self::Purged => "purged",
        }
    }

    /// Its number on disk.
    pub(crate) const fn number(self) -> u8 {
        match self {
            Self::Node => 0,
            Self::Vote => 1,
            Self::Committed => 2,
            Self::Purged => 3,
        }
    }

    /// The slot with this number.
    pub(crate) fn of_number(number: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|slot| slot.number() == number)
    }
}

/// A failing step of the engine. After any but `Read` and `NoRoom` it is never written again.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// A change could not be written.
    #[error("cannot write to the log")]
    Write(#[source] io::Error),
    /// What was written could not be made durable.
    #[error("cannot sync the log")]
    Sync(#[source] io::Error),
    /// The disk is full. Nothing that is there was changed, and it can be asked again.
    #[error("the disk has no room for another segment of the log")]
    NoRoom(#[source] io::Error),
    /// A record is larger than the engine keeps.
    #[error("a record of {size} bytes does not fit into the log")]
    TooLarge {
        /// Its size.
        size: usize,
    },
    /// The engine broke one of its own assumptions.
    #[error("the log's engine has panicked")]
    Panicked,
    /// The log could not be read.
    #[error("cannot read the log")]
    Read(#[source] io::Error),
}

/// Keeps records on disk.
pub(crate) trait LogEngine: Debug + Send + Sync + 'static {
    /// Makes the changes, in order; all are durable when it returns. If it fails, or if there is a
    /// crash meanwhile, the first of them are, or none.
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError>;

    /// Makes sure that these commits, one after another, need no more room from the disk, if they are small
    /// enough for that. When there is none, the room that is left stays as it is.
    fn make_room(&self, _commits: &[&[Write]]) -> Result<(), EngineError> {
        Ok(())
    }

    /// Reads the records in the range, in order of index, at most `limit`.
    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError>;

    /// Reads a note.
    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError>;

    /// Whether it ended with a seal when it was opened. If it cannot tell, it did not.
    fn was_sealed(&self) -> bool {
        false
    }
}

/// What a disk may lose at once. A seal is larger, so that no such loss takes it and what is before it.
const LOST_AT_ONCE: usize = 4096;

/// Recognizes a seal, from the frames that were read last.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SealSeen {
    frames: usize,
    bytes: usize,
}

impl SealSeen {
    /// Takes the next frame in.
    pub(crate) fn frame<'w>(&mut self, writes: impl Iterator<Item = &'w Write>) {
        let sizes: Option<Vec<usize>> = writes
            .map(|write| match write {
                Write::Note { slot: Slot::Node, record } => Some(record.len()),
                _ => None,
            })
            .collect();
        *self = match sizes {
            Some(sizes) => Self { frames: self.frames + 1, bytes: self.bytes + sizes.iter().sum::<usize>() },
            None => Self::default(),
        };
    }

    /// Whether the frames that were taken in end with a seal.
    pub(crate) fn is_whole(self) -> bool {
        self.frames > 1 && self.bytes > LOST_AT_ONCE
    }
}

/// Writes a note of the log again, as the last things in it: all before was synced before these were written,
/// so what is damaged there is told from what a crash has torn. On a full disk it is not begun: the last room is
/// for what has to be written.
pub(crate) fn seal(engine: &dyn LogEngine) -> Result<(), EngineError> {
    let slot = Slot::Node;
    let Some(record) = engine.note(slot)? else { return Ok(()) };
    let times = LOST_AT_ONCE.div_ceil(record.len().max(1));
    let note = Write::Note { slot, record };
    let (many, one) = (vec![note.clone(); times], [note]);
    engine.make_room(&[&many, &one])?;
    engine.commit(&many)?;
    engine.commit(&one)
}
