//! The state machine as openraft sees it: a [`ReplicatedMachine`] and its checkpoints.
//!
//! Owns what was applied last and the order of apply, capture and install. Refuses to skip a command
//! that the machine cannot apply, and to go on when a checkpoint cannot be written: the node stops.
//! The state itself is in memory, in the machine.

use std::io;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};

use blixard_core::ports::consensus::{Checkpoint, ReplicatedMachine};
use futures_util::{Stream, StreamExt};
use openraft::EntryPayload;
use openraft::alias::SnapshotOf;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::mpsc;

use crate::alive::Alive;
use crate::checkpoint::{CheckpointBody, CheckpointStore};
use crate::offload::Offload;
use crate::stop::StopCause;
use crate::types::{Entry, LogId, Reply, SnapshotMeta, StoredMembership, TypeConfig, position};

/// The state machine and what it has applied.
pub(crate) struct Machine {
    pub(crate) replicated: Arc<dyn ReplicatedMachine>,
    pub(crate) checkpoints: Arc<CheckpointStore>,
    pub(crate) applied: Option<LogId>,
    pub(crate) membership: StoredMembership,
    pub(crate) stop: StopCause,
    pub(crate) offload: Offload,
    pub(crate) due: DueCheckpoints,
    /// Last, so that all else is gone when it goes.
    pub(crate) alive: Alive,
}

/// Counts what was applied since the last checkpoint, and says when that is too much.
#[derive(Debug)]
pub(crate) struct DueCheckpoints {
    limit: u64,
    bytes: u64,
    said: mpsc::Sender<()>,
}

impl DueCheckpoints {
    /// With the side that hears it.
    pub(crate) fn new(limit: u64) -> (Self, mpsc::Receiver<()>) {
        // One that is not heard yet is enough.
        let (said, heard) = mpsc::channel(1);
        (Self { limit, bytes: 0, said }, heard)
    }

    fn count(&mut self, bytes: usize) {
        self.bytes += bytes as u64;
        if self.bytes >= self.limit {
            self.bytes = 0;
            self.said.try_send(()).ok();
        }
    }

    fn begun(&mut self) {
        self.bytes = 0;
    }
}

impl Machine {
    fn apply_entry(&mut self, entry: Entry) -> Result<Reply, io::Error> {
        let id = entry.log_id;
        let reply = match entry.payload {
            EntryPayload::Blank => Reply::default(),
            EntryPayload::Normal(command) => match self.replicated.apply(position(id), &command.0) {
                Ok(outcome) => {
                    self.due.count(command.0.len());
                    Reply(outcome)
                }
                Err(halt) => return Err(self.stop.fail(&halt)),
            },
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(id), membership);
                Reply::default()
            }
        };
        self.applied = Some(id);
        Ok(reply)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = CheckpointBody;
    type SnapshotBuilder = CheckpointBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    /// Applies all, then answers all: the proposers are not woken in between.
    async fn apply<S>(&mut self, entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let mut entries = pin!(entries);
        let mut answers = Vec::new();
        let mut result = Ok(());
        while let Some(next) = entries.next().await {
            let applied = next.and_then(|(entry, responder)| Ok((self.apply_entry(entry)?, responder)));
            match applied {
                Ok((reply, Some(responder))) => answers.push((responder, reply)),
                Ok((_, None)) => {}
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        // What was applied before a halt was applied, and is answered.
        for (responder, reply) in answers {
            responder.send(reply);
        }
        result
    }

    async fn get_snapshot_builder(&mut self) -> CheckpointBuilder {
        self.due.begun();
        CheckpointBuilder {
            meta: SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() },
            captured: Mutex::new(Some(self.replicated.checkpoint())),
            checkpoints: Arc::clone(&self.checkpoints),
            stop: self.stop.clone(),
            offload: self.offload.clone(),
            alive: self.alive.clone(),
        }
    }

    /// The machine first: when it cannot read the state, the disk still holds one that it can.
    async fn install_snapshot(&mut self, meta: &SnapshotMeta, body: CheckpointBody) -> Result<(), io::Error> {
        let replicated = Arc::clone(&self.replicated);
        let checkpoints = Arc::clone(&self.checkpoints);
        let stop = self.stop.clone();
        let alive = self.alive.clone();
        let saved_meta = meta.clone();
        let install = move || {
            let state = body.read().map_err(|e| stop.fail(&e))?;
            replicated.restore(&state).map_err(|e| stop.fail(&e))?;
            drop(state);
            checkpoints.adopt(saved_meta, body).map_err(|e| stop.fail(&e))?;
            drop(alive);
            Ok::<(), io::Error>(())
        };
        self.offload.run(install).await??;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }

    async fn get_current_snapshot(
        &mut self,
    ) -> Result<Option<SnapshotOf<TypeConfig, CheckpointBody>>, io::Error> {
        Ok(self.checkpoints.current())
    }
}

/// A state that was captured, to be encoded and written off the apply path.
pub(crate) struct CheckpointBuilder {
    meta: SnapshotMeta,
    /// In a mutex because openraft wants the builder `Sync`, which the closure need not be.
    captured: Mutex<Option<Checkpoint>>,
    checkpoints: Arc<CheckpointStore>,
    stop: StopCause,
    offload: Offload,
    alive: Alive,
}

impl RaftSnapshotBuilder<TypeConfig> for CheckpointBuilder {
    type SnapshotData = CheckpointBody;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, CheckpointBody>, io::Error> {
        let captured = self.captured.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(encode) = captured else {
            return Err(io::Error::other("the captured state was built already"));
        };
        let meta = self.meta.clone();
        let checkpoints = Arc::clone(&self.checkpoints);
        let stop = self.stop.clone();
        let alive = self.alive.clone();
        let build = move || {
            let saved = checkpoints.save(meta, &encode());
            drop(alive);
            saved.map_err(|error| stop.fail(&error))
        };
        self.offload.run(build).await?
    }
}
