//! The agent: one task that owns everything a host knows.
//!
//! ```text
//!  link ── grants, answers, news ──┐                    ┌── start, stop, probe, clean (beside it)
//!  systemd ── something changed ───┼──▶ agent ── plan ──┤
//!  work ── done ───────────────────┘   (core decides)   └── heartbeats, reports ──▶ link
//! ```
//! A vm is busy from the moment an action is begun until its outcome is in: for what changes units,
//! until an observation that was begun afterwards. So no plan is made from a view older than the last
//! action.

mod lease;
mod observe;
mod sweep;
mod talk;
mod wake;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blixard_core::grant::GrantGate;
use blixard_core::ports::units::{ObservedUnit, UnitState};
use blixard_core::ports::{BootMillis, UnixMillis};
use blixard_core::reconcile::{self, Action, Checks, Preparation, Prepared, Started, Work};
use blixard_core::state::{VmReport, cut_reason};
use blixard_proto::v1::HostMessage;
use blixard_types::unit::GOING_DOWN;
use blixard_types::{Epoch, GenerationNumber, VmId};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::{Notify, mpsc};
use tokio::task::{AbortHandle, JoinError, JoinSet};
use tokio::time::Instant;

use crate::execute::{self, Done, Litter, Rooted};
use crate::link::{self, LinkEvent};
use crate::memory::{Memories, prune};
use crate::{Host, fetch, home};
use lease::Lease;
use observe::Observation;
use sweep::Sweep;
use wake::Wake;

/// Longest time without a look at what is to be done.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Pause before something that did not work is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(1);
/// Link events that may wait; the link waits for the agent beyond that.
const EVENTS_QUEUED: usize = 64;

/// Why a host agent has ended.
#[derive(Debug, thiserror::Error)]
pub enum AgentError {
    /// The roots that are there cannot be listed: without that the host could not keep them.
    #[error(transparent)]
    Roots(#[from] blixard_core::ports::nix::RootError),
    /// The servers take another daemon for this node's, one that is dead. A new one is heard again.
    #[error("another daemon of this node has taken its place")]
    Replaced,
}

/// Runs a host agent for as long as it is polled.
///
/// # Errors
/// When it cannot go on.
pub async fn run(host: Host) -> Result<(), AgentError> {
    let found = sweep::look(&host).await?;
    let (sender, events) = mpsc::channel(EVENTS_QUEUED);
    let homes = home::all(host.files()).await;
    let (mut link, lost) = (JoinSet::new(), Arc::new(Notify::new()));
    link.spawn(link::run(host.clone(), sender, Arc::clone(&lost)));
    let mut agent = Agent::new(host, homes, lost);
    agent.take_in_found(found);
    agent.run(events).await
}

/// Guests end with the machine: that is no failure, and nothing is started on what will be off. The servers
/// hear that the machine is silent, or that it is back.
fn goes_down() -> bool {
    Path::new(GOING_DOWN).exists()
}

struct Agent {
    host: Host,
    gate: GrantGate,
    units: BTreeMap<VmId, ObservedUnit>,
    memories: Memories,
    rooted: BTreeSet<(VmId, GenerationNumber)>,
    /// The vms that have a directory here, or interfaces.
    homes: BTreeSet<VmId>,
    sweep: Sweep,
    wake: Wake,
    /// When the starts were begun of what runs since.
    begun: BTreeMap<VmId, UnixMillis>,
    server: Option<mpsc::Sender<HostMessage>>,
    /// Tells the link to give its stream up.
    lost: Arc<Notify>,
    lease: Lease,
    /// When the next heartbeat is due.
    heartbeat_at: Instant,
    /// Since when heartbeats have gone without an answer.
    unanswered: Option<Instant>,
    reports: Reports,
    /// Vms whose last report was refused: they wait for the next grant.
    refused: BTreeSet<VmId>,
    work: JoinSet<Done>,
    /// Fetches that go on, to give them up.
    fetches: BTreeMap<VmId, AbortHandle>,
    /// Preparations that go on, likewise.
    preparations: BTreeMap<VmId, AbortHandle>,
    observation: Observation,
    observing: JoinSet<observe::Seen>,
    again_at: Option<Instant>,
    /// Whether the machine was going down at the last plan.
    down: bool,
}

/// Reports that have been sent and not answered.
#[derive(Default)]
struct Reports {
    sequence: u64,
    open: BTreeMap<u64, (VmId, Epoch, VmReport)>,
}

impl Agent {
    fn new(host: Host, homes: BTreeSet<VmId>, lost: Arc<Notify>) -> Self {
        Self {
            host,
            gate: GrantGate::default(),
            units: BTreeMap::new(),
            memories: Memories::new(),
            rooted: BTreeSet::new(),
            homes,
            sweep: Sweep::default(),
            wake: Wake::default(),
            begun: BTreeMap::new(),
            server: None,
            lost,
            lease: Lease::default(),
            heartbeat_at: Instant::now(),
            unanswered: None,
            reports: Reports::default(),
            refused: BTreeSet::new(),
            work: JoinSet::new(),
            fetches: BTreeMap::new(),
            preparations: BTreeMap::new(),
            observation: Observation::due(),
            observing: JoinSet::new(),
            again_at: None,
            down: false,
        }
    }

    async fn run(mut self, mut events: mpsc::Receiver<LinkEvent>) -> Result<(), AgentError> {
        let mut changes = self.host.units.changes().fuse();
        // Whether something has come that a plan may rest on. Of a unit that has changed nothing is known before it
        // is seen, and with many vms there are many changes.
        let mut due = true;
        loop {
            self.observe();
            if due {
                self.plan();
                self.stay_awake();
            }
            due = true;
            let again_at = self.again_at.unwrap_or_else(|| Instant::now() + LOOK_EVERY);
            // In this order: what keeps the lease first. None of these is always ready.
            tokio::select! {
                biased;
                () = tokio::time::sleep_until(self.heartbeat_at) => self.send_heartbeat(),
                Some(fed) = self.lease.feeding.join_next() => self.on_fed(fed.ok()),
                event = events.recv() => match event {
                    Some(event) => self.on_links(event, &mut events)?,
                    None => return Ok(()),
                },
                Some(done) = self.work.join_next() => self.on_worked(done),
                Some(seen) = self.observing.join_next() => self.on_observed(seen.ok()),
                change = changes.select_next_some() => {
                    self.observation.note(change);
                    due = false;
                }
                Some(kept) = self.wake.asking.join_next() => self.on_awake(kept),
                found = self.sweep.next(&self.host) => self.take_in_found(found),
                () = tokio::time::sleep_until(again_at).fuse() => {}
            }
        }
    }

    /// Takes in what the link says, and whatever else it has said by now: one plan is made of all of it.
    fn on_links(
        &mut self,
        event: LinkEvent,
        events: &mut mpsc::Receiver<LinkEvent>,
    ) -> Result<(), AgentError> {
        let mut next = Some(event);
        while let Some(event) = next {
            if matches!(event, LinkEvent::Replaced) {
                return Err(AgentError::Replaced);
            }
            self.on_link(event);
            next = events.try_recv().ok();
        }
        Ok(())
    }

    /// The same of actions.
    fn on_worked(&mut self, done: Result<Done, JoinError>) {
        let mut next = Some(done);
        while let Some(done) = next {
            match done {
                Ok(done) => self.on_done(done),
                Err(error) if error.is_cancelled() => self.on_given_up(error.id()),
                Err(error) => tracing::error!(%error, "an action of the host agent panicked"),
            }
            next = self.work.try_join_next();
        }
    }

    /// Whether the machine goes down. Said once: on a machine that stays up nobody would know otherwise why
    /// nothing happens.
    fn rests(&mut self) -> bool {
        let down = goes_down();
        if down && !self.down {
            tracing::warn!(
                "this machine goes down, so no vm is started or stopped; if it stays up, \
                 `systemctl start blixard-drain` ends that"
            );
        }
        // Who was asked to shut down with the machine has not done what it was to do.
        if self.down && !down {
            for (vm, unit) in self.units.iter().filter(|(_, unit)| unit.state == UnitState::Completed) {
                self.memories.entry(vm.clone()).or_default().fenced = unit.epoch;
            }
        }
        self.down = down;
        down
    }

    /// Asks core what to do next, and begins it.
    fn plan(&mut self) {
        self.again_at = None;
        if !self.observation.made || self.rests() {
            return;
        }
        let Some(granted) = self.gate.assignments() else {
            return;
        };
        let now = self.host.clock.boot();
        let plan = reconcile::plan(granted, &self.units, &self.memories, now);
        self.again_at = plan.again_at.map(|at| Instant::now() + Duration::from_millis(at.since(now)));
        let stale = reconcile::stale_generations(&self.rooted, granted, &self.units, &self.memories);
        let forsaken = reconcile::forsaken(&self.homes, granted, &self.units, &self.memories);
        prune(&mut self.memories, granted, &self.units);
        let mut cleaning: BTreeMap<VmId, Litter> = BTreeMap::new();
        for (vm, generation) in stale {
            cleaning.entry(vm).or_default().generations.insert(generation);
        }
        for vm in forsaken {
            cleaning.entry(vm).or_default().home = true;
        }
        cleaning.retain(|vm, _| !plan.actions.contains_key(vm));
        for preparation in plan.vain.iter().filter_map(|vm| self.preparations.get(vm)) {
            preparation.abort();
        }
        for (vm, action) in plan.actions {
            if self.lease.host.allows(&action, now) {
                self.begin(vm, action, now);
            }
        }
        for (vm, litter) in cleaning {
            self.set_work(&vm, Work::Busy);
            self.work.spawn(execute::clean(self.host.clone(), vm, litter));
        }
    }

    fn begin(&mut self, vm: VmId, action: Action, now: BootMillis) {
        let host = self.host.clone();
        if matches!(action, Action::Start { .. } | Action::Stop(_) | Action::Shutdown { .. }) {
            self.observation.act(vm.clone());
        }
        match action {
            Action::Fetch { epoch, run } => {
                self.set_work(&vm, Work::Fetching { epoch, generation: run.generation });
                self.rooted.insert((vm.clone(), run.generation));
                let fetch = self.work.spawn(fetch::fetch(host, vm.clone(), epoch, *run));
                self.fetches.insert(vm, fetch);
            }
            Action::Prepare { epoch, run, fetch } => {
                let generation = run.generation;
                let preparation = Preparation { epoch, generation, outcome: None };
                self.memories.entry(vm.clone()).or_default().preparation = Some(preparation);
                self.rooted.insert((vm.clone(), generation));
                let task = self.work.spawn(fetch::prepare(host, vm.clone(), *run, fetch));
                self.preparations.insert(vm, task);
            }
            Action::CancelFetch => {
                // It may be done by now, and its outcome on the way: the work ends with either, or two
                // operations on one vm could be under way.
                if let Some(fetch) = self.fetches.get(&vm) {
                    fetch.abort();
                }
            }
            Action::Start { epoch, run } => {
                self.set_work(&vm, Work::Busy);
                self.rooted.insert((vm.clone(), run.generation));
                self.homes.insert(vm.clone());
                self.begun.insert(vm.clone(), host.clock.wall());
                let lease = self.start_under(&vm, now);
                self.work.spawn(execute::start(host, vm, epoch, *run, lease));
            }
            Action::Stop(cause) => {
                self.set_work(&vm, Work::Busy);
                let since = self.running_since(&vm, now);
                self.work.spawn(execute::stop(host, vm, cause, since));
            }
            Action::Shutdown { ask, cause } => {
                self.set_work(&vm, Work::Busy);
                let since = self.running_since(&vm, now);
                self.work.spawn(execute::shutdown(host, vm, *ask, cause, since));
            }
            Action::Probe(run) => {
                self.set_work(&vm, Work::Busy);
                self.work.spawn(execute::probe(host, vm, *run));
            }
            Action::Discard { epoch } => {
                self.set_work(&vm, Work::Busy);
                self.work.spawn(execute::discard(host, vm, epoch));
            }
            Action::DeleteVolume { volume, life } => {
                self.set_work(&vm, Work::Busy);
                self.work.spawn(execute::delete_volume(host, vm, volume, life));
            }
            Action::Report { epoch, report } => self.send_report(vm, epoch, report),
        }
    }

    /// Since when a run of a vm goes on, by the wall clock; of one that was found running, since it was found.
    fn running_since(&self, vm: &VmId, now: BootMillis) -> UnixMillis {
        let started = self.memories.get(vm).and_then(|memory| memory.running);
        let ago = started.map_or(0, |started| now.since(started.at));
        let found = UnixMillis(self.host.clock.wall().0.saturating_sub(ago));
        self.begun.get(vm).copied().unwrap_or(found)
    }

    fn set_work(&mut self, vm: &VmId, work: Work) {
        self.memories.entry(vm.clone()).or_default().work = work;
    }

    /// A fetch or a preparation was given up.
    fn on_given_up(&mut self, task: tokio::task::Id) {
        let preparation = self.preparations.iter().find(|(_, one)| one.id() == task);
        if let Some(vm) = preparation.map(|(vm, _)| vm.clone()) {
            self.preparations.remove(&vm);
            self.memories.entry(vm).or_default().preparation = None;
        }
        let fetch = self.fetches.iter().find(|(_, fetch)| fetch.id() == task);
        if let Some(vm) = fetch.map(|(vm, _)| vm.clone()) {
            self.fetches.remove(&vm);
            self.set_work(&vm, Work::Idle);
        }
    }

    fn on_done(&mut self, done: Done) {
        let now = self.host.clock.boot();
        match done {
            Done::Started { vm, epoch, generation, under } => {
                self.end_start(&vm, epoch, under.as_ref());
                let running = Some(Started { epoch, generation, at: now });
                self.memories.entry(vm.clone()).or_default().running = running;
                self.finish(vm);
            }
            Done::Lacking { vm, epoch, generation } => {
                self.memories.entry(vm.clone()).or_default().lacking = Some((epoch, generation));
                self.finish(vm);
            }
            Done::Fetched { vm } => {
                self.fetches.remove(&vm);
                self.memories.entry(vm.clone()).or_default().lacking = None;
                self.finish(vm);
            }
            Done::Prepared { vm, outcome } => {
                self.preparations.remove(&vm);
                // None if the vm was forgotten meanwhile, which it is not while this goes on.
                let preparation = self.memories.get_mut(&vm).and_then(|memory| memory.preparation.as_mut());
                if let Some(preparation) = preparation {
                    preparation.outcome = Some(match outcome {
                        Ok(Rooted::Yes) => Prepared::Ready,
                        Ok(Rooted::NotThere) => Prepared::Lacking,
                        Err(reason) => Prepared::Failed { reason: cut_reason(&reason).to_owned(), at: now },
                    });
                }
            }
            Done::Ended { vm, mut ended } => {
                self.fetches.remove(&vm);
                self.begun.remove(&vm);
                // Cut where it comes in, so that what is planned, said and acknowledged is the same text.
                ended.reason.truncate(cut_reason(&ended.reason).len());
                let memory = self.memories.entry(vm.clone()).or_default();
                memory.running = None;
                memory.lacking = None;
                memory.ended = Some(ended);
                self.finish(vm);
            }
            Done::Stopped { vm } => {
                self.begun.remove(&vm);
                self.memories.entry(vm.clone()).or_default().running = None;
                self.finish(vm);
            }
            Done::Unknown { vm } => self.finish(vm),
            Done::Probed { vm, outcome } => {
                let memory = self.memories.entry(vm).or_default();
                memory.work = Work::Idle;
                memory.checks = match outcome {
                    Ok(()) => Checks::Passed,
                    Err(reason) => Checks::Failed { reason: cut_reason(&reason).to_owned(), at: now },
                };
            }
            Done::Discarded { vm, epoch } => {
                self.homes.remove(&vm);
                let memory = self.memories.entry(vm).or_default();
                (memory.work, memory.discarded) = (Work::Idle, Some(epoch));
            }
            Done::VolumeDeleted { vm, volume, life } => {
                // Its directory may be empty now; of a vm that is gone it goes.
                self.homes.insert(vm.clone());
                let memory = self.memories.entry(vm).or_default();
                memory.work = Work::Idle;
                memory.deleted.insert((volume, life));
            }
            Done::Cleaned { vm, dropped, home } => {
                if home {
                    self.homes.remove(&vm);
                }
                for generation in dropped {
                    self.rooted.remove(&(vm.clone(), generation));
                }
                self.set_work(&vm, Work::Idle);
            }
        }
    }

    /// The vm may be planned again once it has been observed anew.
    fn finish(&mut self, vm: VmId) {
        self.observation.finish(vm);
    }
}
