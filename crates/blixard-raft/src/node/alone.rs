//! A server that is left, when its group has lost its majority for ever.
//!
//! Owns: that it becomes the only voter, with all that its log holds, in one step that a crash does not halve.
//! Refuses to know: what the state makes of that. The command that says so stands in the log before the new
//! membership: without it nothing is committed.
//!
//! ```text
//! checkpoint + log ─▶ machine ─▶ command? ─▶ vote of a new term, command, membership of one ─▶ open
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use blixard_core::ports::consensus::{ApplyHalt, ReplicatedMachine};
use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;

use super::open::{LOG_FILE, OnDisk, OpenError, disk_at};
use crate::log::{ExtendError, LogDisk, LogOpenError};
use crate::options::RaftOptions;
use crate::types::{Cmd, Entry, LogId, Membership, Vote, log_id, position};

/// Why a server cannot go on alone.
#[derive(Debug, thiserror::Error)]
pub enum AloneError {
    /// There is nothing to go on with.
    #[error("there is no log at {}", .0.display())]
    NoLog(PathBuf),
    /// It cannot be opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It cannot be read.
    #[error("cannot use the log")]
    Read(#[from] LogOpenError),
    /// An entry of it means nothing to this program.
    #[error("cannot recover the state from the log")]
    Apply(#[from] ApplyHalt),
    /// It was never a member, or is none any more.
    #[error("by its own log this node is not in the consensus group")]
    NoMember,
    /// It cannot be written.
    #[error("cannot write to the log")]
    Write(#[from] ExtendError),
}

pub(super) fn stand_alone(
    options: &RaftOptions,
    machine: &dyn ReplicatedMachine,
    decide: impl FnOnce() -> Option<Vec<u8>>,
) -> Result<(), AloneError> {
    let path = options.data_dir.join(LOG_FILE);
    if !path.exists() {
        return Err(AloneError::NoLog(path));
    }
    stand_alone_on(options, machine, decide, disk_at)
}

/// The same on the disk that `disk` gives.
pub(super) fn stand_alone_on(
    options: &RaftOptions,
    machine: &dyn ReplicatedMachine,
    decide: impl FnOnce() -> Option<Vec<u8>>,
    disk: impl FnOnce(&Path) -> Result<Box<dyn LogDisk>, OpenError>,
) -> Result<(), AloneError> {
    let OnDisk { found, meta, .. } = OnDisk::read(options, machine, disk)?;
    let mut members = meta.last_membership.membership().clone();
    for entry in found.entries_after(meta.last_log_id)? {
        match entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Normal(command) => drop(machine.apply(position(entry.log_id), &command.0)?),
            EntryPayload::Membership(membership) => members = membership,
        }
    }
    let node = options.node.0;
    let me = members.get_node(&node).cloned().ok_or(AloneError::NoMember)?;
    let alone = Membership::new(vec![BTreeSet::from([node])], BTreeMap::from([(node, me)]));
    let alone = alone.map_err(|_| AloneError::NoMember)?;
    let Some(command) = decide() else { return Ok(()) };
    let last = newest(found.last(), meta.last_log_id);
    let cast = found.vote().map_or(0, |vote| vote.leader_id.term());
    let term = 1 + cast.max(last.map_or(0, |id| position(id).term));
    let next = last.map_or(0, |id| id.index + 1);
    let entries = [
        Entry { log_id: log_id(term, next), payload: EntryPayload::Normal(Cmd(Bytes::from(command))) },
        Entry { log_id: log_id(term, next + 1), payload: EntryPayload::Membership(alone) },
    ];
    Ok(found.extend(last, &Vote::new(term, node), &entries)?)
}

fn newest(log: Option<LogId>, checkpoint: Option<LogId>) -> Option<LogId> {
    log.into_iter().chain(checkpoint).max_by_key(|id| id.index)
}
