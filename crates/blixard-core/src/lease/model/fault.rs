//! What goes wrong, and what people do meanwhile.

use blixard_types::{Incarnation, NodeId};

use super::Flaw;
use super::event::Event;
use super::machine::MachineClock;
use super::raft::{Base, Disk, Payload, Raft};
use super::world::{MACHINES, SECOND, VMS, Weather, World, next_position, node_id};
use crate::command::{Command, FenceCommand};
use crate::fixture::{desired, register, restart};
use crate::lease::Profile;
use crate::state::{ClusterState, Desired, Fence, Role};

/// The longest pause of a whole machine that the times allow for, as a hypervisor below it may make one:
/// W − L − G of the fast profile, less what clocks may be off, in microseconds.
const SUSPEND_MOST: u64 = 240_000;
/// The same, where no run of the fast profile is to come, and the kernel keeps to half of G.
const SUSPEND_MOST_DEFAULT: u64 = 780_000;
/// Between two of them everything that was to be killed is gone.
const SUSPEND_REST: u64 = 1_300_000;

/// Kinds of faults; two numbers make one twice as likely.
const FAULTS: u64 = 17;
/// The one that changes how long leases last.
const CHANGE_TIMES: u64 = 13;

/// Some of them, as bits.
pub(super) const PAUSES: u64 = 1 << 3 | 1 << 4;
pub(super) const CUTS_ENDS_AND_ORDERS: u64 = 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 10 | 1 << 11;

impl World {
    pub(super) fn fault(&mut self) {
        if self.weather != Weather::Storm {
            return;
        }
        let next = self.rng.range(SECOND / 10, 3 * SECOND);
        self.at(self.now + next, Event::Fault);
        let node = self.rng.pick(MACHINES);
        let kind = self.rng.below(FAULTS);
        if self.faults & 1 << kind == 0 {
            return;
        }
        match kind {
            0 | 1 => self.isolate(node),
            2 => self.block_one_way(node),
            3 | 4 => self.pause(node),
            5 | 6 => self.crash_daemon(node),
            7 => self.crash(node),
            8 => self.suspend_often(node),
            9 => self.end_holder(node),
            10 | 11 => self.order_something(),
            12 => self.change_voters(),
            CHANGE_TIMES => self.change_times(),
            14 => {
                let declare = FenceCommand::DeclareLost { node: node_id(node) };
                self.call(Command::Fence(declare));
            }
            15 => self.back_up(node),
            _ if self.rng.one_in(2) => self.restore(node),
            _ => {}
        }
    }

    fn call(&mut self, command: Command) {
        let server = self.rng.pick(MACHINES);
        self.propose_at(self.now, server, command);
    }

    fn block(&mut self, from: usize, to: usize, until: u64) {
        self.blocked.insert((from, to));
        self.at(until, Event::Reconnect { from, to });
    }

    fn isolate(&mut self, node: usize) {
        let until = self.now + self.rng.spread(30 * SECOND);
        for other in (0..MACHINES).filter(|&other| other != node) {
            self.block(node, other, until);
            self.block(other, node, until);
        }
    }

    fn block_one_way(&mut self, node: usize) {
        let (to, until) = (self.rng.pick(MACHINES), self.now + self.rng.spread(25 * SECOND));
        if to != node {
            self.block(node, to, until);
        }
    }

    fn pause(&mut self, node: usize) {
        let until = self.now + self.rng.spread(60 * SECOND);
        if let Some(daemon) = &mut self.machines[node].daemon {
            daemon.paused_until = until;
        }
    }

    pub(super) fn crash_daemon(&mut self, node: usize) {
        let pause = self.rng.spread(20 * SECOND);
        self.restart_daemon(node, pause);
    }

    pub(super) fn restart_daemon(&mut self, node: usize, pause: u64) {
        let machine = &mut self.machines[node];
        let boot = machine.boot;
        if machine.daemon.take().is_some() {
            self.at(self.now + pause, Event::StartDaemon { node, boot });
        }
    }

    fn crash(&mut self, node: usize) {
        let down = self.rng.spread(30 * SECOND).max(300_000);
        let machine = &mut self.machines[node];
        if !machine.up {
            return;
        }
        (machine.up, machine.daemon, machine.holder, machine.bound) = (false, None, None, false);
        machine.processes.clear();
        machine.over.clear();
        self.say(|| format!("{} crashes", node + 1));
        self.at(self.now + down, Event::Boot { node });
    }

    pub(super) fn boot(&mut self, node: usize) {
        let (shows, rate) = (self.rng.below(1_000_000), self.rate());
        let delay = self.rng.spread(5 * SECOND);
        let machine = &mut self.machines[node];
        if machine.up {
            return;
        }
        (machine.up, machine.boot, machine.suspended_until) = (true, machine.boot + 1, 0);
        machine.clock = MachineClock::new(self.now, shows, rate);
        let boot = machine.boot;
        self.at(self.now + delay, Event::StartDaemon { node, boot });
    }

    fn suspend_often(&mut self, node: usize) {
        let mut when = self.now;
        for _ in 0..self.rng.range(1, 12) {
            self.at(when, Event::Suspend { node });
            when += SUSPEND_MOST_DEFAULT + SUSPEND_REST;
        }
    }

    pub(super) fn suspend(&mut self, node: usize) {
        let machine = &mut self.machines[node];
        if !machine.up || machine.suspended_until + SUSPEND_REST > self.now && machine.suspended_until > 0 {
            return;
        }
        let fast = self.faults & 1 << CHANGE_TIMES != 0;
        let most = if fast { SUSPEND_MOST } else { SUSPEND_MOST_DEFAULT };
        machine.suspended_until = self.now + most;
        if self.flaw == Some(Flaw::Monotonic) {
            machine.clock.stand_still(most);
        }
        self.at(self.now + most, Event::Resume);
    }

    fn order_something(&mut self) {
        let name = VMS[self.rng.pick(VMS.len())];
        let command = match self.rng.below(4) {
            0 => desired(name, Desired::Stopped),
            1 | 2 => desired(name, Desired::Running),
            _ => restart(name),
        };
        self.call(command);
        if self.rng.one_in(2) {
            let later = self.now + self.rng.spread(10 * SECOND);
            let server = self.rng.pick(MACHINES);
            self.propose_at(later, server, desired(name, Desired::Running));
        }
    }

    fn change_voters(&mut self) {
        let change = self.rng.pick(MACHINES);
        let leads = |node: &usize| {
            let machine = &self.machines[*node];
            machine.daemon.as_ref().is_some_and(|daemon| daemon.raft.may_change_voters(&machine.disk))
        };
        let Some(leader) = (0..MACHINES).find(leads).filter(|&leader| leader != change) else { return };
        let mut voters = self.machines[leader].disk.voters().clone();
        if !voters.remove(&change) {
            voters.insert(change);
        }
        if voters.len() < 2 {
            return;
        }
        self.note("voters changed");
        let machine = &mut self.machines[leader];
        let raft = &mut machine.daemon.as_mut().unwrap().raft;
        raft.append(leader, &mut machine.disk, Payload::Voters(voters));
    }

    fn change_times(&mut self) {
        let profile = [Profile::Fast, Profile::Default][self.rng.pick(2)];
        self.call(Command::Fence(FenceCommand::SetLeaseTimes { times: profile.times() }));
    }

    fn back_up(&mut self, node: usize) {
        if let Some(daemon) = &self.machines[node].daemon {
            self.backup = daemon.raft.state.clone();
        }
    }

    /// The servers end, and begin anew from a backup, or from what one of them has applied. Their peers'
    /// certificates are revoked; a host that is no server goes on and speaks to whom it finds.
    fn restore(&mut self, node: usize) {
        let present = self.machines[node].daemon.as_ref().map(|daemon| daemon.raft.state.clone());
        let recovered = present.filter(|_| self.rng.one_in(2));
        let state = recovered.unwrap_or_else(|| self.backup.clone());
        if !self.may_be_restored(&state) {
            return;
        }
        self.lineage += 1;
        let state = self.new_incarnation(state);
        let voters = if self.rng.one_in(2) { [node].into() } else { (0..MACHINES - 1).collect() };
        let base = Base { lineage: self.lineage, state, voters };
        self.note("restored");
        self.say(|| format!("restored with {:?}", base.voters));
        for at in 0..MACHINES {
            let was = self.machines[at].disk.voters().contains(&at) || base.voters.contains(&at);
            let machine = &mut self.machines[at];
            machine.disk = Disk::new(base.clone(), 0);
            if was {
                self.crash_daemon(at);
            } else if let Some(daemon) = &mut machine.daemon {
                daemon.raft = Raft::new(&machine.disk);
                daemon.leading = None;
                self.arm_election(at);
            }
        }
    }

    /// What a restore is trusted with: whoever runs something without a deadline is known to.
    fn may_be_restored(&self, state: &ClusterState) -> bool {
        self.machines.iter().enumerate().all(|(at, machine)| {
            let lasts = machine.processes.values().any(|process| process.dies_at.is_none());
            let endless = machine.holder.is_none_or(|holder| holder.deadline.is_none());
            let granted = machine.daemon.as_ref().is_some_and(|daemon| daemon.agent.is_endless());
            let fence = state.nodes.get(&node_id(at)).map(|node| node.fence);
            !(lasts && endless || granted) || fence.is_some_and(|fence| fence != Fence::Armed)
        })
    }

    fn new_incarnation(&mut self, mut state: ClusterState) -> ClusterState {
        if self.flaw == Some(Flaw::SameIncarnation) {
            return state;
        }
        let incarnation = Incarnation(state.incarnation().0.max(self.lineage) + 1);
        let command = Command::Fence(FenceCommand::BeginIncarnation { incarnation, survivor: None });
        let position = next_position(&state);
        state.apply(&self.envelope(command), position).unwrap();
        state
    }

    /// Nothing goes wrong any more, and everything that is down comes up.
    pub(super) fn heal(&mut self) {
        self.weather = Weather::Calm;
        self.blocked.clear();
        for node in 0..MACHINES {
            self.boot(node);
            let machine = &mut self.machines[node];
            machine.suspended_until = machine.suspended_until.min(self.now);
            let boot = machine.boot;
            match &mut machine.daemon {
                Some(daemon) => daemon.paused_until = self.now,
                None => self.at(self.now + SECOND, Event::StartDaemon { node, boot }),
            }
        }
        // A backup may be from before they were there; who is no server may know no leader.
        for server in 0..MACHINES {
            for node in 1..MACHINES {
                let joins = register(node as u64 + 1, &[Role::Host]);
                self.propose_at(self.now + 65 * SECOND, server, joins);
            }
            for name in VMS {
                self.propose_at(self.now + 70 * SECOND, server, desired(name, Desired::Running));
            }
        }
    }

    /// Every daemon of a server stands still at once.
    pub(super) fn stall_servers(&mut self, us: u64) {
        let until = self.now + us;
        for machine in self.machines.iter_mut().take(MACHINES - 1) {
            if let Some(daemon) = &mut machine.daemon {
                daemon.paused_until = until;
            }
        }
    }

    pub(super) fn leader(&self) -> Option<NodeId> {
        let leads = |node: &usize| {
            let machine = &self.machines[*node];
            machine.daemon.as_ref().is_some_and(|daemon| daemon.raft.established(&machine.disk))
        };
        (0..MACHINES).find(leads).map(node_id)
    }
}
