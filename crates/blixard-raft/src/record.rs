//! The bytes of one record of the log: entries, votes and log ids, sealed with version and checksum.
//!
//! Owns the on-disk form. Knows nothing of where records are kept. Layout, integers big endian:
//!
//! ```text
//! version (1) │ kind (1) │ body │ check (8)
//! ```
//!
//! `check` is the head of SHA-256 over the record's place (table slot or index) and all before it,
//! so that a record that was damaged, or stands where it does not belong, is found, also when it is read
//! long after the log was opened.

use std::ops::Deref;

use bytes::Bytes;
use openraft::EntryPayload;
use openraft::vote::RaftLeaderId;
use sha2::{Digest, Sha256};

use crate::types::{Cmd, Entry, LogId, Membership, Vote, log_id};

/// The version of every record this program writes, and the only one it reads.
const VERSION: u8 = 1;
const CHECK_BYTES: usize = 8;
const HEAD_BYTES: usize = 2;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;
const VOTE: u8 = 3;
const LOG_ID: u8 = 4;
const NODE: u8 = 5;

/// A record that cannot be what this program wrote.
#[derive(Debug, thiserror::Error)]
pub enum BadRecord {
    /// It ends before it is complete.
    #[error("the record has only {length} bytes")]
    Short {
        /// Bytes found.
        length: usize,
    },
    /// Another program wrote it.
    #[error("the record has format version {found}, this program reads {VERSION}")]
    Version {
        /// The version found.
        found: u8,
    },
    /// Its bytes changed, or it stands in another record's place.
    #[error("the record does not match its checksum")]
    Checksum,
    /// It is of a kind that does not belong here.
    #[error("the record is of kind {found}, which does not belong here")]
    Kind {
        /// The kind found.
        found: u8,
    },
    /// The membership it holds cannot be read.
    #[error("the record's membership cannot be read")]
    Membership(#[source] serde_json::Error),
}

/// Encodes an entry for its index.
pub(crate) fn encode_entry(entry: &Entry) -> Result<Vec<u8>, BadRecord> {
    let term = entry.log_id.leader_id.term;
    let place = entry.log_id.index.to_be_bytes();
    match &entry.payload {
        EntryPayload::Blank => Ok(seal(&place, BLANK, &[&term.to_be_bytes()])),
        EntryPayload::Normal(command) => Ok(seal(&place, COMMAND, &[&term.to_be_bytes(), &command.0])),
        EntryPayload::Membership(membership) => {
            let json = serde_json::to_vec(membership).map_err(BadRecord::Membership)?;
            Ok(seal(&place, MEMBERSHIP, &[&term.to_be_bytes(), &json]))
        }
    }
}

/// Decodes the entry that was found at `index`.
pub(crate) fn decode_entry(index: u64, record: &[u8]) -> Result<Entry, BadRecord> {
    let (kind, body) = unseal(&index.to_be_bytes(), record)?;
    let (term, payload) = split_u64(body)?;
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Cmd(Bytes::copy_from_slice(payload))),
        MEMBERSHIP => {
            let membership: Membership = serde_json::from_slice(payload).map_err(BadRecord::Membership)?;
            EntryPayload::Membership(membership)
        }
        found => return Err(BadRecord::Kind { found }),
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}

/// Encodes a vote for the slot it is kept in.
pub(crate) fn encode_vote(slot: &str, vote: &Vote) -> Vec<u8> {
    let term = vote.leader_id.term().to_be_bytes();
    let node = vote.leader_id.node_id().to_be_bytes();
    seal(slot.as_bytes(), VOTE, &[&term, &node, &[u8::from(vote.committed)]])
}

/// Decodes the vote that was found in `slot`.
pub(crate) fn decode_vote(slot: &str, record: &[u8]) -> Result<Vote, BadRecord> {
    let body = expect_kind(slot, VOTE, record)?;
    let (term, rest) = split_u64(body)?;
    let (node, rest) = split_u64(rest)?;
    let committed = rest.first().is_some_and(|flag| *flag != 0);
    Ok(if committed { Vote::new_committed(term, node) } else { Vote::new(term, node) })
}

/// Encodes a log id for the slot it is kept in.
pub(crate) fn encode_log_id(slot: &str, id: &LogId) -> Vec<u8> {
    let term = id.leader_id.deref().to_be_bytes();
    seal(slot.as_bytes(), LOG_ID, &[&term, &id.index.to_be_bytes()])
}

/// Decodes the log id that was found in `slot`.
pub(crate) fn decode_log_id(slot: &str, record: &[u8]) -> Result<LogId, BadRecord> {
    let (term, rest) = split_u64(expect_kind(slot, LOG_ID, record)?)?;
    let (index, _) = split_u64(rest)?;
    Ok(log_id(term, index))
}

/// Encodes the number of the node that owns the log.
pub(crate) fn encode_node(slot: &str, node: u64) -> Vec<u8> {
    seal(slot.as_bytes(), NODE, &[&node.to_be_bytes()])
}

/// Decodes the number of the node that owns the log.
pub(crate) fn decode_node(slot: &str, record: &[u8]) -> Result<u64, BadRecord> {
    split_u64(expect_kind(slot, NODE, record)?).map(|(node, _)| node)
}

fn expect_kind<'r>(slot: &str, expected: u8, record: &'r [u8]) -> Result<&'r [u8], BadRecord> {
    let (kind, body) = unseal(slot.as_bytes(), record)?;
    if kind == expected { Ok(body) } else { Err(BadRecord::Kind { found: kind }) }
}

fn seal(place: &[u8], kind: u8, body: &[&[u8]]) -> Vec<u8> {
    let length: usize = body.iter().map(|part| part.len()).sum();
    let mut record = Vec::with_capacity(HEAD_BYTES + length + CHECK_BYTES);
    record.extend_from_slice(&[VERSION, kind]);
    for part in body {
        record.extend_from_slice(part);
    }
    let check = checksum(place, &record);
    record.extend_from_slice(&check);
    record
}

fn unseal<'r>(place: &[u8], record: &'r [u8]) -> Result<(u8, &'r [u8]), BadRecord> {
    let short = BadRecord::Short { length: record.len() };
    // The version first: another version may be sealed in another way.
    match record.first() {
        None => return Err(short),
        Some(&VERSION) => {}
        Some(&found) => return Err(BadRecord::Version { found }),
    }
    let Some((sealed, check)) = record.split_last_chunk::<CHECK_BYTES>() else { return Err(short) };
    let Some((&[_, kind], body)) = sealed.split_first_chunk::<HEAD_BYTES>() else { return Err(short) };
    if checksum(place, sealed) == *check { Ok((kind, body)) } else { Err(BadRecord::Checksum) }
}

fn checksum(place: &[u8], sealed: &[u8]) -> [u8; CHECK_BYTES] {
    let digest: [u8; 32] = Sha256::new().chain_update(place).chain_update(sealed).finalize().into();
    let mut check = [0; CHECK_BYTES];
    for (to, from) in check.iter_mut().zip(digest) {
        *to = from;
    }
    check
}

fn split_u64(bytes: &[u8]) -> Result<(u64, &[u8]), BadRecord> {
    bytes
        .split_first_chunk::<8>()
        .map(|(head, rest)| (u64::from_be_bytes(*head), rest))
        .ok_or(BadRecord::Short { length: bytes.len() })
}

#[cfg(test)]
mod tests;
