//! Watchers: machines of their own that follow what happens, at one server after another.
//!
//! Owns what each was told. One goes on at another server when its connection breaks, and now and then of its own
//! accord, after the last revision that it was told whole: a revision may have several events, and a connection breaks
//! between any two. One that has fallen too far behind begins again with a list, which has to be what had happened by then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::watch_response::Answer;
use blixard_proto::v1::{Event, ListNodesRequest, WatchRequest};
use blixard_types::{NodeId, Revision};
use tonic::transport::Channel;

use super::Channels;
use crate::audit::Violation;
use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::shape::BrokenRule;
use crate::shared::{Phase, Shared};

/// The machines that watch, numbered after all nodes.
pub(crate) const WATCHERS: [NodeId; 3] = [NodeId(101), NodeId(102), LAZY];
/// One that mostly looks elsewhere while things go wrong.
const LAZY: NodeId = NodeId(103);

/// What watchers were told; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Told(Arc<Mutex<BTreeMap<NodeId, Story>>>);

#[derive(Debug, Clone, Default)]
struct Story {
    events: Vec<Event>,
    /// Up to here all was told.
    whole: u64,
    /// How often it was gone on with at some server.
    resumed: u64,
    /// Where a list stands for what was forgotten.
    lists: Vec<List>,
}

/// The nodes as they were listed to one who had fallen behind.
#[derive(Debug, Clone)]
struct List {
    after: u64,
    revision: u64,
    nodes: BTreeSet<(u64, String)>,
}

impl Story {
    /// What follows the last whole revision is told again.
    fn begin_again(&mut self) -> u64 {
        let whole = self.whole;
        self.events.retain(|event| event.revision <= whole);
        whole
    }

    /// Takes one more; whether it had been told, or is older.
    fn hear(&mut self, event: Event) -> bool {
        let last = self.events.last().map_or(0, |last| last.revision);
        let again = event.revision <= self.whole
            || event.revision < last
            || self
                .events
                .iter()
                .rev()
                .take_while(|told| told.revision == event.revision)
                .any(|told| *told == event);
        if event.revision > last {
            // The one before has come to its end.
            self.whole = self.whole.max(last);
        }
        self.events.push(event);
        again
    }

    /// The events that it should have been told.
    fn due<'a>(&self, happened: &'a [Event]) -> Vec<&'a Event> {
        let listed = |event: &Event| {
            self.lists.iter().any(|list| list.after < event.revision && event.revision <= list.revision)
        };
        happened.iter().filter(|event| !listed(event)).collect()
    }
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
        WATCHERS.iter().all(|watcher| self.story(*watcher, |story| story.whole >= revision.0))
    }

    /// How often watchers have gone on.
    pub(crate) fn resumed(&self) -> u64 {
        self.lock().values().map(|story| story.resumed).sum()
    }

    /// How often one had fallen too far behind.
    pub(crate) fn compacted(&self) -> u64 {
        self.lock().values().map(|story| story.lists.len() as u64).sum()
    }

    /// Compares what watchers were told with what has happened.
    pub(crate) fn check(&self, chronicle: &Chronicle) -> Vec<Violation> {
        let Some(happened) = chronicle.events() else { return Vec::new() };
        let mut found = Vec::new();
        for (&watcher, story) in self.lock().iter() {
            let due = story.due(&happened);
            let mut told = story.events.iter();
            let missed = due.iter().find(|event| !told.any(|told| told == **event));
            if let Some(event) = missed {
                found.push(Violation::NotTold { watcher, revision: event.revision });
            } else if story.events.len() != due.len() {
                found.push(Violation::ToldOtherwise { watcher, revision: story.whole });
            }
            let wrong = story.lists.iter().find(|list| chronicle.nodes_at(list.revision) != list.nodes);
            if let Some(list) = wrong {
                found.push(Violation::ToldOtherwise { watcher, revision: list.revision });
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
        let lazy = me == LAZY && shared.phase() == Phase::Chaos;
        tokio::time::sleep(if lazy { dice.millis(500, 3000) } else { dice.millis(10, 200) }).await;
        // Never the same twice: it may not have noticed yet that its watcher has gone.
        let others: Vec<NodeId> = shared.nodes().into_iter().filter(|node| Some(*node) != last).collect();
        let Some(server) = dice.pick(&others) else { continue };
        last = Some(server);
        let follows = follow(&shared, me, &channels, server);
        let for_a_while = patience(&dice, lazy);
        drop(tokio::time::timeout(for_a_while, follows).await);
    }
}

fn patience(dice: &Dice, lazy: bool) -> std::time::Duration {
    if lazy { dice.millis(50, 300) } else { dice.millis(100, 2500) }
}

async fn follow(
    shared: &Shared,
    me: NodeId,
    channels: &Channels,
    server: NodeId,
) -> Result<(), tonic::Status> {
    let mut after = shared.told.story(me, Story::begin_again);
    if shared.shape.broken == Some(BrokenRule::ResumesTooLate) && after > 0 {
        after += 1;
    }
    let request = WatchRequest { after_revision: Some(after), known_only: false };
    let channel = channels.make(server);
    let mut answers = ClusterServiceClient::new(channel.clone()).watch(request).await?.into_inner();
    shared.told.story(me, |story| story.resumed += 1);
    while let Some(answer) = answers.message().await? {
        match answer.answer {
            Some(Answer::Event(event)) => heard(shared, me, event),
            Some(Answer::CaughtUp(revision)) => {
                shared.told.story(me, |story| story.whole = story.whole.max(revision));
            }
            Some(Answer::Compacted(compacted)) => {
                if compacted.oldest <= after {
                    shared.audit.violate(Violation::ToldOtherwise { watcher: me, revision: after });
                }
                // Some may have been told before the rest was forgotten.
                let after = shared.told.story(me, Story::begin_again);
                return list(shared, me, channel, after).await;
            }
            None => {}
        }
    }
    Ok(())
}

/// What is there now, in place of how it came to be.
async fn list(shared: &Shared, me: NodeId, channel: Channel, after: u64) -> Result<(), tonic::Status> {
    let listed =
        ClusterServiceClient::new(channel).list_nodes(ListNodesRequest::default()).await?.into_inner();
    let nodes = listed.nodes.into_iter().map(|node| (node.id, node.name)).collect();
    let revision = listed.revision;
    shared.event(&format!(
        "watcher {me} has missed what came after revision {after}, and goes on after {revision}"
    ));
    shared.told.story(me, |story| {
        story.lists.push(List { after, revision, nodes });
        story.whole = revision;
    });
    Ok(())
}

fn heard(shared: &Shared, me: NodeId, event: Event) {
    let revision = event.revision;
    if shared.told.story(me, |story| story.hear(event)) {
        shared.audit.violate(Violation::ToldAgain { watcher: me, revision });
    }
}
