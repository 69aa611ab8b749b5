//! Consensus, as small as can be and still be itself: terms, votes, logs that may be cut back, quorum
//! rounds, single-server membership changes. A disk that keeps what it was told.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use blixard_types::LogPosition;

use crate::command::Envelope;
use crate::state::ClusterState;

#[derive(Debug, Clone)]
pub(super) enum Payload {
    First,
    Command(Rc<Envelope>),
    Voters(BTreeSet<usize>),
}

#[derive(Debug, Clone)]
pub(super) struct Entry {
    pub(super) term: u64,
    pub(super) payload: Payload,
}

type Log = Rc<Vec<Rc<Entry>>>;

/// What a group of servers starts from.
#[derive(Debug, Clone)]
pub(super) struct Base {
    pub(super) lineage: u64,
    pub(super) state: ClusterState,
    pub(super) voters: BTreeSet<usize>,
}

#[derive(Debug, Clone)]
pub(super) struct Disk {
    pub(super) base: Base,
    pub(super) term: u64,
    voted: Option<usize>,
    log: Log,
}

impl Disk {
    pub(super) fn new(base: Base, term: u64) -> Self {
        Self { base, term, voted: None, log: Rc::default() }
    }

    fn last_term(&self) -> u64 {
        self.log.last().map_or(0, |entry| entry.term)
    }

    pub(super) fn voters(&self) -> &BTreeSet<usize> {
        let changes = self.log.iter().rev().find_map(|entry| match &entry.payload {
            Payload::Voters(voters) => Some(voters),
            Payload::First | Payload::Command(_) => None,
        });
        changes.unwrap_or(&self.base.voters)
    }

    fn position(&self, at: usize, entry: &Entry) -> LogPosition {
        LogPosition { term: entry.term, index: self.base.state.applied.index + 1 + at as u64 }
    }
}

#[derive(Debug, Clone)]
pub(super) enum RaftMessage {
    Vote {
        term: u64,
        last_term: u64,
        length: usize,
    },
    Voted {
        term: u64,
        yes: bool,
    },
    Append {
        term: u64,
        log: Log,
        commit: usize,
    },
    /// Who is asked whether it knows of a later term.
    Ask {
        term: u64,
        round: u64,
    },
    Appended {
        term: u64,
        length: usize,
        round: u64,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Follower,
    Candidate(BTreeSet<usize>),
    Leader,
}

/// A server's share that a restart of its daemon loses.
#[derive(Debug)]
pub(super) struct Raft {
    pub(super) role: Role,
    pub(super) leader: Option<usize>,
    pub(super) state: ClusterState,
    commit: usize,
    applied: usize,
    lengths: BTreeMap<usize, usize>,
    rounds: BTreeMap<usize, u64>,
    pub(super) round: u64,
    /// Counts the times the election timer was set.
    pub(super) armed: u64,
}

/// What a server does after a message.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub(super) send: Vec<(usize, RaftMessage)>,
    pub(super) elected: bool,
    pub(super) heard_leader: bool,
}

impl Raft {
    pub(super) fn new(disk: &Disk) -> Self {
        Self {
            role: Role::Follower,
            leader: None,
            state: disk.base.state.clone(),
            commit: 0,
            applied: 0,
            lengths: BTreeMap::new(),
            rounds: BTreeMap::new(),
            round: 0,
            armed: 0,
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.role == Role::Leader
    }

    /// Whether an entry of the leader's own term is applied, and with it all that came before.
    pub(super) fn established(&self, disk: &Disk) -> bool {
        let last = self.applied.checked_sub(1).and_then(|last| disk.log.get(last));
        self.leads() && last.is_some_and(|entry| entry.term == disk.term)
    }

    fn follow(&mut self, disk: &mut Disk, term: u64) {
        if term > disk.term {
            (disk.term, disk.voted) = (term, None);
        }
        self.role = Role::Follower;
    }

    pub(super) fn campaign(&mut self, me: usize, disk: &mut Disk) -> Output {
        let mut output = Output::default();
        if self.leads() || !disk.voters().contains(&me) {
            return output;
        }
        (disk.term, disk.voted) = (disk.term + 1, Some(me));
        self.role = Role::Candidate([me].into());
        self.leader = None;
        let vote = RaftMessage::Vote { term: disk.term, last_term: disk.last_term(), length: disk.log.len() };
        let others = disk.voters().iter().filter(|&&voter| voter != me);
        output.send = others.map(|&voter| (voter, vote.clone())).collect();
        self.count_votes(me, disk, &mut output);
        output
    }

    fn count_votes(&mut self, me: usize, disk: &mut Disk, output: &mut Output) {
        let Role::Candidate(votes) = &self.role else { return };
        if votes.intersection(disk.voters()).count() * 2 <= disk.voters().len() {
            return;
        }
        self.role = Role::Leader;
        self.leader = Some(me);
        (self.lengths, self.rounds, self.round) = (BTreeMap::new(), BTreeMap::new(), 0);
        output.elected = true;
        self.append(me, disk, Payload::First);
        output.send.extend(self.broadcast(me, disk));
    }

    /// Adds an entry to a leader's log.
    pub(super) fn append(&mut self, me: usize, disk: &mut Disk, payload: Payload) {
        Rc::make_mut(&mut disk.log).push(Rc::new(Entry { term: disk.term, payload }));
        self.lengths.insert(me, disk.log.len());
        self.advance(disk);
    }

    /// Whether a membership change may begin: none is on its way, and the leader's term has an entry.
    pub(super) fn may_change_voters(&self, disk: &Disk) -> bool {
        self.established(disk) && self.commit == disk.log.len()
    }

    pub(super) fn begin_round(&mut self, me: usize) -> u64 {
        self.round += 1;
        self.rounds.insert(me, self.round);
        self.round
    }

    pub(super) fn broadcast(&self, me: usize, disk: &Disk) -> Vec<(usize, RaftMessage)> {
        let message = RaftMessage::Append { term: disk.term, log: Rc::clone(&disk.log), commit: self.commit };
        let others = disk.voters().iter().filter(|&&voter| voter != me);
        others.map(|&voter| (voter, message.clone())).collect()
    }

    /// Asks everybody for the newest round.
    pub(super) fn ask(&self, me: usize, disk: &Disk) -> Vec<(usize, RaftMessage)> {
        let message = RaftMessage::Ask { term: disk.term, round: self.round };
        let others = disk.voters().iter().filter(|&&voter| voter != me);
        others.map(|&voter| (voter, message.clone())).collect()
    }

    /// The newest round that a majority has answered.
    pub(super) fn confirmed(&self, disk: &Disk) -> u64 {
        majority(disk.voters(), |voter| self.rounds.get(&voter).copied().unwrap_or_default())
    }

    fn advance(&mut self, disk: &Disk) {
        let voters = disk.voters();
        let length = majority(voters, |voter| self.lengths.get(&voter).copied().unwrap_or_default());
        let current = length.checked_sub(1).and_then(|last| disk.log.get(last));
        if length > self.commit && current.is_some_and(|entry| entry.term == disk.term) {
            self.commit = length;
        }
    }

    /// The committed entries that are not applied yet.
    pub(super) fn unapplied(&mut self, disk: &Disk) -> Vec<(LogPosition, Rc<Entry>)> {
        let from = std::mem::replace(&mut self.applied, self.commit);
        let entries = disk.log.iter().enumerate().take(self.commit).skip(from);
        entries.map(|(at, entry)| (disk.position(at, entry), Rc::clone(entry))).collect()
    }

    pub(super) fn receive(
        &mut self,
        me: usize,
        disk: &mut Disk,
        from: usize,
        message: RaftMessage,
    ) -> Output {
        let mut output = Output::default();
        match message {
            RaftMessage::Vote { term, last_term, length } => {
                if term > disk.term {
                    self.follow(disk, term);
                }
                let newer = (last_term, length) >= (disk.last_term(), disk.log.len());
                let free = disk.voted.is_none_or(|voted| voted == from);
                let yes = term == disk.term && newer && free && self.role == Role::Follower;
                if yes {
                    disk.voted = Some(from);
                    output.heard_leader = true;
                }
                output.send.push((from, RaftMessage::Voted { term: disk.term, yes }));
            }
            RaftMessage::Voted { term, yes } => {
                if term > disk.term {
                    self.follow(disk, term);
                } else if let Role::Candidate(votes) = &mut self.role
                    && yes
                    && term == disk.term
                {
                    votes.insert(from);
                    self.count_votes(me, disk, &mut output);
                }
            }
            RaftMessage::Ask { term, round } => {
                let round = if term < disk.term { 0 } else { round };
                if term >= disk.term {
                    self.follow(disk, term);
                    (self.leader, output.heard_leader) = (Some(from), true);
                }
                output.send.push((from, RaftMessage::Appended { term: disk.term, length: 0, round }));
            }
            RaftMessage::Append { term, log, commit } => {
                if term < disk.term {
                    let refusal = RaftMessage::Appended { term: disk.term, length: 0, round: 0 };
                    output.send.push((from, refusal));
                    return output;
                }
                self.follow(disk, term);
                (self.leader, output.heard_leader) = (Some(from), true);
                self.take_log(disk, &log, commit, term);
                let reply = RaftMessage::Appended { term, length: log.len(), round: 0 };
                output.send.push((from, reply));
            }
            RaftMessage::Appended { term, length, round } => {
                if term > disk.term {
                    self.follow(disk, term);
                } else if term == disk.term && self.leads() {
                    let known = self.lengths.entry(from).or_default();
                    *known = length.max(*known);
                    let known = self.rounds.entry(from).or_default();
                    *known = round.max(*known);
                    self.advance(disk);
                }
            }
        }
        output
    }

    /// Within a term a log only grows: a shorter one is older. One of a newer term replaces what is there.
    fn take_log(&mut self, disk: &mut Disk, log: &Log, commit: usize, term: u64) {
        let same_leader = disk.last_term() == term;
        if !same_leader || log.len() > disk.log.len() {
            disk.log = Rc::clone(log);
        }
        let known = commit.min(log.len());
        self.commit = self.commit.max(known);
    }
}

/// The greatest value that a majority of the voters has reached.
fn majority<T: Ord + Default + Copy>(voters: &BTreeSet<usize>, value: impl Fn(usize) -> T) -> T {
    let mut values: Vec<T> = voters.iter().map(|&voter| value(voter)).collect();
    values.sort_unstable();
    let short = voters.len() / 2 + 1;
    values.len().checked_sub(short).and_then(|at| values.get(at)).copied().unwrap_or_default()
}
