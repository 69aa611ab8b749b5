//! What happens, told in order, from a revision on. Events are part of the state, so that a watcher who
//! goes on at another server misses nothing and is told nothing twice.

use blixard_core::state::Compacted;
use blixard_proto::event_view;
use blixard_proto::v1::watch_response::Answer;
use blixard_proto::v1::{Compacted as ShownCompacted, Event, WatchRequest, WatchResponse};
use blixard_types::Revision;
use tokio::sync::mpsc;
use tonic::Status;

use crate::Server;

/// Events read at once, under the lock that entries wait for.
const BATCH: usize = 128;

enum Read {
    /// Events after the cursor; the next cursor, and whether that is all there is.
    Events {
        events: Vec<Event>,
        cursor: Revision,
        all: bool,
    },
    /// This server has not got as far as the watcher.
    Behind,
    Forgotten(Compacted),
}

pub(super) async fn run(
    server: Server,
    request: WatchRequest,
    outgoing: mpsc::Sender<WatchResponse>,
) -> Result<(), Status> {
    let mut cursor = if let Some(revision) = request.after_revision {
        Revision(revision)
    } else {
        server.linearize().await?;
        server.replica.read(|state| state.applied.revision())
    };
    if request.known_only {
        // What is known is what was committed when it was asked for, not what this server has heard of.
        server.linearize().await?;
    }
    let mut changes = server.replica.changes();
    loop {
        changes.mark_unchanged();
        match read(&server, cursor) {
            Read::Forgotten(Compacted { oldest }) => {
                send(&outgoing, Answer::Compacted(ShownCompacted { oldest: oldest.0 })).await?;
                return Ok(());
            }
            Read::Events { events, cursor: next, all } => {
                for event in events {
                    send(&outgoing, Answer::Event(event)).await?;
                }
                cursor = next;
                if !all {
                    continue;
                }
                send(&outgoing, Answer::CaughtUp(cursor.0)).await?;
                if request.known_only {
                    return Ok(());
                }
            }
            Read::Behind if request.known_only => return Ok(()),
            Read::Behind => {}
        }
        tokio::select! {
            biased;
            changed = changes.changed() => {
                changed.map_err(|_| Status::unavailable("this server has stopped"))?;
            }
            () = outgoing.closed() => return Ok(()),
        }
    }
}

fn read(server: &Server, cursor: Revision) -> Read {
    server.replica.read(|state| {
        let applied = state.applied.revision();
        if applied < cursor {
            return Read::Behind;
        }
        let mut after = match state.events_after(cursor) {
            Ok(events) => events.peekable(),
            Err(compacted) => return Read::Forgotten(compacted),
        };
        let mut events = Vec::new();
        let mut last = cursor;
        // A revision is told whole, so that who resumes after it misses nothing of it.
        while let Some(event) = after.next_if(|event| events.len() < BATCH || event.revision == last) {
            last = event.revision;
            events.push(event_view(state, event));
        }
        let all = after.peek().is_none();
        Read::Events { events, cursor: if all { applied } else { last }, all }
    })
}

async fn send(outgoing: &mpsc::Sender<WatchResponse>, answer: Answer) -> Result<(), Status> {
    let answer = WatchResponse { answer: Some(answer) };
    outgoing.send(answer).await.map_err(|_| Status::cancelled("the watcher has gone away"))
}
