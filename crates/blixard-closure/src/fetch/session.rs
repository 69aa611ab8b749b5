//! One fetch: the importer's answers, and a task for each peer.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_core::ports::Clock;
use blixard_core::ports::closure::{FetchError, FetchProgress, HeldClosure};
use blixard_core::transfer::{Pace, PeerIndex, Transfer, check_room};
use blixard_types::{ClosureRef, Manifest, NodeId, PathRecord};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::{Fetcher, PeerAccess, peer};
use crate::import::client::{Import, LaneWriter, Pipe};
use crate::import::{Answer, Order};
use crate::limits::FetchLimits;

/// What the tasks of a fetch share.
pub(super) struct Session {
    pub(super) closure: ClosureRef,
    pub(super) manifest: Arc<Manifest>,
    pub(super) access: Arc<dyn PeerAccess>,
    pub(super) pipe: Pipe,
    pub(super) limits: FetchLimits,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) pace: Option<Arc<Mutex<Pace>>>,
    transfer: Mutex<Transfer>,
    /// What the importer has refused of each peer and the peer's task has not heard yet.
    refusals: Mutex<BTreeMap<PeerIndex, String>>,
    /// Changes with either of them.
    changes: watch::Sender<u64>,
}

impl Session {
    pub(super) fn transfer(&self) -> MutexGuard<'_, Transfer> {
        self.transfer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    pub(super) fn refusal(&self, peer: PeerIndex) -> Option<String> {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).remove(&peer)
    }

    pub(super) fn record(&self, path: u32) -> Option<&PathRecord> {
        self.manifest.records().get(usize::try_from(path).ok()?)
    }

    fn refuse(&self, peer: PeerIndex, reason: String) {
        self.refusals.lock().unwrap_or_else(PoisonError::into_inner).insert(peer, reason);
        self.changed();
    }
}

pub(super) async fn run(
    fetcher: &Fetcher,
    closure: ClosureRef,
    manifest: Arc<Manifest>,
    nodes: Vec<NodeId>,
    progress: &FetchProgress,
) -> Result<HeldClosure, FetchError> {
    let failed = |error: std::io::Error| FetchError::Import { reason: blixard_types::chain(&error) };
    let begun = Import::begin(&fetcher.importer, closure.clone(), Arc::clone(&manifest)).await;
    let mut import = begun.map_err(failed)?;
    let missing = missing(&mut import, &manifest).await?;
    let transfer = Transfer::new(missing, nodes.len());
    progress(transfer.progress());
    let session = Arc::new(Session {
        closure,
        manifest,
        access: Arc::clone(&fetcher.peers),
        pipe: import.pipe.clone(),
        limits: fetcher.limits,
        clock: Arc::clone(&fetcher.clock),
        pace: fetcher.pace.clone(),
        transfer: Mutex::new(transfer),
        refusals: Mutex::default(),
        changes: watch::Sender::new(0),
    });
    receive(&session, &mut import, &nodes, progress).await?;
    register(&mut import).await?;
    Ok(HeldClosure(Box::new(import)))
}

/// What the store lacks, if it fits.
async fn missing(import: &mut Import, manifest: &Manifest) -> Result<Vec<(u32, u64)>, FetchError> {
    let (free, paths) = match import.answers.recv().await {
        Some(Answer::Missing { free, paths }) => (free, paths),
        other => return Err(unexpected(other)),
    };
    let size = |path: u32| {
        let record = manifest.records().get(usize::try_from(path).ok()?)?;
        Some((path, record.nar_size))
    };
    let missing: Vec<_> = paths.into_iter().filter_map(size).collect();
    let bytes = missing.iter().map(|(_, size)| size).sum();
    check_room(missing.len() as u64, bytes, free)?;
    Ok(missing)
}

/// Until everything is in place, or cannot be.
async fn receive(
    session: &Arc<Session>,
    import: &mut Import,
    nodes: &[NodeId],
    progress: &FetchProgress,
) -> Result<(), FetchError> {
    let mut peers = JoinSet::new();
    for (index, &node) in nodes.iter().enumerate() {
        peers.spawn(peer::run(Arc::clone(session), PeerIndex(index), node));
    }
    while !session.transfer().is_done() {
        tokio::select! {
            answer = import.answers.recv() => match answer {
                Some(Answer::Landed { lane, path }) => {
                    session.transfer().landed(PeerIndex(lane.into()), path);
                    progress(session.transfer().progress());
                    session.changed();
                }
                Some(Answer::Refused { lane, reason, .. }) => {
                    session.refuse(PeerIndex(lane.into()), reason);
                }
                other => return Err(unexpected(other)),
            },
            Some(_) = peers.join_next() => {
                if peers.is_empty() && session.transfer().hopeless().is_none() {
                    return Err(FetchError::Import { reason: "every stream has ended early".to_owned() });
                }
                if let Some(faults) = session.transfer().hopeless() {
                    let named = |(index, fault)| {
                        let PeerIndex(index) = index;
                        Some((*nodes.get(index)?, fault))
                    };
                    return Err(FetchError::Peers(faults.into_iter().filter_map(named).collect()));
                }
            }
        }
    }
    // What is on its way is a second copy; one who is tried again need not answer any more. A lane that
    // ends here tells the importer to drop what it has begun.
    peers.abort_all();
    Ok(())
}

async fn register(import: &mut Import) -> Result<(), FetchError> {
    let mut lane = LaneWriter::new(import.pipe.clone(), 0);
    let told = lane.put(Order::Register).and_then(|()| lane.flush());
    drop(lane);
    loop {
        match import.answers.recv().await {
            Some(Answer::Registered) => return Ok(()),
            // A second copy that was on its way.
            Some(Answer::Landed { .. } | Answer::Refused { .. }) => {}
            other => {
                return Err(told.map_or_else(|_| unexpected(other.clone()), |()| unexpected(other.clone())));
            }
        }
    }
}

fn unexpected(answer: Option<Answer>) -> FetchError {
    let reason = match answer {
        Some(Answer::Failed { reason }) => reason,
        Some(answer) => format!("the importer says {answer} out of turn"),
        None => "the importer has ended".to_owned(),
    };
    FetchError::Import { reason }
}
