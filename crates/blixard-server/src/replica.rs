//! This node's copy of the cluster's state.
//!
//! Owns: the state in memory, the decoding of log entries, the checkpoint's encoding, and telling
//! readers that the state has changed. Refuses to know: how entries come to be committed.

mod assigned;
mod changes;
mod digest;

use std::sync::{Arc, PoisonError, RwLock};

use blixard_core::assignment::AssignmentSet;
use blixard_core::ports::consensus::{ApplyHalt, Checkpoint, ReplicatedMachine, RestoreError};
use blixard_core::rules::{KnownRules, RULES, Rules};
use blixard_core::state::ClusterState;
use blixard_proto::{decode_envelope, encode_outcome};
use blixard_types::{LogPosition, NodeId, Revision, Sha256Hash};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use assigned::Assigned;
use changes::Teller;
pub use changes::{Changes, NoMoreChanges};
pub use digest::StateDigest;
use digest::{AUDIT_EVERY, Digests};

/// The version of the checkpoint's format that this program writes and reads.
const CHECKPOINT_VERSION: u32 = 1;

/// This node's copy of the cluster's state.
#[derive(Debug)]
pub struct Replica {
    state: RwLock<ClusterState>,
    changes: Teller,
    digests: Arc<Digests>,
    assigned: Assigned,
    known: KnownRules,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CheckpointFile {
    version: u32,
    state: ClusterState,
}

/// What is read of a checkpoint that cannot be read as a whole, to say why.
#[derive(Deserialize)]
struct Head {
    state: StateHead,
}

#[derive(Deserialize)]
struct StateHead {
    #[serde(default)]
    rules: Rules,
}

impl Default for Replica {
    fn default() -> Self {
        Self::auditing_every(AUDIT_EVERY)
    }
}

impl Replica {
    /// One whose state is compared with the other servers' every so many entries.
    #[must_use]
    pub fn auditing_every(entries: u64) -> Self {
        Self::knowing(RULES, entries)
    }

    fn knowing(known: KnownRules, entries: u64) -> Self {
        let (digests, assigned) = (Arc::new(Digests::every(entries)), Assigned::default());
        Self { state: RwLock::default(), changes: Teller::default(), digests, assigned, known }
    }

    /// The state's digest, now.
    pub fn digest_now(&self) -> (Revision, Sha256Hash) {
        let state = self.read(ClusterState::clone);
        (state.applied.revision(), digest::of(&state))
    }

    /// The newest digest that the other servers should have had, too.
    #[must_use]
    pub fn digests(&self) -> watch::Receiver<Option<StateDigest>> {
        self.digests.newest()
    }

    /// Looks at the state. The closure must be short: entries wait for it.
    pub fn read<T>(&self, look: impl FnOnce(&ClusterState) -> T) -> T {
        // A poisoned lock means that `apply` panicked, and the node stops then; readers that are still
        // there see the last whole state or one with the entry half applied, and answer nobody anew.
        look(&self.state.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// What the state, which is this replica's and is looked at now, grants a host.
    pub(crate) fn assignments(&self, state: &ClusterState, host: NodeId) -> Arc<AssignmentSet> {
        self.assigned.of(state, host)
    }

    /// Tells when what a host is granted may have changed.
    pub(crate) fn news_for(&self, host: NodeId) -> watch::Receiver<Revision> {
        self.assigned.listen(host)
    }

    /// Tells when the state has changed.
    #[must_use]
    pub fn changes(&self) -> Changes {
        self.changes.listen()
    }
}

impl ReplicatedMachine for Replica {
    fn apply(&self, position: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt> {
        let halt = |reason: String| ApplyHalt { position, reason };
        let envelope = decode_envelope(command).map_err(|error| halt(error.to_string()))?;
        self.digests.check(&envelope, self.known).map_err(halt)?;
        let outcome = {
            let mut state = self.state.write().map_err(|_| halt("an earlier command panicked".to_owned()))?;
            let (before, rules) = (state.applied, state.rules);
            let outcome = state.apply(&envelope, position);
            self.assigned.follow(&state, &envelope.command);
            if state.rules != rules {
                self.known.check(state.rules).map_err(|unknown| halt(unknown.to_string()))?;
                tracing::info!(rules = %state.rules, revision = %position.revision(), "new rules hold from here on");
            }
            if self.digests.is_due(before, position) {
                self.digests.take(state.clone());
            }
            outcome
        };
        self.changes.tell();
        encode_outcome(&outcome).map_err(|error| halt(error.to_string()))
    }

    fn checkpoint(&self) -> Checkpoint {
        let state = self.read(ClusterState::clone);
        Box::new(move || {
            let file = CheckpointFile { version: CHECKPOINT_VERSION, state };
            // The state holds nothing that JSON cannot; an empty checkpoint would be refused on restore.
            serde_json::to_vec(&file).unwrap_or_default()
        })
    }

    fn restore(&self, checkpoint: &[u8]) -> Result<(), RestoreError> {
        let refuse = |reason: String| RestoreError { reason };
        let file: CheckpointFile = serde_json::from_slice(checkpoint).map_err(|error| {
            let head = serde_json::from_slice::<Head>(checkpoint);
            let unknown = head.ok().and_then(|head| self.known.check(head.state.rules).err());
            refuse(unknown.map_or_else(|| error.to_string(), |unknown| unknown.to_string()))
        })?;
        if file.version != CHECKPOINT_VERSION {
            return Err(refuse(format!("version {} is unknown", file.version)));
        }
        self.known.check(file.state.rules).map_err(|unknown| refuse(unknown.to_string()))?;
        {
            let mut state =
                self.state.write().map_err(|_| refuse("an earlier command panicked".to_owned()))?;
            *state = file.state;
            self.assigned.read_anew(&state);
        }
        self.changes.tell();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
