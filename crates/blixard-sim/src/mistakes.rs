//! Reading and spoiling a node's log from outside.

use std::collections::BTreeMap;

use blixard_raft::inspect;

use crate::disk::Disk;
use crate::node::LOG_SEGMENT_BYTES;

/// Takes the vote out of a log, as if it had never been written.
pub(crate) fn forget_the_vote(disk: &Disk) {
    // A log that was never written has no vote.
    let _: Option<()> = inspect::forget_the_vote(disk.log(), LOG_SEGMENT_BYTES);
}

/// The entries of a log, as they are on disk.
pub(crate) fn log(disk: &Disk) -> BTreeMap<u64, Vec<u8>> {
    let entries = inspect::entries(disk.log(), LOG_SEGMENT_BYTES);
    entries.into_iter().flatten().collect()
}
