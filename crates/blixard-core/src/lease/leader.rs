//! The leader's side: which heartbeats it may answer, and when a host has been silent for too long.
//!
//! Owns: what one leadership remembers of each host; it is lost with the leadership, and the next one
//! begins with nothing. Refuses to know: how a quorum round is run, and how a command is proposed.
//!
//! ```text
//! heartbeat in, r = now ─▶ quorum round begun after r ─▶ grant(r): the host's silence counts from r
//!                                                            │ refused: lost, declared lost, being given up
//! tick ─▶ silent for more than W ─▶ NodeLost proposed ─▶ no grants until its outcome is known (R6)
//! ```

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{DaemonId, NodeId, Revision};

use super::clock::Trust;
use crate::command::FenceCommand;
use crate::grant::Heartbeat;
use crate::ports::BootMillis;
use crate::state::{Authority, ClusterState, Fence, Node, Presence, Quarantine};

/// What one leadership knows of the hosts' silence.
///
/// It begins when the node leads *and* has applied its first entry of that term (rule R5): before that its
/// state may lack what an earlier leader has decided.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderLeases {
    authority: Authority,
    /// Silence counts from here at the earliest: the beginning, or the last tick that came late.
    from: BootMillis,
    ticked: BootMillis,
    /// For each host the receipt of the newest heartbeat that a reply may have been sent to.
    answered: BTreeMap<NodeId, BootMillis>,
    /// Since when each host can be given up: before that nobody waited for it.
    watched: BTreeMap<NodeId, BootMillis>,
    /// The hosts that are being given up; some of it may be in the log although no outcome was heard.
    giving_up: BTreeSet<NodeId>,
    /// The change of times that this leadership settles, and since when it has seen it.
    settling: Option<(Revision, BootMillis)>,
    /// Since when it has seen a quarantine.
    quarantined: Option<BootMillis>,
    trust: Trust,
}

/// Why a heartbeat is not answered with a grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Withheld {
    /// The leadership that the heartbeat came to is over.
    #[error("the leadership of term {term} is over")]
    Deposed {
        /// The term that it was received in.
        term: u64,
    },
    /// No such node, or its daemon has not said hello, or another one has since.
    #[error("the session on node {node} belongs to another daemon")]
    StaleSession {
        /// The node.
        node: NodeId,
    },
    /// The host was lost; the log has to say that it is back.
    #[error("node {node} was lost and is not back yet")]
    Lost {
        /// The node.
        node: NodeId,
    },
    /// A person has said that the machine is off.
    #[error("node {node} was declared lost")]
    DeclaredLost {
        /// The node.
        node: NodeId,
    },
    /// The cluster was recovered or restored: what it granted before has to end, so nothing is renewed.
    #[error("leases from before the cluster was recovered or restored have to end first")]
    Quarantine,
    /// The leader has proposed to give it up.
    #[error("node {node} is being given up")]
    GivingUp {
        /// The node.
        node: NodeId,
    },
    /// This machine's clock runs at a rate that leases cannot rely on.
    #[error("this server's clock is not steady")]
    ClockOff,
}

/// Something the leader has to propose.
pub type Duty = FenceCommand;

impl LeaderLeases {
    /// Begins with a leadership whose first entry has been applied here.
    #[must_use]
    pub fn begin(authority: Authority, now: BootMillis) -> Self {
        Self {
            authority,
            from: now,
            ticked: now,
            answered: BTreeMap::new(),
            watched: BTreeMap::new(),
            giving_up: BTreeSet::new(),
            settling: None,
            quarantined: None,
            trust: Trust::Steady,
        }
    }

    /// Whose decisions these are.
    #[must_use]
    pub fn authority(&self) -> Authority {
        self.authority
    }

    /// How far the clock may be trusted from now on.
    pub fn set_trust(&mut self, trust: Trust) {
        self.trust = trust;
    }

    /// Decides on a grant that answers a heartbeat received at `received`, from a state that has applied
    /// the read index of a quorum round begun after that. Gives the lease, absent while there is one host.
    ///
    /// # Errors
    /// When the host may not be granted anything now; then nothing may be sent.
    pub fn grant(
        &mut self,
        state: &ClusterState,
        heartbeat: &Heartbeat,
        received: BootMillis,
        authority: Authority,
    ) -> Result<Option<u64>, Withheld> {
        let node = heartbeat.node;
        if authority != self.authority {
            return Err(Withheld::Deposed { term: authority.term });
        }
        if self.trust == Trust::Off {
            return Err(Withheld::ClockOff);
        }
        let host = speaker(state, node, heartbeat.daemon).ok_or(Withheld::StaleSession { node })?;
        if state.fencing.quarantine == Quarantine::Waiting && state.fencing.since.is_some() {
            return Err(Withheld::Quarantine);
        }
        match host.presence {
            Presence::Present => {}
            Presence::DeclaredLost => return Err(Withheld::DeclaredLost { node }),
            Presence::Lost => return Err(Withheld::Lost { node }),
        }
        if self.giving_up.contains(&node) {
            return Err(Withheld::GivingUp { node });
        }
        let answered = self.answered.entry(node).or_default();
        *answered = received.max(*answered);
        Ok(state.fencing.lease_ms())
    }

    /// What a heartbeat gives cause to propose, whether or not it is answered.
    #[must_use]
    pub fn heard(&self, state: &ClusterState, heartbeat: &Heartbeat) -> Option<Duty> {
        let Heartbeat { node, daemon, .. } = *heartbeat;
        let host = speaker(state, node, daemon)?;
        if host.presence == Presence::Lost {
            return Some(FenceCommand::NodeBack { node, authority: self.authority });
        }
        let held = heartbeat.fenced_by?;
        let armed = host.fence == Fence::Open && state.fencing.since.is_some_and(|since| held >= since);
        armed.then_some(FenceCommand::FenceArmed { node, daemon, held })
    }

    /// Looks at the clock: what is to be proposed now. A host in it is granted nothing until
    /// [`Self::given_up`] says that the outcome is known.
    pub fn tick(&mut self, state: &ClusterState, now: BootMillis) -> Vec<Duty> {
        let late = now.since(self.ticked) > state.fencing.times.lease_ms / 2;
        self.ticked = now;
        // Heartbeats may have waited as long as this leader did: nobody was silent.
        if late || self.trust == Trust::Off {
            self.from = now;
        }
        let mut duties = self.settle(state, now);
        for (&node, host) in &state.nodes {
            // In a quarantine nobody is granted anything, so nobody's silence counts.
            if !can_be_lost(host) || state.fencing.quarantine == Quarantine::Waiting {
                self.watched.remove(&node);
                continue;
            }
            let since = *self.watched.entry(node).or_insert(now);
            if self.silence(node, since, now) > state.fencing.silence_ms() && self.giving_up.insert(node) {
                duties.push(FenceCommand::NodeLost { node, authority: self.authority });
            }
        }
        duties
    }

    /// The outcome of giving a host up is known: applied, or refused.
    pub fn given_up(&mut self, node: NodeId) {
        self.giving_up.remove(&node);
    }

    fn silence(&self, node: NodeId, watched: BootMillis, now: BootMillis) -> u64 {
        let answered = self.answered.get(&node).copied().unwrap_or_default();
        now.since(answered.max(watched).max(self.from))
    }

    /// What only the passing of time under one leadership settles: leases of other times, or of an earlier
    /// incarnation.
    fn settle(&mut self, state: &ClusterState, now: BootMillis) -> Vec<Duty> {
        let (fencing, from, authority) = (&state.fencing, self.from, self.authority);
        let waited = |since: BootMillis| now.since(since.max(from));
        // One change may follow another between two ticks: each is waited for on its own.
        let seen = self.settling.filter(|(of, _)| *of == fencing.settling_since);
        self.settling = fencing.settling.map(|_| seen.unwrap_or((fencing.settling_since, now)));
        let settled = self.settling.filter(|(_, since)| waited(*since) > fencing.silence_ms());
        let settle = settled.map(|(since, _)| FenceCommand::SettleLeases { authority, since });

        let waiting = fencing.quarantine == Quarantine::Waiting;
        self.quarantined = waiting.then(|| self.quarantined.unwrap_or(now));
        let over = self.quarantined.is_some_and(|since| waited(since) > fencing.quarantine_ms());
        let end = over.then_some(FenceCommand::EndQuarantine { authority });
        settle.into_iter().chain(end).collect()
    }
}

fn can_be_lost(host: &Node) -> bool {
    match host.presence {
        Presence::Present => host.fence == Fence::Armed && host.session.is_some(),
        Presence::DeclaredLost => true,
        Presence::Lost => false,
    }
}

/// The host that a heartbeat is of, if it is from the daemon whose session is open.
fn speaker(state: &ClusterState, node: NodeId, daemon: DaemonId) -> Option<&Node> {
    let open = |host: &&Node| host.session.as_ref().is_some_and(|session| session.daemon == daemon);
    state.nodes.get(&node).filter(open)
}

#[cfg(test)]
mod tests;
