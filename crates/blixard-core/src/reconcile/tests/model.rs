//! Hosts that follow the plan, servers that apply what they say, and everything between them late,
//! lost or twice. The hosts execute as `blixard-host` does; the servers' state is the real one.
//!
//! Safe at every instant: a vm has a process only on the host it is placed on. Live after healing:
//! every vm that should run runs its target at its epoch, and nothing else does.

mod host;

use blixard_types::{DaemonId, NodeId, RequestId};
use proptest::prelude::*;

use self::host::Host;
use super::super::*;
use crate::assignment::assignments_of;
use crate::command::Command;
use crate::fixture::{Cluster, daemon, definition, delete, deploy, desired, facts, place, session, spec, vm};
use crate::ports::UnixMillis;
use crate::schedule;
use crate::state::{Desired, HealthStatus, Phase, Run};

const VMS: [&str; 2] = ["web", "db"];

#[derive(Debug, Clone)]
enum Event {
    Deploy {
        vm: usize,
        runner: usize,
    },
    Desire {
        vm: usize,
        desired: Desired,
    },
    Delete {
        vm: usize,
    },
    Place {
        vm: usize,
        host: usize,
    },
    SendGrant {
        host: usize,
    },
    TakeGrant {
        host: usize,
    },
    Observe {
        host: usize,
    },
    Plan {
        host: usize,
    },
    Finish {
        host: usize,
        vm: usize,
        good: bool,
    },
    /// The message at this place arrives; its answer may be lost, and it may arrive once more.
    Deliver {
        at: usize,
        answered: bool,
        again: bool,
    },
    Lose {
        at: usize,
    },
    HangUp {
        host: usize,
    },
    RestartDaemon {
        host: usize,
        done: bool,
    },
    UnitEnds {
        host: usize,
        vm: usize,
        how: usize,
    },
    Tick {
        ms: u64,
    },
}

fn events() -> impl Strategy<Value = Event> {
    let (vm, host) = (0..VMS.len(), 0..2_usize);
    let wanted = prop_oneof![Just(Desired::Running), Just(Desired::Stopped)];
    let at = 0..6_usize;
    prop_oneof![
        2 => (vm.clone(), 0..3_usize).prop_map(|(vm, runner)| Event::Deploy { vm, runner }),
        3 => (vm.clone(), wanted).prop_map(|(vm, desired)| Event::Desire { vm, desired }),
        1 => vm.clone().prop_map(|vm| Event::Delete { vm }),
        5 => (vm.clone(), host.clone()).prop_map(|(vm, host)| Event::Place { vm, host }),
        5 => host.clone().prop_map(|host| Event::SendGrant { host }),
        5 => host.clone().prop_map(|host| Event::TakeGrant { host }),
        6 => host.clone().prop_map(|host| Event::Observe { host }),
        8 => host.clone().prop_map(|host| Event::Plan { host }),
        8 => (host.clone(), vm.clone(), prop::bool::weighted(0.8))
            .prop_map(|(host, vm, good)| Event::Finish { host, vm, good }),
        6 => (at.clone(), any::<bool>(), prop::bool::weighted(0.2))
            .prop_map(|(at, answered, again)| Event::Deliver { at, answered, again }),
        1 => at.prop_map(|at| Event::Lose { at }),
        1 => host.clone().prop_map(|host| Event::HangUp { host }),
        1 => (host.clone(), any::<bool>()).prop_map(|(host, done)| Event::RestartDaemon { host, done }),
        2 => (host, vm, 0..3_usize).prop_map(|(host, vm, how)| Event::UnitEnds { host, vm, how }),
        1 => (0..5000_u64).prop_map(|ms| Event::Tick { ms }),
    ]
}

/// What is on its way to the servers.
#[derive(Debug, Clone)]
struct Message {
    command: Command,
    request: RequestId,
}

struct World {
    cluster: Cluster,
    hosts: [Host; 2],
    wire: Vec<Message>,
    sent: u64,
    /// Reports said so far, by any daemon: each daemon's own grow, which is what counts.
    reported: u64,
    now: u64,
}

impl World {
    fn new() -> Self {
        let cluster = Cluster::with_hosts(&[(1, 10_000), (2, 10_000)]);
        Self { cluster, hosts: [Host::new(), Host::new()], wire: Vec::new(), sent: 0, reported: 0, now: 0 }
    }

    fn node(host: usize) -> u64 {
        host as u64 + 1
    }

    fn daemon(&self, host: usize) -> DaemonId {
        daemon(Self::node(host), self.hosts[host].starts)
    }

    fn send(&mut self, command: Command) {
        self.sent += 1;
        let request = RequestId((1 << 64 | u128::from(self.sent)).to_be_bytes());
        self.wire.push(Message { command, request });
    }

    fn step(&mut self, event: &Event) {
        match *event {
            Event::Deploy { vm, runner } => {
                let runner = ["a", "b", "c"][runner];
                drop(self.cluster.apply(deploy(vec![definition(VMS[vm], runner, spec(100))])));
            }
            Event::Desire { vm, desired: wanted } => drop(self.cluster.apply(desired(VMS[vm], wanted))),
            Event::Delete { vm } => drop(self.cluster.apply(delete(VMS[vm]))),
            Event::Place { vm: at, host } => {
                if let Some(of) = self.cluster.state.vms.get(&vm(VMS[at])) {
                    let epoch = of.last_epoch.next().0;
                    drop(self.cluster.apply(place(VMS[at], Self::node(host), epoch)));
                }
            }
            Event::SendGrant { host } => self.send_grant(host),
            Event::TakeGrant { host } => {
                let host = &mut self.hosts[host];
                host.held = host.mail.pop_front().or(host.held.take());
            }
            Event::Observe { host } => self.hosts[host].observe(self.now),
            Event::Plan { host } => self.plan(host),
            Event::Finish { host, vm: at, good } => self.hosts[host].finish(&vm(VMS[at]), good, self.now),
            Event::Deliver { at, answered, again } => self.deliver(at, answered, again),
            Event::Lose { at } if at < self.wire.len() => drop(self.wire.remove(at)),
            Event::Lose { .. } => {}
            Event::HangUp { host } => {
                self.hosts[host].hang_up();
                self.hello(host);
            }
            Event::RestartDaemon { host, done } => {
                self.hosts[host].restart(done);
                self.hello(host);
            }
            Event::UnitEnds { host, vm: at, how } => self.hosts[host].unit_ends(&vm(VMS[at]), how),
            Event::Tick { ms } => self.now += ms,
        }
    }

    fn hello(&mut self, host: usize) {
        self.send(session(Self::node(host), self.hosts[host].starts, facts(10_000)));
    }

    /// A grant is made for the daemon whose session is open, from the state of now.
    fn send_grant(&mut self, host: usize) {
        let node = NodeId(Self::node(host));
        let session = self.cluster.state.nodes[&node].session.as_ref().unwrap();
        if session.daemon == self.daemon(host) {
            self.hosts[host].mail.push_back(assignments_of(&self.cluster.state, node));
        }
    }

    fn plan(&mut self, host: usize) {
        let daemon = self.daemon(host);
        for (vm, epoch, report) in self.hosts[host].plan(self.now) {
            let node = NodeId(Self::node(host));
            self.reported += 1;
            let sequence = self.reported;
            self.send(Command::Report { node, daemon, sequence, vm, epoch, report });
        }
    }

    fn deliver(&mut self, at: usize, answered: bool, again: bool) {
        let Some(Message { command, request }) = self.wire.get(at).cloned() else { return };
        if again {
            // Proposed once more by someone who does not know the outcome: another call.
            self.sent += 1;
            self.wire[at].request = RequestId((1 << 64 | u128::from(self.sent)).to_be_bytes());
        } else {
            self.wire.remove(at);
        }
        let _ = self.cluster.apply_as(request, command.clone());
        if let Command::Report { node, daemon: of, vm, epoch, report, .. } = command
            && let Some(at) = (0..2).find(|at| NodeId(Self::node(*at)) == node && self.daemon(*at) == of)
            && answered
            && self.hosts[at].open.get(&vm) == Some(&(epoch, report))
        {
            let host = &mut self.hosts[at];
            let memory = host.memory.entry(vm.clone()).or_default();
            memory.work = Work::Idle;
            memory.acknowledged = host.open.remove(&vm);
        }
    }

    /// A vm has a process only where it is placed.
    fn check(&self) {
        for (at, host) in self.hosts.iter().enumerate() {
            for (vm, unit) in &host.units {
                let runs = !matches!(unit.state, UnitState::Ended { .. });
                let placed = self.cluster.state.vms.get(vm).and_then(|vm| vm.run.host());
                let here = placed == Some(NodeId(Self::node(at)));
                assert!(!runs || here, "{vm} at {:?} runs on {}, placed {placed:?}", unit.epoch, at + 1);
            }
        }
    }

    /// No more faults: everything is delivered, executed and answered.
    fn heal(&mut self) {
        for host in 0..2 {
            self.hosts[host].hang_up();
            self.hello(host);
        }
        for name in VMS {
            if self.cluster.state.vms.get(&vm(name)).is_some_and(|vm| vm.desired == Desired::Running) {
                drop(self.cluster.apply(desired(name, Desired::Running)));
            }
        }
        for _ in 0..70 {
            while !self.wire.is_empty() {
                self.deliver(0, true, false);
            }
            let plan = schedule::plan(&self.cluster.state, UnixMillis(u64::MAX));
            for decided in plan.placements {
                self.cluster.ok(place(&decided.vm.to_string(), decided.node.0, decided.epoch.0));
            }
            for host in 0..2 {
                self.replace_superseded(host);
                self.send_grant(host);
                while !self.hosts[host].mail.is_empty() {
                    self.step(&Event::TakeGrant { host });
                }
                self.hosts[host].observe(self.now);
                self.plan(host);
                for name in VMS {
                    self.hosts[host].finish(&vm(name), true, self.now);
                }
            }
            self.now += 1000;
            self.check();
        }
    }

    /// A daemon that was superseded, be it by the late hello of a dead one, ends and is started anew.
    fn replace_superseded(&mut self, host: usize) {
        let session = self.cluster.state.nodes[&NodeId(Self::node(host))].session.as_ref().unwrap();
        if session.daemon != self.daemon(host) {
            self.hosts[host].restart(true);
            self.hello(host);
        }
    }

    fn check_converged(&self) {
        for (id, of) in &self.cluster.state.vms {
            let Run::Placed { node, epoch, phase } = &of.run else {
                assert!(!of.wanted(), "{id} should run: {:?}", of.run);
                continue;
            };
            let unit = self.hosts[usize::try_from(node.0).unwrap() - 1].units.get(id);
            let unit = unit.unwrap_or_else(|| panic!("{id} has no unit: {:?}", of.run));
            assert!(of.wanted(), "{id} should not run");
            assert_eq!((unit.epoch, unit.generation), (Some(*epoch), Some(of.target)));
            let healthy = Phase::Running { generation: of.target, health: HealthStatus::Healthy };
            assert_eq!(*phase, healthy, "{id}");
        }
        let units = self.hosts.iter().map(|host| host.units.len()).sum::<usize>();
        let wanted = self.cluster.state.vms.values().filter(|vm| vm.wanted()).count();
        assert_eq!(units, wanted, "what is not assigned is gone");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn a_vm_runs_only_where_it_is_placed_and_in_the_end_it_does(
        events in prop::collection::vec(events(), 1..250),
    ) {
        let mut world = World::new();
        for name in VMS {
            world.cluster.deploy(name, "a", spec(100));
        }
        for event in &events {
            world.step(event);
            world.check();
        }
        world.heal();
        world.check_converged();
    }
}

#[test]
fn an_order_to_run_that_overtakes_a_late_stop_does_not_start_what_may_run_elsewhere() {
    let mut world = World::new();
    world.cluster.deploy("web", "a", spec(100));
    let here = |world: &mut World| {
        for event in [
            Event::SendGrant { host: 0 },
            Event::TakeGrant { host: 0 },
            Event::Observe { host: 0 },
            Event::Plan { host: 0 },
            Event::Finish { host: 0, vm: 0, good: true },
            Event::Observe { host: 0 },
            Event::Plan { host: 0 },
            Event::Finish { host: 0, vm: 0, good: true },
        ] {
            world.step(&event);
            world.check();
        }
    };
    world.step(&Event::Place { vm: 0, host: 0 });
    world.step(&Event::Desire { vm: 0, desired: Desired::Stopped });
    here(&mut world);
    let said =
        |message: &Message| matches!(message.command, Command::Report { report: VmReport::Stopped, .. });
    assert_eq!(world.wire.iter().filter(|message| said(message)).count(), 1);
    // The stream breaks with the report on its way; the same daemon comes back and is told to run it.
    world.step(&Event::HangUp { host: 0 });
    world.step(&Event::Desire { vm: 0, desired: Desired::Running });
    here(&mut world);
    // What it says now is heard at once, what it said before is heard at last.
    while world.wire.len() > 1 {
        world.deliver(1, true, false);
        here(&mut world);
    }
    while !world.wire.is_empty() {
        world.deliver(0, false, false);
    }
    world.step(&Event::Place { vm: 0, host: 1 });
    world.check();
    assert_eq!(world.cluster.vm("web").run.host(), Some(NodeId(2)));
}
