//! One peer of a fetch: asked ahead of what it sends, tried again when it breaks, dropped when caught.

use std::collections::VecDeque;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use blixard_core::transfer::{Ask, Parting, PeerFault, PeerIndex, WINDOW_PATHS};
use blixard_proto::fetch_closure;
use blixard_proto::v1::closure_service_client::ClosureServiceClient;
use blixard_proto::v1::{FetchRequest, NarPart, fetch_request};
use blixard_types::NodeId;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Status, Streaming};

use super::lane::{self, LaneEnd};
use super::session::Session;
use crate::limits::STALLED_AFTER;
use crate::nar::pieces::Chunk;

/// Asks this peer until all is there or it is dropped.
pub(super) async fn run(session: Arc<Session>, index: PeerIndex, node: NodeId) {
    loop {
        let Err(fault) = stream(&session, index, node).await else { return };
        let parting = session.transfer().parted(index, fault.clone());
        session.changed();
        match parting {
            Parting::Dropped => {
                let root = &session.closure.root;
                tracing::warn!(%node, %fault, %root, "this node is not asked any more");
                return;
            }
            Parting::Again { after_ms } => {
                tracing::info!(%node, %fault, "a stream has failed, trying again");
                tokio::time::sleep(Duration::from_millis(after_ms)).await;
            }
        }
    }
}

/// What is asked and has not come, and how much of the first of it has.
#[derive(Default)]
struct Expected {
    paths: VecDeque<u32>,
    received: u64,
}

/// Whether there is more to ask.
#[derive(PartialEq, Eq)]
enum More {
    Perhaps,
    Never,
}

/// One stream, until all has landed.
async fn stream(session: &Arc<Session>, index: PeerIndex, node: NodeId) -> Result<(), PeerFault> {
    let mut changes = session.changes();
    wait_for_work(session, &mut changes).await;
    let channel = super::connect(session.access.as_ref(), node).await?;
    let (wants, requests) = mpsc::channel(WINDOW_PATHS + 1);
    let _ = wants.try_send(fetch_closure(&session.closure));
    let mut expected = Expected::default();
    // Asked for before the peer has answered at all: that saves a round trip.
    ask(session, index, &wants, &mut expected);
    let mut client = ClosureServiceClient::new(channel);
    let parts = client.fetch(ReceiverStream::new(requests)).await;
    let parts = parts.map_err(|status| broken(&status))?.into_inner();

    let (chunks, lane) = mpsc::channel(session.limits.chunks());
    let number = u8::try_from(index.0).unwrap_or(u8::MAX);
    let pipe = session.pipe.clone();
    let worker = tokio::task::spawn_blocking(move || lane::run(pipe, number, lane));
    let streamed = receive(session, index, parts, (wants, chunks), expected).await;
    match worker.await {
        Ok(LaneEnd::Malformed { path, reason }) => Err(lied(session, path, &reason)),
        Ok(LaneEnd::Drained) => streamed,
        // The importer says why; the fetch ends with that.
        Ok(LaneEnd::NoImporter) | Err(_) => std::future::pending().await,
    }
}

/// A peer that has nothing to do holds no stream open.
async fn wait_for_work(session: &Session, changes: &mut watch::Receiver<u64>) {
    while !session.transfer().has_work() {
        if changes.changed().await.is_err() {
            return;
        }
    }
}

async fn receive(
    session: &Session,
    index: PeerIndex,
    mut parts: Streaming<NarPart>,
    (wants, chunks): (mpsc::Sender<FetchRequest>, mpsc::Sender<Chunk>),
    mut expected: Expected,
) -> Result<(), PeerFault> {
    let mut changes = session.changes();
    loop {
        changes.mark_unchanged();
        if let Some(reason) = session.refusal(index) {
            return Err(PeerFault::Lied(reason));
        }
        if ask(session, index, &wants, &mut expected) == More::Never {
            return Ok(());
        }
        tokio::select! {
            part = tokio::time::timeout(STALLED_AFTER, parts.message()), if !expected.paths.is_empty() => {
                let part = part.map_err(|_| {
                    PeerFault::Broken(format!("it has sent nothing for {} s", STALLED_AFTER.as_secs()))
                })?;
                let part = part.map_err(|status| broken(&status))?;
                let part = part.ok_or_else(|| PeerFault::Broken("it has ended the stream".to_owned()))?;
                let chunk = expected.take(session, part)?;
                keep_pace(session, chunk.data.len()).await;
                if chunks.send(chunk).await.is_err() {
                    return Ok(());
                }
            }
            _ = changes.changed() => {}
            // What came was no NAR: without this a peer of whom nothing more is expected would never be
            // found out, and its share never be asked of another.
            () = chunks.closed() => return Ok(()),
        }
    }
}

impl Expected {
    /// Takes a part, if it is what must come next.
    fn take(&mut self, session: &Session, part: NarPart) -> Result<Chunk, PeerFault> {
        let NarPart { path, data, last } = part;
        match self.paths.front() {
            Some(&next) if next == path => {}
            _ => return Err(PeerFault::Lied(format!("a part of path {path}, which was not to come next"))),
        }
        if data.is_empty() && !last {
            // Parts without bytes could go on for ever.
            return Err(lied(session, path, "a part of it is empty"));
        }
        self.received += data.len() as u64;
        let size = session.record(path).map(|record| record.nar_size).unwrap_or_default();
        if self.received > size {
            return Err(lied(session, path, &format!("it has more than its {size} bytes")));
        }
        if last {
            self.paths.pop_front();
            self.received = 0;
        }
        Ok(Chunk { path, data, last })
    }
}

/// Asks for as much as core lets this peer have on the way.
fn ask(
    session: &Session,
    index: PeerIndex,
    wants: &mpsc::Sender<FetchRequest>,
    expected: &mut Expected,
) -> More {
    loop {
        match session.transfer().ask(index) {
            Ask::Path(path) => {
                expected.paths.push_back(path);
                // There is room for a whole window; a stream that has ended says so itself.
                let request = Some(fetch_request::Request::Want(path));
                let _ = wants.try_send(FetchRequest { request });
            }
            Ask::Full | Ask::Nothing => return More::Perhaps,
            Ask::Done => return More::Never,
        }
    }
}

async fn keep_pace(session: &Session, bytes: usize) {
    let Some(pace) = &session.pace else { return };
    let wait = pace.lock().unwrap_or_else(PoisonError::into_inner).take(bytes as u64, session.clock.boot());
    if wait > 0 {
        tokio::time::sleep(Duration::from_millis(wait)).await;
    }
}

fn broken(status: &Status) -> PeerFault {
    PeerFault::Broken(status.message().to_owned())
}

fn lied(session: &Session, path: u32, reason: &str) -> PeerFault {
    let name = session.record(path).map(|record| record.path.to_string()).unwrap_or_default();
    PeerFault::Lied(format!("{name}: {reason}"))
}
