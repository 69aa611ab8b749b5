//! The world: machines, a network, and what happens next, in true time (microseconds).

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::spec::OnPartition;
use blixard_types::{DaemonId, LogPosition, NodeId, RequestId, VmId};

use super::Flaw;
use super::agent::Agent;
use super::event::{Event, Message, Step};
use super::machine::{Daemon, Machine, MachineClock};
use super::raft::{Base, Disk, Raft};
use super::rng::Rng;
use crate::command::{Command, Envelope};
use crate::fixture::{Cluster, definition, deploy, facts, register, session, spec, vm};
use crate::ports::{BootMillis, UnixMillis};
use crate::state::{ClusterState, Role};

pub(super) const SECOND: u64 = 1_000_000;

/// Machines; all run vms, all but the last begin as servers.
pub(super) const MACHINES: usize = 4;

/// The vms that stop in a partition: at most one machine may execute each.
pub(super) const VMS: [&str; 2] = ["web", "db"];
/// A vm that is kept.
pub(super) const KEPT: &str = "kept";

/// What may go wrong in a run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Weather {
    /// Anything.
    Storm,
    /// What the times allow for.
    Budget,
    /// Nothing.
    Calm,
}

#[derive(Debug)]
pub(super) struct World {
    pub(super) rng: Rng,
    pub(super) now: u64,
    queue: BTreeMap<(u64, u64), Event>,
    count: u64,
    pub(super) machines: Vec<Machine>,
    pub(super) flaw: Option<Flaw>,
    pub(super) weather: Weather,
    pub(super) blocked: BTreeSet<(usize, usize)>,
    pub(super) lineage: u64,
    pub(super) backup: ClusterState,
    /// G as the kernel keeps it: the least that any profile of the run allows.
    pub(super) grace_ms: u64,
    /// The kinds of faults of this run: each run has some of them, so that each has calm enough to matter.
    pub(super) faults: u64,
    /// One in this many tasks, or messages, takes long.
    slow_task: u64,
    slow_net: u64,
    /// One in this many appended entries tells a follower what is committed.
    pub(super) told: u64,
    /// Whether the entries of new leaders may be late, while their questions are not: entries have a stream
    /// of their own.
    pub(super) late_entries: bool,
    /// What the oracle has found.
    pub(super) violation: Option<String>,
    pub(super) stopping: Vec<VmId>,
    pub(super) seen: BTreeMap<&'static str, u64>,
    pub(super) trace: bool,
}

impl World {
    /// One host with vms that have no deadline, to which the others come.
    pub(super) fn new(seed: u64, flaw: Option<Flaw>, weather: Weather) -> Self {
        let mut cluster = Cluster::with_hosts(&[(1, 10_000)]);
        for name in VMS {
            cluster.deploy(name, "a", spec(100));
        }
        let mut kept = spec(100);
        kept.placement.on_partition = OnPartition::Keep;
        cluster.ok(deploy(vec![definition(KEPT, "a", kept)]));
        let state = cluster.state;
        let base = Base { lineage: 0, state: state.clone(), voters: (0..MACHINES - 1).collect() };
        let mut world = Self {
            rng: Rng::new(seed),
            now: 0,
            queue: BTreeMap::new(),
            count: 0,
            machines: Vec::new(),
            flaw,
            weather,
            blocked: BTreeSet::new(),
            lineage: 0,
            backup: state,
            grace_ms: 500,
            faults: 0,
            slow_task: 80,
            slow_net: 30,
            told: 4,
            late_entries: false,
            violation: None,
            stopping: VMS.iter().map(|name| vm(name)).collect(),
            seen: BTreeMap::new(),
            trace: false,
        };
        for _ in 0..MACHINES {
            let (shows, rate) = (world.rng.below(1_000_000), world.rate());
            world.machines.push(Machine {
                up: true,
                boot: 0,
                clock: MachineClock::new(0, shows, rate),
                suspended_until: 0,
                disk: Disk::new(base.clone(), 0),
                daemon: None,
                holder: None,
                bound: false,
                over: BTreeMap::new(),
                processes: BTreeMap::new(),
            });
        }
        for node in 0..MACHINES {
            world.start_daemon(node);
        }
        for node in 1..MACHINES {
            let at = world.rng.range(2, 12) * SECOND;
            let joins = register(node as u64 + 1, &[Role::Host]);
            for again in 0..10 {
                world.propose_at(at + again * 3 * SECOND, 0, joins.clone());
            }
        }
        world.faults = world.rng.next();
        world.slow_task = [12, 80, 400][world.rng.pick(3)];
        world.slow_net = [10, 40, 200][world.rng.pick(3)];
        world.may_be_late(seed);
        if weather == Weather::Storm {
            world.at(20 * SECOND, Event::Fault);
        }
        world
    }

    /// In some runs servers learn late what is appended and what is committed. Then hosts are cut off and daemons
    /// end often, and little else happens. Of numbers of its own: other runs are what they are without.
    fn may_be_late(&mut self, seed: u64) {
        let mut rng = Rng::new(!seed);
        if rng.one_in(4) {
            (self.told, self.late_entries) = ([100, 400][rng.pick(2)], true);
            self.faults &= super::fault::PAUSES;
            self.faults |= super::fault::CUTS_ENDS_AND_ORDERS;
        }
    }

    /// A rate within 1 %, as often as not at one end.
    pub(super) fn rate(&mut self) -> u64 {
        match self.rng.below(4) {
            0 => 990_000,
            1 => 1_010_000,
            _ => self.rng.range(990_000, 1_010_000),
        }
    }

    pub(super) fn at(&mut self, when: u64, event: Event) {
        self.count += 1;
        self.queue.insert((when.max(self.now), self.count), event);
    }

    pub(super) fn note(&mut self, what: &'static str) {
        *self.seen.entry(what).or_default() += 1;
        if self.trace {
            eprintln!("{} {what}", shown(self.now));
        }
    }

    pub(super) fn say(&self, what: impl FnOnce() -> String) {
        if self.trace {
            eprintln!("{} {}", shown(self.now), what());
        }
    }

    /// How long a task waits before it goes on.
    pub(super) fn task(&mut self) -> u64 {
        match self.weather {
            Weather::Storm if self.rng.one_in(self.slow_task) => self.rng.spread(60 * SECOND),
            Weather::Storm => self.rng.range(10, 2000),
            Weather::Budget if self.rng.one_in(50) => self.rng.spread(100_000),
            Weather::Budget | Weather::Calm => self.rng.range(10, 500),
        }
    }

    pub(super) fn send(&mut self, from: usize, to: usize, message: Message) {
        let storm = self.weather == Weather::Storm;
        if self.blocked.contains(&(from, to)) || (storm && from != to && self.rng.one_in(60)) {
            return;
        }
        let copies = if storm && self.rng.one_in(40) { 2 } else { 1 };
        for message in std::iter::repeat_n(message, copies) {
            let delay = match self.weather {
                Weather::Storm if self.rng.one_in(self.slow_net) => self.rng.spread(30 * SECOND),
                Weather::Storm => self.rng.range(100, 5000),
                Weather::Budget => self.rng.range(100, 25_000),
                Weather::Calm => self.rng.range(100, 2000),
            };
            self.at(self.now + delay, Event::Deliver { to, message });
        }
    }

    pub(super) fn step(&mut self, node: usize, delay: u64, step: Step) {
        let Some(daemon) = &self.machines[node].daemon else { return };
        let daemon = daemon.serial;
        self.at(self.now + delay, Event::Daemon { node, daemon, step });
    }

    pub(super) fn fresh(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    pub(super) fn envelope(&mut self, command: Command) -> Envelope {
        let request = RequestId((u128::from(self.fresh()) << 8 | 7).to_be_bytes());
        Envelope { request, at: self.wall(), by: None, command }
    }

    pub(super) fn wall(&self) -> UnixMillis {
        UnixMillis(self.now / 1000)
    }

    /// A call by a person, to this server, at this time.
    pub(super) fn propose_at(&mut self, when: u64, to: usize, command: Command) {
        let envelope = self.envelope(command);
        self.at(when, Event::Deliver { to, message: Message::Propose(envelope.into()) });
    }

    pub(super) fn clock(&self, node: usize) -> BootMillis {
        self.machines[node].clock.at(self.now)
    }

    pub(super) fn start_daemon(&mut self, node: usize) {
        let serial = self.fresh();
        let id = DaemonId((u128::from(serial) << 64 | node as u128).to_be_bytes());
        let machine = &mut self.machines[node];
        machine.daemon = Some(Daemon {
            serial,
            paused_until: 0,
            raft: Raft::new(&machine.disk),
            leading: None,
            entries_wait_until: 0,
            agent: Agent::new(id, node),
        });
        for step in [Step::RaftTick, Step::LeaderTick, Step::HeartbeatTimer, Step::AgentTimer] {
            let delay = self.rng.range(1000, 100_000);
            self.step(node, delay, step);
        }
        self.arm_election(node);
    }

    /// Runs until this instant, or until something has run twice.
    pub(super) fn run_until(&mut self, end: u64) {
        while let Some((&key, _)) = self.queue.first_key_value()
            && key.0 <= end
            && self.violation.is_none()
        {
            let Some(event) = self.queue.remove(&key) else { return };
            self.now = key.0;
            self.happen(event);
        }
        if self.violation.is_none() {
            self.now = end;
        }
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Deliver { to, message } => {
                if let Some(until) = self.daemon_waits(to) {
                    return self.at(until, Event::Deliver { to, message });
                }
                if self.machines[to].daemon.is_some() {
                    self.deliver(to, message);
                }
            }
            Event::Daemon { node, daemon, step } => {
                if self.machines[node].daemon.as_ref().is_none_or(|running| running.serial != daemon) {
                    return;
                }
                if let Some(until) = self.daemon_waits(node) {
                    return self.at(until, Event::Daemon { node, daemon, step });
                }
                self.daemon_step(node, step);
            }
            Event::Systemd { node, boot, ref order } => match self.machine_waits(node, boot) {
                Wait::Never => {}
                Wait::Until(until) => self.at(until, event),
                Wait::No => self.carry_out(node, order.clone()),
            },
            Event::Lapse { node, boot, era } => match self.machine_waits(node, boot) {
                Wait::Never => {}
                Wait::Until(until) => self.at(until, event),
                Wait::No => self.lapse(node, era),
            },
            Event::Death { node, boot, ref vm, serial } => match self.machine_waits(node, boot) {
                Wait::Never => {}
                Wait::Until(until) => self.at(until, event),
                Wait::No => {
                    let gone = self.machines[node].processes.get(vm).is_some_and(|process| {
                        process.serial == serial && process.dies_at.is_some_and(|at| at <= self.now)
                    });
                    if gone {
                        self.machines[node].processes.remove(vm);
                    }
                }
            },
            Event::Suspend { node } => self.suspend(node),
            Event::Resume => {
                for vm in self.stopping.clone() {
                    self.check(&vm);
                }
            }
            Event::Boot { node } => self.boot(node),
            Event::StartDaemon { node, boot } => {
                let machine = &self.machines[node];
                if machine.up && machine.boot == boot && machine.daemon.is_none() {
                    self.start_daemon(node);
                }
            }
            Event::Reconnect { from, to } => {
                self.blocked.remove(&(from, to));
            }
            Event::Fault => self.fault(),
        }
    }

    fn daemon_waits(&mut self, node: usize) -> Option<u64> {
        let machine = &self.machines[node];
        let paused = machine.daemon.as_ref().map_or(0, |daemon| daemon.paused_until);
        let until = machine.suspended_until.max(paused);
        (until > self.now).then_some(until)
    }

    fn machine_waits(&self, node: usize, boot: u64) -> Wait {
        let machine = &self.machines[node];
        if !machine.up || machine.boot != boot {
            return Wait::Never;
        }
        if machine.suspended_until > self.now { Wait::Until(machine.suspended_until) } else { Wait::No }
    }

    /// The oracle: at most one machine executes a vm that stops in a partition.
    pub(super) fn check(&mut self, vm: &VmId) {
        if !self.stopping.contains(vm) {
            return;
        }
        let running: Vec<String> = (0..MACHINES)
            .filter(|&node| self.machines[node].executes(vm, self.now))
            .map(|node| format!("{} at {:?}", node + 1, self.machines[node].processes[vm].epoch))
            .collect();
        if running.len() > 1 {
            let at = shown(self.now);
            self.violation = Some(format!("at {at} s {vm} executes on {}", running.join(" and on ")));
        }
    }

    /// Whether every vm that should run has exactly one process, where and as it is placed.
    pub(super) fn unsettled(&self) -> Option<String> {
        let leader = self.machines.iter().filter(|machine| machine.up).find_map(|machine| {
            machine.daemon.as_ref().filter(|daemon| daemon.raft.established(&machine.disk))
        });
        let Some(leader) = leader else { return Some("there is no leader".to_owned()) };
        let state = &leader.raft.state;
        for (id, vm) in &state.vms {
            let runs: Vec<_> = (0..MACHINES)
                .filter_map(|node| Some((node, self.machines[node].processes.get(id)?.epoch)))
                .collect();
            let placed = match vm.run {
                crate::state::Run::Placed { node, epoch, .. } => Some((node_index(node), epoch)),
                crate::state::Run::Unplaced { .. } => None,
            };
            let right = if vm.wanted() { placed.is_some_and(|at| runs == [at]) } else { runs.is_empty() };
            if !right {
                return Some(format!("{id} is {:?}, and runs at {runs:?}", vm.run));
            }
        }
        None
    }
}

impl World {
    /// Where a vm executes.
    pub(super) fn host_of(&self, name: &str) -> Option<usize> {
        (0..MACHINES).find(|&node| self.machines[node].executes(&vm(name), self.now))
    }
}

enum Wait {
    No,
    Until(u64),
    Never,
}

/// An instant in seconds.
pub(super) fn shown(now: u64) -> String {
    format!("{:>6}.{:03}", now / SECOND, now % SECOND / 1000)
}

pub(super) fn node_id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

pub(super) fn node_index(node: NodeId) -> usize {
    usize::try_from(node.0).unwrap() - 1
}

pub(super) fn hello(node: usize, daemon: DaemonId) -> Command {
    let Command::OpenSession { facts, boot, .. } = session(1, 1, facts(10_000)) else { unreachable!() };
    Command::OpenSession { node: node_id(node), daemon, boot, facts }
}

pub(super) fn next_position(state: &ClusterState) -> LogPosition {
    LogPosition { term: 0, index: state.applied.index + 1 }
}
