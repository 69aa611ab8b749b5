//! What is in a node's log, read from outside, with redb alone.
//!
//! Knows the name of `blixard-raft`'s table of entries, and nothing of what a record means.

use std::path::Path;

use anyhow::Context as _;
use blixard_types::Sha256Hash;
use redb::{Database, ReadableDatabase as _, ReadableTable as _, TableDefinition};

const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries");

pub(crate) fn print(file: &Path) -> anyhow::Result<()> {
    let database = Database::open(file).with_context(|| format!("cannot open {}", file.display()))?;
    let table = database.begin_read()?.open_table(ENTRIES)?;
    for row in table.iter()? {
        let (index, record) = row?;
        println!("{} {}", index.value(), Sha256Hash::of(record.value()));
    }
    Ok(())
}
