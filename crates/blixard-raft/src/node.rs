//! A consensus node: opening one, proposing to it, reading from it, shutting it down.
//!
//! Owns the order of recovery (checkpoint, then the log after it) and the translation of openraft's
//! answers. Runs openraft where [`Place`](crate::Place) says.
//!
//! ```text
//! open ─► form (once in a cluster's life) or be added by a leader ─► leads, follows ─► shutdown
//!                                                                          └─► stopped (disk or machine failed)
//! ```

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blixard_core::ports::consensus::{Applied, Consensus, LinearizeError, ProposeError};
use blixard_core::ports::consensus::{ReplicatedMachine, Standing};
use blixard_core::ports::members::{Membership as _, MembershipError, StorageUse};
use blixard_core::ports::{BoxFuture, BoxStream};
use blixard_types::LogPosition;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::{LinearizerOption, Raft, ReadPolicy};

use crate::alive::Gone;
use crate::checkpoint::CheckpointStore;
use crate::files::SharedFiles;
use crate::home::Home;
use crate::log::{LogDisk, WriterHandle};
use crate::machine::Machine;
use crate::offload::Offload;
use crate::options::{MAX_COMMAND_BYTES, RaftOptions};
use crate::standing::Standings;
use crate::types::{Cmd, LogId, Peer, TypeConfig, node_id, position};

mod alone;
mod open;

pub use alone::AloneError;
pub use open::OpenError;

/// A node of the consensus group. Cheap to clone; all clones are the same node.
///
/// Call [`shutdown`](Self::shutdown) before the data directory is opened again: dropping the node
/// does not stop it.
#[derive(Clone)]
pub struct RaftNode(Arc<Inner>);

struct Inner {
    raft: Raft<TypeConfig, Machine>,
    peer: Peer,
    standings: Standings,
    checkpoints: Arc<CheckpointStore>,
    log_file: PathBuf,
    files: SharedFiles,
    offload: Offload,
    longest_timeout: Duration,
    /// What is left to wait for at shutdown.
    rest: Mutex<Option<Rest>>,
}

struct Rest {
    gone: Gone,
    writer: WriterHandle,
    home: Home,
}

impl Rest {
    /// Waits until the files are closed and all threads have ended.
    async fn wait(self) {
        let Self { gone, writer, home } = self;
        gone.wait().await;
        writer.ended().await;
        home.end().await;
    }
}

/// The node has stopped, by request or by a failure.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the consensus node has stopped: {reason}")]
pub struct NodeStopped {
    /// Why.
    pub reason: String,
}

impl RaftNode {
    /// Opens the node that keeps its data in `options.data_dir`, and brings `machine`, which must be
    /// empty, to the state of the last checkpoint and what is known to be committed after it.
    ///
    /// A node that is the only voter of its cluster stands for election at once.
    pub async fn open(options: RaftOptions, machine: Arc<dyn ReplicatedMachine>) -> Result<Self, OpenError> {
        open::open(options, machine, open::disk_at).await
    }

    /// Opens a node whose log is on `disk`, say one that forgets what was not synced.
    /// Checkpoints are in `options.files` all the same.
    pub async fn open_on(
        options: RaftOptions,
        machine: Arc<dyn ReplicatedMachine>,
        disk: Box<dyn LogDisk>,
    ) -> Result<Self, OpenError> {
        open::open(options, machine, move |_: &Path| Ok(disk)).await
    }

    /// Makes this node the only voter of its group, which has lost its majority for ever, while no process has it
    /// open. What is in its log counts, known to be committed or not: some of it was. Brings `machine`, which must be
    /// empty, to that state; then `decide` gives the command that begins what follows, or none, and nothing
    /// is changed. Blocks.
    ///
    /// # Errors
    /// When there is no log of a member here, or it cannot be read or written.
    pub fn stand_alone(
        options: &RaftOptions,
        machine: &dyn ReplicatedMachine,
        decide: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<(), AloneError> {
        alone::stand_alone(options, machine, decide)
    }

    /// Forms a cluster of one, this node. Does nothing when the node belongs to a cluster already.
    pub async fn initialize_single(&self) -> Result<(), NodeStopped> {
        self.form().await.map_err(|error| match error {
            MembershipError::Stopped { reason } => NodeStopped { reason },
            other => NodeStopped { reason: other.to_string() },
        })
    }

    /// Waits until the state covers everything that this node's log held when it was opened, so that
    /// a read of the local state, linearizable or not, does not go back behind one before a restart.
    pub async fn recovered(&self) -> Result<(), NodeStopped> {
        match self.0.raft.wait_for_recovery(None).await {
            Ok(_) => Ok(()),
            Err(error) => Err(NodeStopped { reason: self.0.standings.stop.or(&error) }),
        }
    }

    /// Stops the node and waits until its files are closed. Idempotent.
    pub async fn shutdown(&self) {
        if let Err(error) = self.0.raft.shutdown().await {
            tracing::error!(%error, "the consensus task has ended badly");
        }
        let rest = self.0.rest.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(rest) = rest {
            rest.wait().await;
        }
    }

    pub(crate) fn raft(&self) -> &Raft<TypeConfig, Machine> {
        &self.0.raft
    }

    pub(crate) fn number(&self) -> u64 {
        *self.0.raft.node_id()
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.0.peer
    }

    pub(crate) fn checkpoints(&self) -> &CheckpointStore {
        &self.0.checkpoints
    }

    pub(crate) fn standings_source(&self) -> Standings {
        self.0.standings.clone()
    }

    pub(crate) fn offload(&self) -> &Offload {
        &self.0.offload
    }

    pub(crate) fn longest_timeout(&self) -> Duration {
        self.0.longest_timeout
    }

    /// Looks at the files of this node; blocks.
    pub(crate) fn files(&self) -> std::io::Result<StorageUse> {
        let ends = self.0.standings.tail.ends();
        let entries = |id: Option<LogId>| id.map_or(0, |id| id.index + 1);
        Ok(StorageUse {
            log_bytes: match self.0.files.size(&self.0.log_file) {
                Ok(size) => size,
                // A log on a disk that the caller brought has no file.
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => 0,
                Err(error) => return Err(error),
            },
            checkpoint_bytes: self.0.checkpoints.size()?,
            log_entries: entries(ends.last).saturating_sub(entries(ends.purged)),
            durable_commits: self.0.standings.tail.durable_commits(),
        })
    }

    pub(crate) fn stopped(&self, fatal: &Fatal<TypeConfig>) -> NodeStopped {
        NodeStopped { reason: self.0.standings.stop.or(fatal) }
    }

    async fn write(&self, command: Vec<u8>) -> Result<Applied, ProposeError> {
        let size = command.len();
        if size > MAX_COMMAND_BYTES {
            return Err(ProposeError::TooLarge { size, limit: MAX_COMMAND_BYTES });
        }
        let error = match self.0.raft.client_write(Cmd(command.into())).await {
            Ok(written) => {
                return Ok(Applied { position: position(written.log_id), outcome: written.data.0 });
            }
            Err(error) => error,
        };
        Err(match error {
            RaftError::APIError(ClientWriteError::ForwardToLeader(to)) => {
                ProposeError::NotLeader { leader: to.leader_id.map(node_id) }
            }
            // The last two answer requests that are never made here; "unknown" is always true.
            RaftError::APIError(
                ClientWriteError::LogEntryDiscarded(_)
                | ClientWriteError::ChangeMembershipError(_)
                | ClientWriteError::PreconditionFailed(_),
            ) => ProposeError::OutcomeUnknown,
            // The entry may be in the log, and be applied after a restart.
            RaftError::Fatal(fatal) => ProposeError::Stopped { reason: self.stopped(&fatal).reason },
        })
    }

    async fn read_point(&self, how: impl Into<LinearizerOption>) -> Result<LogPosition, LinearizeError> {
        let raft = &self.0.raft;
        let stopped = |fatal| LinearizeError::Stopped { reason: self.stopped(&fatal).reason };
        let linearizer = match raft.get_read_linearizer(how).await {
            Ok(linearizer) => linearizer,
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                return Err(LinearizeError::NotLeader { leader: to.leader_id.map(node_id) });
            }
            Err(RaftError::APIError(LinearizableReadError::QuorumNotEnough(_))) => {
                return Err(LinearizeError::NoQuorum);
            }
            Err(RaftError::Fatal(fatal)) => return Err(stopped(fatal)),
        };
        let ready = linearizer.await_ready(raft).await.map_err(stopped)?;
        Ok(position(*ready.read_log_id().log_id()))
    }
}

impl Consensus for RaftNode {
    fn propose(&self, command: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        Box::pin(self.write(command))
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        Box::pin(self.read_point(ReadPolicy::ReadIndex))
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        // The oldest answer that counts: the leader's lease; and ask if it is older.
        Box::pin(self.read_point(LinearizerOption::new(None, true)))
    }

    fn standing(&self) -> Standing {
        self.0.standings.now()
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        self.0.standings.clone().stream()
    }
}

#[cfg(test)]
mod tests;
