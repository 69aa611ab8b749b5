//! Digests of the state, to be compared with those of the other servers.
//!
//! Every server takes one after the same entries. The leader says its own in the log (`Audit`); who
//! remembers another one for that entry stops: what it would answer is not what the cluster decided. A digest by
//! rules that this program does not know says nothing about its own state, and is not compared.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::command::{Command, Envelope};
use blixard_core::rules::{KnownRules, Rules};
use blixard_core::state::ClusterState;
use blixard_types::{LogPosition, Revision, Sha256Hash};
use tokio::sync::watch;

/// Entries between two digests. A state is copied and hashed for each; at this distance that is a small
/// part of what the entries cost.
pub(super) const AUDIT_EVERY: u64 = 4096;

/// Digests remembered. The leader says one long before the next is due.
const REMEMBERED: usize = 8;

/// The digests of one replica.
#[derive(Debug)]
pub(super) struct Digests {
    every: u64,
    remembered: Mutex<VecDeque<StateDigest>>,
    newest: watch::Sender<Option<StateDigest>>,
}

/// What the state was after an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StateDigest {
    /// The entry.
    pub revision: Revision,
    /// The rules that hold after it.
    pub rules: Rules,
    /// SHA-256 of the state.
    pub digest: Sha256Hash,
}

/// The digest of a state: SHA-256 of its JSON, which is one for each state.
pub(super) fn of(state: &ClusterState) -> Sha256Hash {
    let mut hasher = HashWriter::default();
    // Writing into a hash cannot fail, and the state holds nothing that JSON cannot.
    let _ = serde_json::to_writer(&mut hasher, state);
    hasher.finish()
}

impl Digests {
    pub(super) fn every(entries: u64) -> Self {
        Self { every: entries.max(1), remembered: Mutex::default(), newest: watch::Sender::new(None) }
    }

    pub(super) fn newest(&self) -> watch::Receiver<Option<StateDigest>> {
        self.newest.subscribe()
    }

    /// Whether a digest is taken after this entry: after the first at or past each multiple. Both
    /// positions are part of the state, so that all servers agree.
    pub(super) fn is_due(&self, before: LogPosition, after: LogPosition) -> bool {
        before.index / self.every < after.index / self.every
    }

    /// Hashes a copy of the state, beside the entries that follow where there is a runtime.
    pub(super) fn take(self: &Arc<Self>, state: ClusterState) {
        let this = Arc::clone(self);
        let work = move || {
            let (revision, rules) = (state.applied.revision(), state.rules);
            let taken = StateDigest { revision, rules, digest: of(&state) };
            let mut remembered = this.remembered.lock().unwrap_or_else(PoisonError::into_inner);
            remembered.push_back(taken);
            if remembered.len() > REMEMBERED {
                remembered.pop_front();
            }
            this.newest.send_replace(Some(taken));
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(work)),
            Err(_) => work(),
        }
    }

    /// Compares, if this is what the command asks for, the digest is remembered, and these rules make the same state
    /// everywhere.
    pub(super) fn check(&self, envelope: &Envelope, known: KnownRules) -> Result<(), String> {
        let &Command::Audit { revision, digest, rules } = &envelope.command else { return Ok(()) };
        let remembered = self.remembered.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(own) = remembered.iter().find(|taken| taken.revision == revision) else { return Ok(()) };
        let own = own.digest;
        if own == digest {
            return Ok(());
        }
        if !known.contain(rules) {
            tracing::info!(%revision, %rules, "a state by rules that are not known here is not compared");
            return Ok(());
        }
        Err(format!(
            "the state at revision {revision} is {own} here and {digest} at the leader: this server's memory, disk \
             or program is at fault. Remove it from the cluster and let it join anew"
        ))
    }
}

#[derive(Default)]
struct HashWriter(sha2::Sha256);

impl HashWriter {
    fn finish(self) -> Sha256Hash {
        use sha2::Digest as _;
        Sha256Hash(self.0.finalize().into())
    }
}

impl io::Write for HashWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        use sha2::Digest as _;
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
