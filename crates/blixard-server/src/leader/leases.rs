//! The leader's keeper of leases: one task that owns what one leadership knows of hosts' silence.
//!
//! The rules are [`LeaderLeases`]'. Owns: when quorum rounds begin, and that one round serves every heartbeat that
//! was received before it; what is proposed, and until when its outcome is waited for. Refuses to know: streams.
//!
//! ```text
//! heartbeats ──▶ waiting ── no round under way ──▶ round ── done, same term ──▶ each: granted or withheld
//!                                                    └ failed, or another term ──▶ none is
//! tick ──▶ duties ──▶ proposed here ── outcome known ──▶ grants again (R6)
//! ```
//! A leadership begins with the first round that succeeds in its term: by then the term's first entry is applied.

mod duties;

use std::sync::Arc;
use std::time::Duration;

use blixard_core::assignment::AssignmentSet;
use blixard_core::grant::{Heartbeat, Pace};
use blixard_core::lease::clock::{ClockWatch, Trust};
use blixard_core::lease::{LeaderLeases, LeaseTimes, Withheld};
use blixard_core::ports::BootMillis;
use blixard_core::ports::consensus::LinearizeError;
use blixard_core::state::{Authority, ClusterState};
use blixard_types::{Incarnation, Revision};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::Server;
use duties::Duties;

/// Heartbeats that may wait for the keeper. Each stream has a few under way, and there are hundreds of hosts.
const ASKS_QUEUED: usize = 1024;

/// What a host is granted.
#[derive(Debug)]
pub(crate) struct Granting {
    pub(crate) term: u64,
    pub(crate) incarnation: Incarnation,
    pub(crate) revision: Revision,
    pub(crate) lease_ms: Option<u64>,
    pub(crate) pace: Pace,
    pub(crate) set: Arc<AssignmentSet>,
}

/// Why a heartbeat is not granted anything.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotGranted {
    /// A rule forbids it.
    #[error(transparent)]
    Withheld(#[from] Withheld),
    /// There was no quorum round.
    #[error(transparent)]
    NoRound(#[from] LinearizeError),
    /// The keeper has ended.
    #[error("this server has stopped")]
    Stopped,
}

type Answer = Result<Granting, NotGranted>;

struct Ask {
    heartbeat: Heartbeat,
    received: BootMillis,
    reply: oneshot::Sender<Answer>,
}

/// Where streams ask the keeper.
#[derive(Debug, Clone)]
pub struct LeaseDesk(mpsc::Sender<Ask>);

/// The keeper's end of the desk.
#[derive(Debug)]
pub struct LeaseAsks(mpsc::Receiver<Ask>);

impl LeaseDesk {
    /// A desk that nobody keeps yet.
    #[must_use]
    pub fn new() -> (Self, LeaseAsks) {
        let (sender, receiver) = mpsc::channel(ASKS_QUEUED);
        (Self(sender), LeaseAsks(receiver))
    }

    /// Asks for a grant that answers a heartbeat received at this instant.
    pub(crate) async fn ask(&self, heartbeat: Heartbeat, received: BootMillis) -> Answer {
        let (reply, answer) = oneshot::channel();
        let asked = self.0.send(Ask { heartbeat, received, reply }).await;
        asked.map_err(|_| NotGranted::Stopped)?;
        answer.await.unwrap_or(Err(NotGranted::Stopped))
    }
}

/// A round that is under way, and whom it serves.
struct Round {
    term: u64,
    asks: Vec<Ask>,
    outcome: Result<(), LinearizeError>,
}

struct Keeper {
    server: Server,
    /// As the configuration says; absent where it says nothing.
    times: Option<LeaseTimes>,
    leases: Option<LeaderLeases>,
    waiting: Vec<Ask>,
    /// At most one: a round that is under way has begun before what waits.
    rounds: FuturesUnordered<BoxFuture<'static, Round>>,
    duties: Duties,
    watch: ClockWatch,
    trust: Trust,
}

/// Keeps leases for as long as this server runs. The configuration may say how long they last.
pub async fn run(server: Server, asks: LeaseAsks, times: Option<LeaseTimes>) {
    let LeaseAsks(mut asks) = asks;
    let duties = Duties::new(&server);
    let (rounds, watch, trust) = (FuturesUnordered::new(), ClockWatch::default(), Trust::Steady);
    let mut keeper =
        Keeper { server, times, leases: None, waiting: Vec::new(), rounds, duties, watch, trust };
    let mut tick_at = Instant::now();
    loop {
        tokio::select! {
            biased;
            () = tokio::time::sleep_until(tick_at) => {
                keeper.tick();
                tick_at = Instant::now() + keeper.tick_every();
            }
            ask = asks.recv() => match ask {
                Some(ask) => keeper.hear(ask),
                None => return,
            },
            Some(round) = keeper.rounds.next() => keeper.answer(round),
            Some(lost) = keeper.duties.next() => {
                if let (Some(node), Some(leases)) = (lost, &mut keeper.leases) {
                    leases.given_up(node);
                }
            }
        }
        keeper.begin_round();
    }
}

impl Keeper {
    /// The term that this server leads, if it does.
    fn leads(&self) -> Option<u64> {
        let standing = self.server.log.standing();
        standing.leads().then_some(standing.term)
    }

    fn tick_every(&self) -> Duration {
        Duration::from_millis(self.server.replica.read(|state| state.fencing.times.tick_ms))
    }

    fn hear(&mut self, ask: Ask) {
        if let Some(leases) = &self.leases {
            let duty = self.server.replica.read(|state| leases.heard(state, &ask.heartbeat));
            if let Some(duty) = duty {
                self.duties.propose(duty);
            }
        }
        self.waiting.push(ask);
    }

    /// One round serves all that wait, and begins a leadership that has not begun.
    fn begin_round(&mut self) {
        let Some(term) = self.leads() else {
            self.leases = None;
            let leader = self.server.log.standing().leader;
            for ask in self.waiting.drain(..) {
                // A stream that is gone wants no answer.
                let _ = ask.reply.send(Err(LinearizeError::NotLeader { leader }.into()));
            }
            return;
        };
        let begun = self.leases.as_ref().is_some_and(|leases| leases.authority().term == term);
        if !self.rounds.is_empty() || (begun && self.waiting.is_empty()) {
            return;
        }
        let (asks, log) = (std::mem::take(&mut self.waiting), self.server.log.clone());
        self.rounds.push(Box::pin(async move {
            let outcome = log.linearize().await.map(drop);
            Round { term, asks, outcome }
        }));
    }

    fn answer(&mut self, round: Round) {
        let Round { term, asks, outcome } = round;
        // The same term before and after: the round was of this leadership.
        let led = outcome.and_then(|()| {
            let standing = self.server.log.standing();
            let same = standing.leads() && standing.term == term;
            if same { Ok(()) } else { Err(LinearizeError::NotLeader { leader: standing.leader }) }
        });
        if let Err(error) = led {
            for ask in asks {
                let _ = ask.reply.send(Err(error.clone().into()));
            }
            return;
        }
        let incarnation = self.server.replica.read(ClusterState::incarnation);
        let authority = Authority { incarnation, term };
        let now = self.server.clock.boot();
        let fresh = || LeaderLeases::begin(authority, now);
        let leases = match &mut self.leases {
            Some(leases) if leases.authority() == authority => leases,
            leases => {
                tracing::info!(term, "this server grants leases");
                leases.insert(fresh())
            }
        };
        leases.set_trust(self.trust);
        for Ask { heartbeat, received, reply } in asks {
            let answer = self.server.replica.read(|state| {
                let lease_ms = leases.grant(state, &heartbeat, received, authority)?;
                let (revision, pace) = (state.applied.revision(), Pace::of(&state.fencing.times));
                let set = self.server.replica.assignments(state, heartbeat.node);
                Ok(Granting { term, incarnation, revision, lease_ms, pace, set })
            });
            let _ = reply.send(answer);
        }
    }

    fn tick(&mut self) {
        let now = self.server.clock.boot();
        self.look_at_clock(now);
        let Some(term) = self.leads() else { return };
        let Some(leases) = self.leases.as_mut().filter(|leases| leases.authority().term == term) else {
            return;
        };
        leases.set_trust(self.trust);
        let duties = self.server.replica.read(|state| leases.tick(state, now));
        for duty in duties {
            self.duties.propose(duty);
        }
        self.duties.set_times(&self.server, self.times);
    }

    /// Hosts that nobody grants anything are fenced: a leader whose clock is off lets another one lead.
    fn look_at_clock(&mut self, now: BootMillis) {
        let trust = self.watch.observe(now, self.server.clock.raw());
        let before = std::mem::replace(&mut self.trust, trust);
        if (before, trust) == (Trust::Steady, Trust::Off) && self.leads().is_some() {
            tracing::error!("this server's clock is slewed by more than 1 %: another one is to lead");
            self.duties.step_down(&self.server);
        }
    }
}

#[cfg(test)]
pub(crate) mod tests;
