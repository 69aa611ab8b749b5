//! The bytes that nodes send each other, except for snapshots, which are checkpoint files.
//!
//! Owns the form on the wire, so that nodes understand each other whatever version of openraft each
//! was built with. Integers are big endian; a log id is term, index; an optional one begins with 0 or 1:
//!
//! ```text
//! request: version (1) │ from (8) │ to (8) │ body          answer: version (1) │ body
//! append:  vote │ log id before? │ committed? │ first index (8) │ count (4) │ entries
//! entry:   term (8) │ kind (1) │ length (4) │ payload
//! ```
//!
//! A request that is not for this node is refused before its body is read: an address may have changed
//! hands.

use blixard_core::ports::peer::PeerRefusal;
use bytes::{Buf, BufMut, Bytes};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesRequest, StreamAppendError, StreamAppendResult, TransferLeaderError, TransferLeaderRequest,
    TransferLeaderResponse, VoteRequest, VoteResponse,
};

use crate::types::{Cmd, Entry, LogId, TypeConfig, Vote, log_id, node_id};

/// The version of every message this program sends, and the only one it reads.
const VERSION: u8 = 1;

const BLANK: u8 = 0;
const COMMAND: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// Bytes of an appended message besides its entries, about.
const APPEND_HEAD_BYTES: usize = 96;
/// Bytes of an entry besides its payload.
const ENTRY_HEAD_BYTES: usize = 13;

/// A message that cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadMessage {
    /// Another program sent it.
    #[error("it has version {found}, this program reads {VERSION}")]
    Version { found: u8 },
    /// It ends before it is complete.
    #[error("it is cut short")]
    Short,
    /// It is longer than it should be.
    #[error("{left} bytes are left over")]
    Trailing { left: usize },
    /// A byte that chooses between forms has a value without a form.
    #[error("{what} is of kind {found}, which this program does not know")]
    Kind { what: &'static str, found: u8 },
    /// Its entries are not those after the one it says is before them.
    #[error("its entries begin with {first}, which does not follow {}", before.map_or("nothing".to_owned(), |index| index.to_string()))]
    Follows { first: u64, before: Option<u64> },
    /// The membership in it cannot be read or written.
    #[error("its membership cannot be read: {0}")]
    Membership(serde_json::Error),
}

impl From<bytes::TryGetError> for BadMessage {
    fn from(_: bytes::TryGetError) -> Self {
        Self::Short
    }
}

impl From<BadMessage> for PeerRefusal {
    fn from(bad: BadMessage) -> Self {
        Self::BadMessage { reason: bad.to_string() }
    }
}

/// Something that is sent.
pub(crate) trait Message: Sized {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage>;
    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage>;
    /// About how long it will be.
    fn size_hint(&self) -> usize {
        64
    }
}

/// Between whom a request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// Encodes a request.
pub(crate) fn request(route: Route, message: &impl Message) -> Result<Bytes, BadMessage> {
    let mut out = Vec::with_capacity(17 + message.size_hint());
    out.put_u8(VERSION);
    out.put_u64(route.from);
    out.put_u64(route.to);
    message.put(&mut out)?;
    Ok(out.into())
}

/// Decodes a request for the node `this`.
pub(crate) fn read_request<M: Message>(this: u64, mut bytes: Bytes) -> Result<M, PeerRefusal> {
    let message = read_route(this, &mut bytes)
        .and_then(|_| Ok(M::get(&mut bytes)?))
        .and_then(|message| Ok(at_end(&bytes, message)?))?;
    Ok(message)
}

fn read_route(this: u64, bytes: &mut Bytes) -> Result<Route, PeerRefusal> {
    version(bytes)?;
    let mut word = || bytes.try_get_u64().map_err(BadMessage::from);
    let route = Route { from: word()?, to: word()? };
    if route.to == this {
        Ok(route)
    } else {
        Err(PeerRefusal::NotThisNode { this: node_id(this), meant: node_id(route.to) })
    }
}

/// Encodes an answer.
pub(crate) fn answer(message: &impl Message) -> Result<Bytes, BadMessage> {
    let mut out = Vec::with_capacity(1 + message.size_hint());
    out.put_u8(VERSION);
    message.put(&mut out)?;
    Ok(out.into())
}

/// Decodes an answer.
pub(crate) fn read_answer<M: Message>(mut bytes: Bytes) -> Result<M, BadMessage> {
    version(&mut bytes)?;
    let message = M::get(&mut bytes)?;
    at_end(&bytes, message)
}

fn version(bytes: &mut Bytes) -> Result<(), BadMessage> {
    match bytes.try_get_u8()? {
        VERSION => Ok(()),
        found => Err(BadMessage::Version { found }),
    }
}

fn at_end<M>(bytes: &Bytes, message: M) -> Result<M, BadMessage> {
    if bytes.is_empty() { Ok(message) } else { Err(BadMessage::Trailing { left: bytes.len() }) }
}

impl Message for Vote {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        out.put_u64(self.leader_id.term);
        out.put_u64(self.leader_id.voted_for);
        out.put_u8(u8::from(self.committed));
        Ok(())
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        let (term, node) = (bytes.try_get_u64()?, bytes.try_get_u64()?);
        let committed = flag("a vote", bytes)?;
        Ok(if committed { Self::new_committed(term, node) } else { Self::new(term, node) })
    }
}

impl Message for Option<LogId> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        out.put_u8(u8::from(self.is_some()));
        if let Some(id) = self {
            out.put_u64(id.leader_id.term);
            out.put_u64(id.index);
        }
        Ok(())
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        if !flag("a log id", bytes)? {
            return Ok(None);
        }
        let (term, index) = (bytes.try_get_u64()?, bytes.try_get_u64()?);
        Ok(Some(log_id(term, index)))
    }
}

fn flag(what: &'static str, bytes: &mut Bytes) -> Result<bool, BadMessage> {
    match bytes.try_get_u8()? {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(BadMessage::Kind { what, found }),
    }
}

impl Message for AppendEntriesRequest<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        self.vote.put(out)?;
        self.prev_log_id.put(out)?;
        self.leader_commit.put(out)?;
        out.put_u64(self.entries.first().map_or(0, |entry| entry.log_id.index));
        // openraft sends thousands at most.
        out.put_u32(u32::try_from(self.entries.len()).unwrap_or(u32::MAX));
        self.entries.iter().try_for_each(|entry| put_entry(entry, out))
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        let vote = Vote::get(bytes)?;
        let prev_log_id: Option<LogId> = Message::get(bytes)?;
        let leader_commit = Message::get(bytes)?;
        let first = bytes.try_get_u64()?;
        let count = u64::from(bytes.try_get_u32()?);
        let follows = prev_log_id.map_or(Some(0), |before| before.index.checked_add(1));
        let end = first.checked_add(count).filter(|_| count == 0 || follows == Some(first));
        let end = end.ok_or(BadMessage::Follows { first, before: prev_log_id.map(|id| id.index) })?;
        // What is read decides how much is kept, not what is claimed.
        let mut entries = Vec::new();
        for index in first..end {
            entries.push(get_entry(index, bytes)?);
        }
        Ok(Self { vote, prev_log_id, entries, leader_commit })
    }

    fn size_hint(&self) -> usize {
        APPEND_HEAD_BYTES + self.entries.iter().map(entry_bytes).sum::<usize>()
    }
}

/// How many bytes an entry takes, memberships aside.
pub(crate) fn entry_bytes(entry: &Entry) -> usize {
    match &entry.payload {
        EntryPayload::Normal(command) => ENTRY_HEAD_BYTES + command.0.len(),
        EntryPayload::Blank | EntryPayload::Membership(_) => ENTRY_HEAD_BYTES,
    }
}

fn put_entry(entry: &Entry, out: &mut Vec<u8>) -> Result<(), BadMessage> {
    out.put_u64(entry.log_id.leader_id.term);
    let mut put = |kind: u8, payload: &[u8]| {
        out.put_u8(kind);
        // A command is less than 1 MiB.
        out.put_u32(u32::try_from(payload.len()).unwrap_or(u32::MAX));
        out.put_slice(payload);
    };
    match &entry.payload {
        EntryPayload::Blank => put(BLANK, &[]),
        EntryPayload::Normal(command) => put(COMMAND, &command.0),
        EntryPayload::Membership(membership) => {
            put(MEMBERSHIP, &serde_json::to_vec(membership).map_err(BadMessage::Membership)?);
        }
    }
    Ok(())
}

fn get_entry(index: u64, bytes: &mut Bytes) -> Result<Entry, BadMessage> {
    let term = bytes.try_get_u64()?;
    let kind = bytes.try_get_u8()?;
    let length = bytes.try_get_u32()? as usize;
    if length > bytes.len() {
        return Err(BadMessage::Short);
    }
    let payload = bytes.split_to(length);
    let payload = match kind {
        BLANK => EntryPayload::Blank,
        COMMAND => EntryPayload::Normal(Cmd(payload)),
        MEMBERSHIP => {
            EntryPayload::Membership(serde_json::from_slice(&payload).map_err(BadMessage::Membership)?)
        }
        found => return Err(BadMessage::Kind { what: "an entry", found }),
    };
    Ok(Entry { log_id: log_id(term, index), payload })
}

const MATCHED: u8 = 0;
const CONFLICT: u8 = 1;
const HIGHER_VOTE: u8 = 2;

impl Message for StreamAppendResult<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        match self {
            Ok(matched) => {
                out.put_u8(MATCHED);
                matched.put(out)
            }
            Err(StreamAppendError::Conflict(at)) => {
                out.put_u8(CONFLICT);
                Some(*at).put(out)
            }
            Err(StreamAppendError::HigherVote(vote)) => {
                out.put_u8(HIGHER_VOTE);
                vote.put(out)
            }
        }
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        match bytes.try_get_u8()? {
            MATCHED => Ok(Ok(Message::get(bytes)?)),
            CONFLICT => {
                let at = <Option<LogId>>::get(bytes)?.ok_or(BadMessage::Short)?;
                Ok(Err(StreamAppendError::Conflict(at)))
            }
            HIGHER_VOTE => Ok(Err(StreamAppendError::HigherVote(Vote::get(bytes)?))),
            found => Err(BadMessage::Kind { what: "an answer", found }),
        }
    }
}

impl Message for VoteRequest<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        self.vote.put(out)?;
        self.last_log_id.put(out)?;
        out.put_u8(u8::from(self.leadership_transfer));
        Ok(())
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        let mut request = Self::new(Message::get(bytes)?, Message::get(bytes)?);
        request.leadership_transfer = flag("a request for a vote", bytes)?;
        Ok(request)
    }
}

impl Message for VoteResponse<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        self.vote.put(out)?;
        self.last_log_id.put(out)?;
        out.put_u8(u8::from(self.vote_granted));
        Ok(())
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        let (vote, last_log_id): (Vote, _) = (Message::get(bytes)?, Message::get(bytes)?);
        Ok(Self::new(vote, last_log_id, flag("an answer to a request for a vote", bytes)?))
    }
}

impl Message for TransferLeaderRequest<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        self.from_leader().put(out)?;
        out.put_u64(*self.to_node_id());
        self.last_log_id().copied().put(out)
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        Ok(Self::new(Message::get(bytes)?, bytes.try_get_u64()?, Message::get(bytes)?))
    }
}

const TAKEN: u8 = 0;
const VOTE_CHANGED: u8 = 1;
const NOT_FLUSHED: u8 = 2;

impl Message for TransferLeaderResponse<TypeConfig> {
    fn put(&self, out: &mut Vec<u8>) -> Result<(), BadMessage> {
        match self {
            Ok(()) => out.put_u8(TAKEN),
            Err(TransferLeaderError::VoteChanged { expected, actual }) => {
                out.put_u8(VOTE_CHANGED);
                expected.put(out)?;
                actual.put(out)?;
            }
            Err(TransferLeaderError::LogNotFlushed { expected, actual }) => {
                out.put_u8(NOT_FLUSHED);
                expected.put(out)?;
                actual.put(out)?;
            }
        }
        Ok(())
    }

    fn get(bytes: &mut Bytes) -> Result<Self, BadMessage> {
        match bytes.try_get_u8()? {
            TAKEN => Ok(Ok(())),
            VOTE_CHANGED => {
                let (expected, actual) = (Message::get(bytes)?, Message::get(bytes)?);
                Ok(Err(TransferLeaderError::VoteChanged { expected, actual }))
            }
            NOT_FLUSHED => {
                let (expected, actual) = (Message::get(bytes)?, Message::get(bytes)?);
                Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual }))
            }
            found => Err(BadMessage::Kind { what: "an answer to a transfer", found }),
        }
    }
}

#[cfg(test)]
mod tests;
