//! The log engine on redb: one table of entries, one of notes.
//!
//! Owns the use of redb and nothing else. Every commit is durable (`Durability::Immediate`); how many
//! writes share one is the writer's affair.

use std::ops::Range;
use std::path::Path;

use redb::{
    Builder, Database, DatabaseError, Durability, ReadableDatabase, StorageBackend, TableDefinition,
    TableError,
};

use super::engine::{EngineError, LogEngine, Slot, Write};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

/// The newest entries are kept decoded in memory; redb's cache serves its tree pages and catch-up.
const CACHE_BYTES: usize = 16 * 1024 * 1024;

/// A log in a redb file.
#[derive(Debug)]
pub(crate) struct RedbEngine {
    database: Database,
}

impl RedbEngine {
    /// Opens the file, or makes it. redb locks it for this process.
    pub(crate) fn open(path: &Path) -> Result<Self, DatabaseError> {
        let database = builder().create(path)?;
        Ok(Self { database })
    }

    /// Opens a database on a disk that the caller brings, say one that forgets.
    pub(crate) fn on_backend(backend: impl StorageBackend) -> Result<Self, DatabaseError> {
        let database = builder().create_with_backend(backend)?;
        Ok(Self { database })
    }
}

fn builder() -> Builder {
    let mut builder = Builder::new();
    builder.set_cache_size(CACHE_BYTES);
    // Damage is an error when the log is opened, not a panic when the damaged page is met.
    builder.set_check_integrity_on_open(true);
    builder
}

impl LogEngine for RedbEngine {
    fn commit(&self, writes: &[Write]) -> Result<(), EngineError> {
        let mut transaction = self.database.begin_write().map_err(|e| EngineError::Begin(boxed(e)))?;
        transaction.set_durability(Durability::Immediate).map_err(|e| EngineError::Begin(boxed(e)))?;
        {
            let mut entries = transaction.open_table(ENTRIES).map_err(|e| EngineError::Write(boxed(e)))?;
            let mut notes = transaction.open_table(NOTES).map_err(|e| EngineError::Write(boxed(e)))?;
            for write in writes {
                let done = match write {
                    Write::Put { index, record } => entries.insert(*index, record.as_slice()).map(drop),
                    Write::TruncateFrom(index) => entries.retain_in(*index.., |_, _| false),
                    Write::PurgeTo(index) => entries.retain_in(..=*index, |_, _| false),
                    Write::Note { slot, record } => notes.insert(slot.key(), record.as_slice()).map(drop),
                };
                done.map_err(|e| EngineError::Write(boxed(e)))?;
            }
        }
        transaction.commit().map_err(|e| EngineError::Commit(boxed(e)))
    }

    fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<(u64, Vec<u8>)>, EngineError> {
        let transaction = self.database.begin_read().map_err(|e| EngineError::Read(boxed(e)))?;
        let entries = match transaction.open_table(ENTRIES) {
            Ok(entries) => entries,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(e) => return Err(EngineError::Read(boxed(e))),
        };
        let found = entries.range(range).map_err(|e| EngineError::Read(boxed(e)))?;
        found
            .take(limit)
            .map(|row| match row {
                Ok((index, record)) => Ok((index.value(), record.value().to_vec())),
                Err(e) => Err(EngineError::Read(boxed(e))),
            })
            .collect()
    }

    fn note(&self, slot: Slot) -> Result<Option<Vec<u8>>, EngineError> {
        let transaction = self.database.begin_read().map_err(|e| EngineError::Read(boxed(e)))?;
        let notes = match transaction.open_table(NOTES) {
            Ok(notes) => notes,
            Err(TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(e) => return Err(EngineError::Read(boxed(e))),
        };
        let found = notes.get(slot.key()).map_err(|e| EngineError::Read(boxed(e)))?;
        Ok(found.map(|record| record.value().to_vec()))
    }
}

fn boxed(error: impl Into<redb::Error>) -> Box<redb::Error> {
    Box::new(error.into())
}
