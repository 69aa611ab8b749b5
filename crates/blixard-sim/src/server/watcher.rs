//! Watchers: machines of their own that follow what happens, at one server after another.
//!
//! Owns what each was told. One goes on at another server after the last revision it was told, when its
//! connection breaks, and now and then of its own accord.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_proto::event_view;
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::watch_response::Answer;
use blixard_proto::v1::{Event, WatchRequest};
use blixard_server::Replica;
use blixard_types::{NodeId, Revision};

use super::Channels;
use crate::audit::Violation;
use crate::shape::BrokenRule;
use crate::shared::Shared;

/// The machines that watch, numbered after all nodes. One alone: tokio wakes two that wait for a server's state
/// in an order that no seed decides.
pub(crate) const WATCHERS: [NodeId; 1] = [NodeId(101)];

/// What watchers were told; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<BTreeMap<NodeId, Story>>>);

#[derive(Debug, Clone, Default)]
struct Story {
    events: Vec<Event>,
    /// Up to here all was told.
    cursor: u64,
    /// How often it was gone on with at some server.
    resumed: u64,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Story>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn story<T>(&self, watcher: NodeId, look: impl FnOnce(&mut Story) -> T) -> T {
        look(self.lock().entry(watcher).or_default())
    }

    /// Whether every watcher was told all up to this revision.
    pub(crate) fn all_up_to(&self, revision: Revision) -> bool {
        WATCHERS.iter().all(|watcher| self.story(*watcher, |story| story.cursor >= revision.0))
    }

    /// How often watchers have gone on.
    pub(crate) fn resumed(&self) -> u64 {
        self.lock().values().map(|story| story.resumed).sum()
    }

    /// Compares what watchers were told with what has happened.
    pub(crate) fn check(&self, replica: &Replica) -> Vec<Violation> {
        let happened: Option<Vec<Event>> = replica.read(|state| {
            state
                .events_after(Revision(0))
                .ok()
                .map(|events| events.map(|event| event_view(state, event)).collect())
        });
        // Runs are so short that nothing is forgotten.
        let Some(happened) = happened else { return Vec::new() };
        let mut found = Vec::new();
        for (watcher, story) in self.lock().iter() {
            let mut told = story.events.iter();
            let missed = happened.iter().find(|event| !told.any(|told| told == *event));
            if let Some(event) = missed {
                found.push(Violation::NotTold { watcher: *watcher, revision: event.revision });
            } else if story.events.len() != happened.len() {
                found.push(Violation::ToldOtherwise { watcher: *watcher, revision: story.cursor });
            }
        }
        found
    }
}

/// Watches until its host ends.
pub(crate) async fn run(shared: Shared, me: NodeId) -> turmoil::Result {
    let dice = shared.dice.fork();
    let channels = Channels::new(shared.net.clone(), me);
    let mut last = None;
    loop {
        tokio::time::sleep(dice.millis(10, 200)).await;
        // Never the same twice: it may not have noticed yet that its watcher has gone.
        let others: Vec<NodeId> = shared.nodes().into_iter().filter(|node| Some(*node) != last).collect();
        let Some(server) = dice.pick(&others) else { continue };
        last = Some(server);
        let until = dice.millis(100, 1000);
        // It ends when its time is over, its server goes, or the connection does.
        drop(tokio::time::timeout(until, follow(&shared, me, &channels, server)).await);
    }
}

async fn follow(
    shared: &Shared,
    me: NodeId,
    channels: &Channels,
    server: NodeId,
) -> Result<(), tonic::Status> {
    let mut after = shared.told.story(me, |story| story.cursor);
    if shared.shape.broken == Some(BrokenRule::ResumesTooLate) && after > 0 {
        after += 1;
    }
    let request = WatchRequest { after_revision: Some(after), known_only: false };
    let mut client = ClusterServiceClient::new(channels.make(server));
    let mut answers = client.watch(request).await?.into_inner();
    shared.told.story(me, |story| story.resumed += 1);
    while let Some(answer) = answers.message().await? {
        match answer.answer {
            Some(Answer::Event(event)) => heard(shared, me, event),
            Some(Answer::CaughtUp(revision)) => {
                shared.told.story(me, |story| story.cursor = story.cursor.max(revision));
            }
            Some(Answer::Compacted(_)) => {
                shared.audit.violate(Violation::NotTold { watcher: me, revision: after });
                return Ok(());
            }
            None => {}
        }
    }
    Ok(())
}

/// Each revision has one event here.
fn heard(shared: &Shared, me: NodeId, event: Event) {
    let again = shared
        .told
        .story(me, |story| story.events.last().is_some_and(|last| last.revision >= event.revision));
    if again {
        shared.audit.violate(Violation::ToldAgain { watcher: me, revision: event.revision });
    }
    shared.told.story(me, |story| {
        story.cursor = story.cursor.max(event.revision);
        story.events.push(event);
    });
}
