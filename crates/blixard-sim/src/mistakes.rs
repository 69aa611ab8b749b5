//! Reading and spoiling a node's log from outside, with redb alone.
//!
//! Knows the names of `blixard-raft`'s tables, and only those.

use std::collections::BTreeMap;

use redb::{Builder, Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

use crate::disk::Disk;

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");
const NOTES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("notes");

fn open(disk: &Disk) -> Option<Database> {
    Builder::new().create_with_backend(disk.backend()).ok()
}

/// Takes the vote out of a log, as if it had never been written.
pub(crate) fn forget_the_vote(disk: &Disk) {
    let forgotten = || -> Option<()> {
        let transaction = open(disk)?.begin_write().ok()?;
        transaction.open_table(NOTES).ok()?.remove("vote").ok()?;
        transaction.commit().ok()
    };
    // A log that was never written has no vote.
    let _: Option<()> = forgotten();
}

/// The entries of a log, as they are on disk.
pub(crate) fn log(disk: &Disk) -> BTreeMap<u64, Vec<u8>> {
    let entries = || -> Option<BTreeMap<u64, Vec<u8>>> {
        let table = open(disk)?.begin_read().ok()?.open_table(ENTRIES).ok()?;
        let entry = |row: Result<(redb::AccessGuard<'_, u64>, redb::AccessGuard<'_, &[u8]>), _>| {
            let (index, record) = row.ok()?;
            Some((index.value(), record.value().to_vec()))
        };
        table.iter().ok()?.map(entry).collect()
    };
    entries().unwrap_or_default()
}
