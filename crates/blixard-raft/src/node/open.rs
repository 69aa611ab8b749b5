//! Opening a node: the log, the newest checkpoint, and whether the two fit together.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use blixard_core::ports::consensus::{ReplicatedMachine, RestoreError};
use openraft::errors::Fatal;
use openraft::{ConfigError, Raft};
use tokio::sync::mpsc;

use super::{Inner, NodeStopped, RaftNode, Rest};
use crate::alive;
use crate::checkpoint::{CheckpointError, CheckpointStore};
use crate::home::Home;
use crate::log::{BadSegments, DiskError, FileDisk, FoundLog, LogDisk, LogOpenError, LogStore, Segments};
use crate::machine::{DueCheckpoints, Machine};
use crate::network::PeerNetwork;
use crate::options::RaftOptions;
use crate::standing::Standings;
use crate::stop::StopCause;
use crate::types::{SnapshotMeta, TypeConfig, position};

type Started = Raft<TypeConfig, Machine>;

pub(super) const LOG_FILE: &str = "log";
/// What programs before this one kept their log in.
const OLD_LOG_FILE: &str = "log.redb";
const CHECKPOINT_DIRECTORY: &str = "checkpoints";

/// Why a node cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The options contradict each other.
    #[error("the consensus settings are not valid")]
    Options(#[source] Box<ConfigError>),
    /// The data directory cannot be made or synced.
    #[error("cannot use the data directory {}", path.display())]
    DataDir {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another process, or another node in this one, has it open.
    #[error("the log {} is in use by another process", path.display())]
    InUse {
        /// The log's file.
        path: PathBuf,
    },
    /// The log's file cannot be opened.
    #[error("cannot open the log {}", path.display())]
    File {
        /// The log's file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The log's file is not what was written.
    #[error("cannot use the log {}", path.display())]
    Segments {
        /// The log's file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: BadSegments,
    },
    /// The log is of a program before this one.
    #[error("the log {} is of an older version, which this program does not read", path.display())]
    Old {
        /// The log's file.
        path: PathBuf,
    },
    /// The log was opened, and what is in it is bad.
    #[error("cannot use the log")]
    Log(#[from] LogOpenError),
    /// The newest checkpoint is damaged or cannot be read.
    #[error("cannot use the newest checkpoint")]
    Checkpoint(#[from] CheckpointError),
    /// The machine cannot read the state in the checkpoint.
    #[error("the checkpoint is whole, but its state cannot be restored")]
    Restore(#[from] RestoreError),
    /// The log was purged further than the checkpoint reaches.
    #[error("the log begins after entry {purged}, but {}: entries are missing between them", reach(*checkpoint))]
    Gap {
        /// The last entry that was purged.
        purged: u64,
        /// The last entry that the checkpoint covers.
        checkpoint: Option<u64>,
    },
    /// The committed entries after the checkpoint could not be applied, or the start failed otherwise.
    #[error("cannot recover the state from the log: {reason}")]
    Recover {
        /// Why.
        reason: String,
    },
    /// A thread for the node could not be started.
    #[error("cannot start a thread for the consensus")]
    Thread(#[source] io::Error),
    /// The task that opened the files has panicked, or the runtime is shutting down.
    #[error("the task that opened the log has not ended well")]
    Task(#[source] tokio::task::JoinError),
}

fn reach(checkpoint: Option<u64>) -> String {
    checkpoint.map_or_else(
        || "there is no checkpoint".to_owned(),
        |index| format!("the checkpoint ends at {index}"),
    )
}

pub(super) fn disk_at(path: &Path) -> Result<Box<dyn LogDisk>, OpenError> {
    let old = path.with_file_name(OLD_LOG_FILE);
    if old.exists() {
        return Err(OpenError::Old { path: old });
    }
    let path = path.to_owned();
    match FileDisk::open(&path) {
        Ok(disk) => Ok(Box::new(disk)),
        Err(DiskError::InUse) => Err(OpenError::InUse { path }),
        Err(DiskError::Open(source)) => Err(OpenError::File { path, source }),
    }
}

/// Starts openraft, and takes a checkpoint whenever the machine says that it is time. Ends with the machine.
async fn start(
    opening: impl Future<Output = Result<Started, Fatal<TypeConfig>>> + Send,
    mut due: mpsc::Receiver<()>,
) -> Result<Started, Fatal<TypeConfig>> {
    let raft = opening.await?;
    let trigger = raft.clone();
    #[expect(clippy::disallowed_methods, reason = "it ends when the machine is gone")]
    tokio::task::spawn(async move {
        while due.recv().await.is_some() {
            // Who has stopped needs none.
            trigger.trigger().snapshot().await.ok();
        }
    });
    Ok(raft)
}

/// Opens a node whose log is on the disk that `disk` gives.
pub(super) async fn open(
    options: RaftOptions,
    machine: Arc<dyn ReplicatedMachine>,
    disk: impl FnOnce(&Path) -> Result<Box<dyn LogDisk>, OpenError> + Send + 'static,
) -> Result<RaftNode, OpenError> {
    let config = options.config().map_err(|e| OpenError::Options(Box::new(e)))?;
    let stop = StopCause::default();
    let (alive, gone) = alive::watch();
    let node = options.node.0;
    let home = Home::open(options.place).map_err(OpenError::Thread)?;
    let peer = options.peer.clone();
    let network = PeerNetwork { transport: options.transport.clone(), me: node };
    let log_file = options.data_dir.join(LOG_FILE);
    let longest_timeout = options.elections.timeout_max;
    let (files, offload) = (options.files.clone(), options.offload.clone());
    let parts = {
        let stop = stop.clone();
        let recover = move || Parts::load(&options, machine, stop, alive, disk);
        offload.run(recover).await.map_err(OpenError::Task)??
    };
    let Parts { found, machine, due } = parts;
    let checkpoints = Arc::clone(&machine.checkpoints);
    let (log, writer) = LogStore::start(found, stop.clone(), machine.alive.clone(), &offload)?;
    let tail = log.tail();
    let start = start(Raft::new(node, Arc::new(config), network, log, machine), due);
    let raft = match home.run(start).await.map_err(OpenError::Task)? {
        Ok(raft) => raft,
        Err(fatal) => {
            // The files are closed before the error is told.
            Rest { gone, writer, home }.wait().await;
            return Err(OpenError::Recover { reason: stop.or(&fatal) });
        }
    };
    let standings = Standings { metrics: raft.metrics(), tail, stop, members: Arc::default() };
    let rest = Mutex::new(Some(Rest { gone, writer, home }));
    let inner = Inner { raft, peer, standings, checkpoints, log_file, files, offload, longest_timeout, rest };
    let opened = RaftNode(Arc::new(inner));
    if let Err(error) = opened.stand_if_alone().await {
        opened.shutdown().await;
        return Err(error);
    }
    Ok(opened)
}

impl RaftNode {
    /// The only voter need not wait for a leader that cannot be.
    async fn stand_if_alone(&self) -> Result<(), OpenError> {
        let failed = |stopped: NodeStopped| OpenError::Recover { reason: stopped.reason };
        if self.is_only_voter().await.map_err(failed)? {
            let elected = self.0.raft.trigger().elect(false).await;
            elected.map_err(|fatal| failed(self.stopped(&fatal)))?;
        }
        Ok(())
    }

    /// Whether this node is the only one that votes, by what is in its log.
    ///
    /// # Errors
    /// When the node has stopped.
    pub async fn is_only_voter(&self) -> Result<bool, NodeStopped> {
        let raft = &self.0.raft;
        let me = *raft.node_id();
        let alone =
            raft.with_raft_state(move |state| state.membership_state.effective().voter_ids().eq([me]));
        alone.await.map_err(|fatal| self.stopped(&fatal))
    }
}

/// What is on disk, the state of the newest checkpoint aside, which the machine has got.
pub(super) struct OnDisk {
    pub(super) found: FoundLog,
    pub(super) meta: SnapshotMeta,
    checkpoints: CheckpointStore,
}

impl OnDisk {
    pub(super) fn read(
        options: &RaftOptions,
        machine: &dyn ReplicatedMachine,
        disk: impl FnOnce(&Path) -> Result<Box<dyn LogDisk>, OpenError>,
    ) -> Result<Self, OpenError> {
        let directory = &options.data_dir;
        let failed = |source| OpenError::DataDir { path: directory.clone(), source };
        let files = &options.files;
        files.make_directory(directory).map_err(failed)?;
        // The log first: its lock keeps others from the checkpoints too.
        let path = directory.join(LOG_FILE);
        let segments = Segments::open(disk(&path)?, options.log_segment_bytes);
        let engine = Arc::new(segments.map_err(|source| OpenError::Segments { path, source })?);
        let checkpoints = directory.join(CHECKPOINT_DIRECTORY);
        let (checkpoints, newest) =
            CheckpointStore::open(files.clone(), options.offload.clone(), &checkpoints)?;
        // The names of the new file and directory must survive a crash as what is in them does.
        files.sync_directory(directory).map_err(failed)?;
        let meta = match newest {
            None => SnapshotMeta::default(),
            Some((meta, state)) => {
                machine.restore(&state)?;
                meta
            }
        };
        let found = FoundLog::read(options.node.0, engine)?;
        check_reach(&found, &meta)?;
        Ok(Self { found, meta, checkpoints })
    }
}

/// What is loaded from disk before openraft starts.
struct Parts {
    found: FoundLog,
    machine: Machine,
    due: mpsc::Receiver<()>,
}

impl Parts {
    fn load(
        options: &RaftOptions,
        machine: Arc<dyn ReplicatedMachine>,
        stop: StopCause,
        alive: alive::Alive,
        disk: impl FnOnce(&Path) -> Result<Box<dyn LogDisk>, OpenError>,
    ) -> Result<Self, OpenError> {
        let OnDisk { found, meta, checkpoints } = OnDisk::read(options, machine.as_ref(), disk)?;
        let (says, due) = DueCheckpoints::new(options.checkpoint_bytes);
        let machine = Machine {
            replicated: machine,
            checkpoints: Arc::new(checkpoints),
            applied: meta.last_log_id,
            membership: meta.last_membership,
            stop,
            offload: options.offload.clone(),
            due: says,
            alive,
        };
        Ok(Self { found, machine, due })
    }
}

/// Without this, openraft would take the empty state for the one that the purged entries made.
fn check_reach(log: &FoundLog, meta: &SnapshotMeta) -> Result<(), OpenError> {
    let checkpoint = meta.last_log_id.map(|id| position(id).index);
    match log.purged().map(|id| position(id).index) {
        Some(purged) if checkpoint.is_none_or(|index| index < purged) => {
            Err(OpenError::Gap { purged, checkpoint })
        }
        _ => Ok(()),
    }
}
