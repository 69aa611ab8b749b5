//! The host's part: heartbeats, grants, the holder, starts and stops, reports. As `blixard-host` does it, and
//! the service manager below it.

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use blixard_types::{DaemonId, Epoch, GenerationNumber, VmId};

use super::Flaw;
use super::event::{Event, Message, Order, Outcome, Step};
use super::machine::{Holder, Process};
use super::world::{MACHINES, SECOND, Weather, World, node_id};
use crate::assignment::{AssignmentSet, Intent};
use crate::command::Command;
use crate::grant::{Grant, GrantGate, Heartbeat, Term};
use crate::ports::BootMillis;
use crate::state::{HealthStatus, VmReport};

const AGENT_EVERY: u64 = SECOND / 5;
const SAY_AGAIN: u64 = 2 * SECOND;

/// Under what something may be started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ready {
    /// The holder is not told yet.
    NotYet,
    /// The host is alone and was never fenced.
    Leaseless,
    /// Under this lease.
    Lease(u64),
}

#[derive(Debug)]
pub(super) struct Agent {
    pub(super) id: DaemonId,
    gate: GrantGate,
    /// Under what it may start something, once the holder is told of the newest grant: under this lease, or
    /// without one.
    ready: Ready,
    /// Vms with an order on its way, and whether that is a start without a lease.
    busy: BTreeMap<VmId, bool>,
    started: BTreeMap<VmId, Epoch>,
    ended: BTreeMap<VmId, Epoch>,
    said: BTreeMap<VmId, (Epoch, VmReport, u64)>,
    sequence: u64,
    pub(super) server: usize,
    unanswered: u32,
    pub(super) pushed: Option<Rc<AssignmentSet>>,
}

impl Agent {
    pub(super) fn new(id: DaemonId, server: usize) -> Self {
        Self {
            id,
            gate: GrantGate::default(),
            ready: Ready::NotYet,
            busy: BTreeMap::new(),
            started: BTreeMap::new(),
            ended: BTreeMap::new(),
            said: BTreeMap::new(),
            sequence: 0,
            server,
            unanswered: 0,
            pushed: None,
        }
    }
}

impl Agent {
    /// Whether what it is granted has no end.
    pub(super) fn is_endless(&self) -> bool {
        self.gate.term() == Term::Endless
    }
}

impl World {
    pub(super) fn agent(&mut self, node: usize) -> &mut Agent {
        &mut self.machines[node].daemon.as_mut().unwrap().agent
    }

    /// Reads the clock, writes a heartbeat, and sends it some time later.
    pub(super) fn write_heartbeat(&mut self, node: usize, every_ms: u64) {
        let now = self.clock(node);
        let bound = self.machines[node].bound;
        let agent = self.agent(node);
        let leased = matches!(agent.ready, Ready::Lease(_));
        let fenced = bound && leased && !agent.busy.values().any(|&unleased| unleased);
        let until = matches!(agent.gate.term(), Term::Until(_));
        let holds = agent.gate.holds();
        let heartbeat = Heartbeat {
            node: node_id(node),
            boot: String::new(),
            daemon: agent.id,
            n: agent.gate.next_heartbeat(now),
            running: Vec::new(),
            holds,
            fenced_by: holds.filter(|_| fenced && until).map(|(_, revision)| revision),
        };
        let delay = self.task();
        self.step(node, delay, Step::SendHeartbeat(heartbeat.into()));
        // A stream that is new asks until it is answered.
        let every_ms = if holds.is_some() { every_ms } else { every_ms.min(300) };
        self.step(node, every_ms * 1000, Step::HeartbeatTimer);
    }

    pub(super) fn send_heartbeat(&mut self, node: usize, heartbeat: Rc<Heartbeat>) {
        // It may be one that is no server.
        let other = self.rng.pick(if self.weather == Weather::Budget { MACHINES - 1 } else { MACHINES });
        let agent = self.agent(node);
        agent.unanswered += 1;
        if agent.unanswered > 1 {
            (agent.server, agent.unanswered) = (other, 1);
        }
        let server = agent.server;
        self.send(node, server, Message::Heartbeat(heartbeat));
    }

    pub(super) fn take_grant(&mut self, node: usize, from: usize, daemon: DaemonId, grant: &Grant) {
        let now = self.clock(node);
        let agent = self.agent(node);
        if agent.id != daemon {
            return;
        }
        (agent.server, agent.unanswered) = (from, 0);
        let before = agent.gate.term();
        let Ok(term) = agent.gate.take(grant.clone(), now) else { return };
        agent.pushed = None;
        if (before == Term::Endless) != (term == Term::Endless) {
            agent.ready = Ready::NotYet;
        }
        let delay = self.task();
        self.step(node, delay, Step::Feed { term, lease_ms: grant.lease_ms.unwrap_or_default() });
    }

    /// The holder is told; it is started if there is none, and what ran without it is bound to it. A host
    /// that is alone again has a holder without a deadline, or none.
    pub(super) fn feed(&mut self, node: usize, term: Term, lease_ms: u64) {
        let (now, era) = (self.clock(node), self.fresh());
        if (self.agent(node).gate.term() == Term::Endless) != (term == Term::Endless) {
            return;
        }
        let relative = self.flaw == Some(Flaw::RelativeFeed);
        let machine = &mut self.machines[node];
        let Term::Until(until) = term else {
            machine.bound = machine.holder.is_some();
            if let Some(holder) = &mut machine.holder {
                holder.deadline = None;
            }
            let ready = machine.holder.map_or(Ready::Leaseless, |holder| Ready::Lease(holder.era));
            self.agent(node).ready = ready;
            return;
        };
        let until = if relative { BootMillis(now.0 + lease_ms) } else { until };
        if until <= now {
            return;
        }
        let holder = machine.holder.get_or_insert(Holder { era, deadline: Some(until) });
        let until = holder.deadline.map_or(until, |deadline| deadline.max(until));
        holder.deadline = Some(until);
        let era = holder.era;
        machine.bound = true;
        let (when, boot) = (machine.clock.when(until), machine.boot);
        self.agent(node).ready = Ready::Lease(era);
        self.at(when, Event::Lapse { node, boot, era });
    }

    pub(super) fn lapse(&mut self, node: usize, era: u64) {
        let now = self.clock(node);
        let machine = &self.machines[node];
        let Some(holder) = machine.holder.filter(|holder| holder.era == era) else { return };
        if holder.holds(now) {
            let Some(deadline) = holder.deadline else { return };
            let (when, boot) = (machine.clock.when(deadline).max(self.now + 1), machine.boot);
            return self.at(when, Event::Lapse { node, boot, era });
        }
        self.note("lapse");
        self.say(|| format!("the lease of {} is over", node + 1));
        self.end_holder(node);
    }

    /// The holder is gone, however: everything that may stop is killed, within G.
    pub(super) fn end_holder(&mut self, node: usize) {
        if self.machines[node].holder.take().is_none() {
            return;
        }
        for vm in self.stopping.clone() {
            let latency =
                if self.rng.one_in(2) { self.grace_ms * 1000 } else { self.rng.below(self.grace_ms * 1000) };
            self.kill(node, &vm, self.now + latency);
        }
    }

    fn kill(&mut self, node: usize, vm: &VmId, when: u64) {
        let machine = &mut self.machines[node];
        let boot = machine.boot;
        let Some(process) = machine.processes.get_mut(vm) else { return };
        let when = process.dies_at.map_or(when, |at| at.min(when));
        process.dies_at = Some(when);
        let serial = process.serial;
        self.at(when, Event::Death { node, boot, vm: vm.clone(), serial });
    }

    /// Looks at what is granted and what runs, and takes the next step for each vm.
    pub(super) fn agent_timer(&mut self, node: usize) {
        self.step(node, AGENT_EVERY, Step::AgentTimer);
        let agent = self.agent(node);
        let pushed = agent.pushed.clone();
        let Some(held) = pushed.as_deref().or(agent.gate.assignments()).cloned() else { return };
        let names: BTreeSet<VmId> =
            held.assignments.keys().chain(self.machines[node].processes.keys()).cloned().collect();
        for vm in names {
            if !self.agent(node).busy.contains_key(&vm) {
                self.plan(node, &held, vm);
            }
        }
    }

    fn plan(&mut self, node: usize, held: &AssignmentSet, vm: VmId) {
        let blind = self.flaw == Some(Flaw::StoppedFromUnitState);
        let process = self.machines[node].processes.get(&vm).filter(|run| !blind || run.dies_at.is_none());
        let epoch = process.map(|process| process.epoch);
        let now = self.clock(node);
        let daemon = self.machines[node].daemon.as_ref().unwrap().serial;
        let over = self.machines[node].over.get(&vm).copied();
        let agent = self.agent(node);
        let ended = agent.ended.get(&vm).copied();
        let Some(assignment) = held.assignments.get(&vm) else {
            if let Some(epoch) = epoch {
                self.order(node, false, Order::Stop { vm, epoch, daemon });
            }
            return;
        };
        let wanted = assignment.epoch;
        match (&assignment.intent, epoch) {
            (Intent::Run(_), Some(epoch)) if epoch == wanted && ended != Some(wanted) => {
                let (generation, health) = (GenerationNumber(1), HealthStatus::Healthy);
                self.report(node, vm, wanted, VmReport::Running { generation, health });
            }
            (_, Some(epoch)) => self.order(node, false, Order::Stop { vm, epoch, daemon }),
            (_, None) if ended == Some(wanted) => self.report(node, vm, wanted, VmReport::Stopped),
            (Intent::Stop, None) => self.end_epoch(node, &vm, wanted),
            // It was fenced, or has ended by itself: the epoch is over.
            (Intent::Run(_), None) if agent.started.get(&vm) == Some(&wanted) => {
                self.end_epoch(node, &vm, wanted);
            }
            // A daemon before this one has ended it.
            (Intent::Run(_), None) if over.is_some_and(|over| wanted <= over) => {
                self.end_epoch(node, &vm, wanted);
            }
            (Intent::Run(_), None) => {
                let granted = agent.gate.may_start(now) || agent.pushed.is_some();
                let era = match agent.ready {
                    Ready::Lease(era) => Some(era),
                    Ready::Leaseless => None,
                    Ready::NotYet => return,
                };
                if granted {
                    self.order(node, era.is_none(), Order::Start { vm, epoch: wanted, era, daemon });
                }
            }
        }
    }

    /// Nothing starts at this epoch any more. What has started by now is seen at the next look, before
    /// anything is reported.
    fn end_epoch(&mut self, node: usize, vm: &VmId, epoch: Epoch) {
        if self.flaw != Some(Flaw::EpochsStayOpen) {
            let over = self.machines[node].over.entry(vm.clone()).or_insert(epoch);
            *over = epoch.max(*over);
        }
        self.agent(node).ended.insert(vm.clone(), epoch);
    }

    fn order(&mut self, node: usize, unleased: bool, order: Order) {
        let vm = match &order {
            Order::Start { vm, .. } | Order::Stop { vm, .. } => vm.clone(),
        };
        self.agent(node).busy.insert(vm, unleased);
        let delay = self.task();
        self.step(node, delay, Step::Order(order));
    }

    fn report(&mut self, node: usize, vm: VmId, epoch: Epoch, report: VmReport) {
        let now = self.now;
        let agent = self.agent(node);
        let known = agent
            .said
            .get(&vm)
            .is_some_and(|(at, said, when)| (*at, said) == (epoch, &report) && now < when + SAY_AGAIN);
        if known {
            return;
        }
        agent.sequence += 1;
        agent.said.insert(vm.clone(), (epoch, report.clone(), now));
        let (daemon, sequence, server) = (agent.id, agent.sequence, agent.server);
        let command = Command::Report { node: node_id(node), daemon, sequence, vm, epoch, report };
        let envelope = self.envelope(command);
        self.send(node, server, Message::Propose(envelope.into()));
    }

    /// The service manager acts on an order.
    pub(super) fn carry_out(&mut self, node: usize, order: Order) {
        match order {
            Order::Start { vm, epoch, era, daemon } => {
                let machine = &self.machines[node];
                let closed = machine.is_over(&vm, epoch) || machine.processes.contains_key(&vm);
                let started = self.may_execute(node, era) && !closed;
                if started {
                    let serial = self.fresh();
                    self.say(|| format!("{vm} starts on {} at {epoch}", node + 1));
                    self.machines[node]
                        .processes
                        .insert(vm.clone(), Process { epoch, serial, dies_at: None });
                    self.note("start");
                    self.check(&vm);
                }
                let order = if started { Outcome::Started(epoch) } else { Outcome::NotStarted };
                self.tell(node, daemon, Step::Done { vm, order });
            }
            Order::Stop { ref vm, epoch, daemon } => {
                let process = self.machines[node].processes.get(vm).copied();
                let blind = self.flaw == Some(Flaw::StoppedFromUnitState);
                if process.is_none() || (blind && process.is_some_and(|process| process.dies_at.is_some())) {
                    let done = Step::Done { vm: vm.clone(), order: Outcome::Gone(epoch) };
                    return self.tell(node, daemon, done);
                }
                if process.is_some_and(|process| process.dies_at.is_none()) {
                    let latency = self.rng.spread(4 * SECOND);
                    self.kill(node, vm, self.now + latency);
                }
                let boot = self.machines[node].boot;
                self.at(self.now + 20_000, Event::Systemd { node, boot, order });
            }
        }
    }

    /// Whether a program that was to start under this lease may still be executed.
    fn may_execute(&self, node: usize, era: Option<u64>) -> bool {
        let machine = &self.machines[node];
        let Some(era) = era else { return !machine.bound };
        let across = self.flaw == Some(Flaw::StartAcrossLeases);
        let same = |holder: &Holder| holder.era == era || across;
        machine.holder.is_some_and(|holder| same(&holder) && holder.holds(self.clock(node)))
    }

    fn tell(&mut self, node: usize, daemon: u64, step: Step) {
        let delay = self.task();
        self.at(self.now + delay, Event::Daemon { node, daemon, step });
    }

    pub(super) fn done(&mut self, node: usize, vm: VmId, outcome: &Outcome) {
        let agent = self.agent(node);
        agent.busy.remove(&vm);
        let granted = agent.gate.assignments().and_then(|held| Some(held.assignments.get(&vm)?.epoch));
        match *outcome {
            Outcome::Started(epoch) => drop(agent.started.insert(vm, epoch)),
            // What is not granted is nothing to report of.
            Outcome::Gone(epoch) if granted != Some(epoch) => drop(agent.ended.insert(vm, epoch)),
            Outcome::Gone(epoch) => self.end_epoch(node, &vm, epoch),
            Outcome::NotStarted => {}
        }
    }
}
