//! What is in a node's log, read from outside.

use std::path::Path;

use anyhow::Context as _;
use blixard_raft::inspect;
use blixard_types::Sha256Hash;

pub(crate) fn print(file: &Path) -> anyhow::Result<()> {
    let entries = inspect::entries_of(file).with_context(|| format!("cannot read {}", file.display()))?;
    for (index, record) in entries {
        println!("{index} {}", Sha256Hash::of(&record));
    }
    Ok(())
}
