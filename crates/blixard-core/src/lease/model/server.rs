//! The servers' part: elections, quorum rounds, grants, the leader's duties, and what is applied.

use std::collections::BTreeMap;
use std::rc::Rc;

use blixard_types::{Incarnation, NodeId, Revision};

use super::Flaw;
use super::event::{Event, Message, Step};
use super::raft::{Output, Payload, Raft, RaftMessage};
use super::world::{MACHINES, SECOND, Weather, World, hello, node_id, node_index, shown};
use crate::assignment::{AssignmentSet, assignments_of};
use crate::command::{Command, Envelope, FenceCommand};
use crate::grant::{Grant, GrantContent, Heartbeat, Pace};
use crate::lease::{LeaderLeases, Withheld};
use crate::ports::BootMillis;
use crate::schedule;
use crate::state::{Authority, ClusterState};

const RAFT_EVERY: u64 = SECOND / 10;

/// What a leader remembers besides its log.
#[derive(Debug)]
pub(super) struct Leading {
    pub(super) leases: LeaderLeases,
    waiting: Vec<(u64, Rc<Heartbeat>, BootMillis)>,
    granted: BTreeMap<NodeId, ((Incarnation, Revision), AssignmentSet)>,
}

impl World {
    pub(super) fn raft(&mut self, node: usize) -> &mut Raft {
        &mut self.machines[node].daemon.as_mut().unwrap().raft
    }

    pub(super) fn arm_election(&mut self, node: usize) {
        let raft = self.raft(node);
        raft.armed += 1;
        let armed = raft.armed;
        let delay = self.rng.range(300_000, 600_000);
        self.step(node, delay, Step::ElectionTimeout { armed });
    }

    pub(super) fn daemon_step(&mut self, node: usize, step: Step) {
        match step {
            Step::RaftTick => {
                let machine = &self.machines[node];
                let raft = &machine.daemon.as_ref().unwrap().raft;
                // Rounds ask again, too, for those whose answers were lost.
                let (mut sent, disk) = (Vec::new(), &machine.disk);
                if raft.leads() {
                    sent = raft.broadcast(node, disk);
                    sent.extend(raft.ask(node, disk));
                }
                self.send_raft(node, sent);
                self.step(node, RAFT_EVERY, Step::RaftTick);
            }
            Step::ElectionTimeout { armed } => {
                if self.raft(node).armed == armed {
                    let machine = &mut self.machines[node];
                    let raft = &mut machine.daemon.as_mut().unwrap().raft;
                    let output = raft.campaign(node, &mut machine.disk);
                    self.follow_up(node, output);
                    self.arm_election(node);
                }
            }
            Step::LeaderTick => self.leader_tick(node),
            Step::HeartbeatTimer => {
                let every_ms = self.raft(node).state.fencing.times.heartbeat_ms;
                self.write_heartbeat(node, every_ms);
            }
            Step::AgentTimer => self.agent_timer(node),
            Step::SendHeartbeat(heartbeat) => self.send_heartbeat(node, heartbeat),
            Step::Assemble { heartbeat, received, authority } => {
                self.assemble(node, &heartbeat, received, authority);
            }
            Step::SendGrant { node: to, daemon, grant } => {
                self.send(node, node_index(to), Message::Grant { from: node, daemon, grant });
            }
            Step::Propose(envelope) => self.propose(node, envelope),
            Step::Feed { term, lease_ms } => self.feed(node, term, lease_ms),
            Step::Order(order) => {
                let boot = self.machines[node].boot;
                let delay = self.task();
                self.at(self.now + delay, Event::Systemd { node, boot, order });
            }
            Step::Done { vm, order } => self.done(node, vm, &order),
        }
    }

    pub(super) fn deliver(&mut self, to: usize, message: Message) {
        match message {
            Message::Raft { lineage, from, message } => {
                let machine = &mut self.machines[to];
                // A server that was removed, and does not know it, would stand for election for ever.
                let removed = matches!(message, RaftMessage::Vote { .. })
                    && self.weather != Weather::Storm
                    && !machine.disk.voters().contains(&from);
                if machine.disk.base.lineage != lineage || removed {
                    return;
                }
                let raft = &mut machine.daemon.as_mut().unwrap().raft;
                let output = raft.receive(to, &mut machine.disk, from, message);
                self.follow_up(to, output);
            }
            Message::Heartbeat(heartbeat) => self.hear(to, heartbeat),
            Message::Grant { from, daemon, grant } => self.take_grant(to, from, daemon, &grant),
            Message::Propose(envelope) => self.propose(to, envelope),
            Message::Pushed(set) => self.agent(to).pushed = Some(set),
            Message::Replaced { daemon } => {
                if self.agent(to).id == daemon {
                    self.restart_daemon(to, SECOND);
                }
            }
        }
    }

    fn send_raft(&mut self, node: usize, sent: Vec<(usize, RaftMessage)>) {
        let lineage = self.machines[node].disk.base.lineage;
        for (to, mut message) in sent {
            // A follower may learn late what is committed, or what is appended.
            if let RaftMessage::Append { commit, .. } = &mut message
                && self.weather == Weather::Storm
            {
                if self.entries_wait(node) {
                    continue;
                }
                if !self.rng.one_in(self.told) {
                    *commit = 0;
                }
            }
            self.send(node, to, Message::Raft { lineage, from: node, message });
        }
    }

    fn entries_wait(&self, node: usize) -> bool {
        self.machines[node].daemon.as_ref().is_some_and(|daemon| daemon.entries_wait_until > self.now)
    }

    /// What comes of a message or of a timeout: answers, entries to apply, a leadership to begin or to end.
    fn follow_up(&mut self, node: usize, output: Output) {
        if output.elected && self.late_entries && self.rng.one_in(2) {
            let until = self.now + self.rng.range(SECOND, 20 * SECOND);
            self.machines[node].daemon.as_mut().unwrap().entries_wait_until = until;
        }
        self.send_raft(node, output.send);
        if output.heard_leader {
            self.arm_election(node);
        }
        if output.elected {
            self.note("elected");
            self.say(|| format!("{} leads term {}", node + 1, self.machines[node].disk.term));
        }
        self.apply(node);
        let machine = &self.machines[node];
        let daemon = machine.daemon.as_ref().unwrap();
        let established = match self.flaw {
            Some(Flaw::GrantBeforeFirstEntry) => daemon.raft.leads(),
            _ => daemon.raft.established(&machine.disk),
        };
        let authority = Authority { incarnation: daemon.raft.state.incarnation(), term: machine.disk.term };
        if !established {
            self.machines[node].daemon.as_mut().unwrap().leading = None;
            return;
        }
        let known = daemon.leading.as_ref().is_some_and(|leading| leading.leases.authority() == authority);
        if !known {
            let mut leases = LeaderLeases::begin(authority, self.clock(node));
            if self.flaw == Some(Flaw::NoGraceAtElection) {
                leases.skip_grace(&self.raft(node).state);
            }
            let leading = Leading { leases, waiting: Vec::new(), granted: BTreeMap::new() };
            self.machines[node].daemon.as_mut().unwrap().leading = Some(leading);
        }
        self.confirm(node);
    }

    /// Applies what is committed. A flaw may change what applying means.
    fn apply(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let daemon = machine.daemon.as_mut().unwrap();
        let mut placed = false;
        for (position, entry) in daemon.raft.unapplied(&machine.disk) {
            let state = &mut daemon.raft.state;
            let Payload::Command(envelope) = &entry.payload else {
                state.applied = position;
                continue;
            };
            let mut envelope = Envelope::clone(envelope);
            if let (Some(Flaw::LostInAnyTerm), Command::Fence(FenceCommand::NodeLost { authority, .. })) =
                (self.flaw, &mut envelope.command)
            {
                *authority = Authority { incarnation: state.incarnation(), term: position.term };
            }
            let outcome = state.apply(&envelope, position);
            if let Some(leading) = &mut daemon.leading
                && let Command::Fence(FenceCommand::NodeLost { node, .. }) = envelope.command
            {
                leading.leases.given_up(node);
            }
            placed |= outcome.is_ok() && matches!(envelope.command, Command::Place { .. });
            if outcome.is_ok() && daemon.leading.is_some() {
                let what = match envelope.command {
                    Command::Fence(FenceCommand::NodeLost { .. }) => "lost",
                    Command::Fence(FenceCommand::NodeBack { .. }) => "back",
                    Command::Fence(FenceCommand::FenceArmed { .. }) => "armed",
                    Command::Fence(FenceCommand::SettleLeases { .. }) => "settled",
                    Command::Fence(FenceCommand::EndQuarantine { .. }) => "quarantine over",
                    Command::Place { .. } => "placed",
                    _ => "applied",
                };
                *self.seen.entry(what).or_default() += 1;
                if self.trace {
                    eprintln!("{} {position} {:?}", shown(self.now), envelope.command);
                }
            }
        }
        if placed && self.flaw == Some(Flaw::Pushed) && self.raft(node).leads() {
            for to in 0..MACHINES {
                let set = assignments_of(&self.raft(node).state, node_id(to));
                self.send(node, to, Message::Pushed(set.into()));
            }
        }
    }

    /// A heartbeat comes in: its receipt is noted, and a quorum round begun after that.
    fn hear(&mut self, node: usize, heartbeat: Rc<Heartbeat>) {
        let received = self.clock(node);
        let machine = &mut self.machines[node];
        let daemon = machine.daemon.as_mut().unwrap();
        let Some(leading) = &mut daemon.leading else {
            let leader = daemon.raft.leader.filter(|&leader| leader != node);
            if let Some(leader) = leader {
                self.send(node, leader, Message::Heartbeat(heartbeat));
            }
            return;
        };
        let authority = leading.leases.authority();
        let duty = leading.leases.heard(&daemon.raft.state, &heartbeat);
        if self.flaw == Some(Flaw::LeaderLease) {
            let delay = self.task();
            self.step(node, delay, Step::Assemble { heartbeat: Rc::clone(&heartbeat), received, authority });
        } else {
            let round = daemon.raft.begin_round(node);
            leading.waiting.push((round, Rc::clone(&heartbeat), received));
            let sent = daemon.raft.ask(node, &machine.disk);
            self.send_raft(node, sent);
            self.confirm(node);
        }
        if let Some(duty) = duty {
            self.propose_soon(node, Command::Fence(duty));
        }
    }

    /// The heartbeats whose round is over are answered, each in its own time.
    fn confirm(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        let daemon = machine.daemon.as_mut().unwrap();
        let confirmed = daemon.raft.confirmed(&machine.disk);
        let Some(leading) = &mut daemon.leading else { return };
        let authority = leading.leases.authority();
        let ready: Vec<_> = leading.waiting.extract_if(.., |(round, ..)| *round <= confirmed).collect();
        for (_, heartbeat, received) in ready {
            let delay = self.task();
            self.step(node, delay, Step::Assemble { heartbeat, received, authority });
        }
    }

    fn assemble(&mut self, node: usize, heartbeat: &Heartbeat, received: BootMillis, authority: Authority) {
        let daemon = self.machines[node].daemon.as_mut().unwrap();
        let (Some(leading), state) = (&mut daemon.leading, &daemon.raft.state) else { return };
        let to = heartbeat.node;
        let lease_ms = match leading.leases.grant(state, heartbeat, received, authority) {
            Ok(lease_ms) => lease_ms,
            Err(Withheld::StaleSession { .. }) => {
                let daemon = heartbeat.daemon;
                if state.nodes.get(&to).is_some_and(|host| host.replaced.contains(&daemon)) {
                    return self.send(node, node_index(to), Message::Replaced { daemon });
                }
                let hello = hello(node_index(to), daemon);
                return self.propose_soon(node, hello);
            }
            Err(_) => return,
        };
        let set = assignments_of(state, to);
        let (incarnation, revision) = (state.incarnation(), state.applied.revision());
        let held =
            leading.granted.get(&to).filter(|(stamp, last)| heartbeat.holds == Some(*stamp) && *last == set);
        let content = if held.is_some() { GrantContent::Unchanged } else { GrantContent::Whole(set.clone()) };
        leading.granted.insert(to, ((incarnation, revision), set));
        let term = authority.term;
        let pace = Pace::of(&state.fencing.times);
        let grant = Grant { n: heartbeat.n, term, incarnation, revision, lease_ms, pace, content };
        let (daemon, delay) = (heartbeat.daemon, self.task());
        self.step(node, delay, Step::SendGrant { node: to, daemon, grant: grant.into() });
    }

    fn leader_tick(&mut self, node: usize) {
        let (now, wall) = (self.clock(node), self.wall());
        let machine = &mut self.machines[node];
        let daemon = machine.daemon.as_mut().unwrap();
        let tick_ms = daemon.raft.state.fencing.times.tick_ms;
        let mut commands = Vec::new();
        if let Some(leading) = &mut daemon.leading {
            let state = &daemon.raft.state;
            for duty in leading.leases.tick(state, now) {
                if let (Some(Flaw::GrantWhileGivingUp), FenceCommand::NodeLost { node, .. }) =
                    (self.flaw, &duty)
                {
                    leading.leases.given_up(*node);
                }
                commands.push(Command::Fence(duty));
            }
            if daemon.raft.may_change_voters(&machine.disk) {
                commands.extend(placements(state, wall));
            }
        }
        for command in commands {
            self.propose_soon(node, command);
        }
        self.step(node, tick_ms * 1000, Step::LeaderTick);
    }

    /// Between a decision and its proposal anything may happen.
    pub(super) fn propose_soon(&mut self, node: usize, command: Command) {
        let (envelope, delay) = (self.envelope(command), self.task());
        self.step(node, delay, Step::Propose(envelope.into()));
    }

    /// Appends where this node leads, and forwards where it does not.
    fn propose(&mut self, node: usize, envelope: Rc<Envelope>) {
        let machine = &mut self.machines[node];
        let daemon = machine.daemon.as_mut().unwrap();
        if !daemon.raft.leads() {
            let leader = daemon.raft.leader.filter(|&leader| leader != node);
            if let Some(leader) = leader {
                self.send(node, leader, Message::Propose(envelope));
            }
            return;
        }
        daemon.raft.append(node, &mut machine.disk, Payload::Command(envelope));
        let sent = daemon.raft.broadcast(node, &machine.disk);
        self.follow_up(node, Output { send: sent, ..Output::default() });
    }
}

/// The scheduler likes to go back to the last host, which no rule of leases relies on and which would hide
/// what these runs look for: a vm on two hosts. So it is not told.
fn placements(state: &ClusterState, wall: crate::ports::UnixMillis) -> Vec<Command> {
    let mut state = state.clone();
    state.vms.values_mut().for_each(|vm| vm.last_host = None);
    let plan = schedule::plan(&state, wall);
    let place = |decided: schedule::PlacementDecision| Command::Place {
        vm: decided.vm,
        node: decided.node,
        epoch: decided.epoch,
    };
    plan.placements.into_iter().map(place).collect()
}
