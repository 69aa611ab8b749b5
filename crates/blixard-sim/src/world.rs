//! One run: a cluster is formed, things go wrong, all is healed, and then it has to work.
//!
//! ```text
//! Forming ─► Chaos ─► Healed ─► Quiet ─► checked
//!               (faults)   (something is written)  (all agree)
//! ```
//!
//! turmoil gives each node a host with a runtime and a clock of its own, in this thread; a crash drops
//! the runtime with all that runs on it. Time passes as fast as it can be computed.

mod chaos;
mod checks;
mod hosts;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use blixard_core::ports::consensus::Consensus as _;
use blixard_types::NodeId;
use turmoil::Sim;

use crate::audit::Violation;
use crate::dice::Dice;
use crate::disk::{Keep, Trouble};
use crate::ground::Ground;
use crate::mistakes;
use crate::node;
use crate::people::{self, PEOPLE};
use crate::server;
use crate::server::watcher::{self, WATCHERS};
use crate::shape::{BrokenRule, Shape};
use crate::shared::{Order, Phase, Shared, Status};

/// How far a host goes before the next has its turn.
const TICK: Duration = Duration::from_millis(2);
/// How long forming, and each step after the chaos, may take in simulated time.
const LIMIT: Duration = Duration::from_secs(30);

/// How long a machine stays on that is no member any more.
const RETIRED_AFTER: Duration = Duration::from_secs(4);

/// What a run has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// The shape's name.
    pub shape: &'static str,
    /// The seed.
    pub seed: u64,
    /// The promises that were broken.
    pub violations: Vec<Violation>,
    /// What happened, in order.
    pub events: Vec<String>,
    /// How many messages arrived, and a digest of what and when.
    pub digest: (u64, u64),
    /// How many writes were acknowledged.
    pub acknowledged: usize,
    /// In how many terms somebody led.
    pub terms: usize,
    /// How often a node went down.
    pub crashes: u64,
    /// How often watchers went on at some server.
    pub resumed: u64,
    /// How often one of them had fallen too far behind.
    pub compacted: u64,
    /// How often a vm's program was executed.
    pub executions: u64,
    /// How often a host was given up.
    pub hosts_lost: usize,
    /// How many wishes of people were granted.
    pub wishes: u64,
    /// How long it took, in simulated time.
    pub elapsed: Duration,
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            out,
            "{} seed {}: {} writes acknowledged, {} terms led, {} crashes, {} messages, {:.1} s",
            self.shape,
            self.seed,
            self.acknowledged,
            self.terms,
            self.crashes,
            self.digest.0,
            self.elapsed.as_secs_f64()
        )?;
        if self.compacted > 0 {
            write!(out, ", {} watchers had to list", self.compacted)?;
        }
        if self.executions > 0 {
            let Self { executions, hosts_lost, wishes, .. } = self;
            write!(out, ", {executions} starts of vms, {hosts_lost} hosts lost, {wishes} wishes granted")?;
        }
        Ok(())
    }
}

impl Report {
    /// How to see this again.
    pub fn repro(&self) -> String {
        format!("cargo xtask sim --shape {} --seed {}", self.shape, self.seed)
    }
}

/// Runs a shape with a seed.
pub fn run(shape: &Shape, seed: u64) -> Report {
    blixard_raft::draw_from_seed(seed);
    let shared = Shared::new(shape.clone(), seed);
    let mut world = World::new(shared.clone(), seed);
    world.form();
    if shared.audit.violations().is_empty() {
        world.chaos();
        world.settle();
    }
    Report {
        shape: shape.name,
        seed,
        violations: shared.audit.violations(),
        events: shared.events(),
        digest: shared.net.digest(),
        acknowledged: shared.history.acknowledged().len(),
        terms: shared.audit.terms(),
        crashes: world.crashes,
        resumed: shared.told.resumed(),
        compacted: shared.told.compacted(),
        executions: shared.executions.count(),
        hosts_lost: shared.chronicle.count("node-lost"),
        wishes: shared.people.granted(),
        elapsed: world.sim.elapsed(),
    }
}

struct World {
    sim: Sim<'static>,
    shared: Shared,
    dice: Dice,
    /// When nodes that are down start again.
    restarts: BTreeMap<NodeId, Duration>,
    /// When nodes that were removed are switched off.
    retired: BTreeMap<NodeId, Duration>,
    crashes: u64,
}

fn host(node: NodeId) -> String {
    format!("node-{node}")
}

impl World {
    fn new(shared: Shared, seed: u64) -> Self {
        let mut builder = turmoil::Builder::new();
        // The driver says when it ends.
        builder.rng_seed(seed).tick_duration(TICK).simulation_duration(Duration::from_hours(24));
        let mut sim = builder.build();
        for id in shared.nodes() {
            shared.disk(id).power_on();
            let shared = shared.clone();
            sim.host(host(id), move || node::run(shared.clone(), id));
        }
        if shared.shape.program.hosts() {
            let shared = shared.clone();
            sim.host("people", move || people::run(shared.clone(), PEOPLE));
        }
        if shared.shape.program.serves() {
            for watcher in WATCHERS {
                let shared = shared.clone();
                sim.host(format!("watcher-{watcher}"), move || watcher::run(shared.clone(), watcher));
            }
        }
        let dice = shared.dice.fork();
        Self { sim, shared, dice, restarts: BTreeMap::new(), retired: BTreeMap::new(), crashes: 0 }
    }

    /// Everybody goes on for a moment, and what has to be restarted is.
    fn step(&mut self) {
        if let Err(error) = self.sim.step() {
            let waiting_for = format!("the simulation itself failed: {error}");
            self.shared.audit.violate(Violation::Stuck { waiting_for });
        }
        let now = self.sim.elapsed();
        self.shared.time.set(now);
        self.machines();
        for (_, replica) in checks::replicas(&self.shared) {
            self.shared.chronicle.look(&replica);
        }
        for id in self.shared.nodes() {
            if self.restarts.contains_key(&id) {
                continue;
            }
            let failed = self.shared.status(id, |status| matches!(status, Status::Failed));
            if !self.shared.disk(id).is_on() {
                self.crash(id, Keep::Some(self.dice.number()));
            } else if failed && self.shared.shape.program.hosts() {
                self.kill_daemon(id);
            } else if failed {
                self.crash(id, Keep::Some(self.dice.number()));
            }
        }
        let due: Vec<NodeId> =
            self.restarts.iter().filter(|(_, at)| **at <= now).map(|(id, _)| *id).collect();
        for id in due {
            self.start(id);
        }
        self.retire();
    }

    /// A machine that was removed is switched off, a while later.
    fn retire(&mut self) {
        if self.shared.shape.spare == 0 {
            return;
        }
        for id in self.shared.chronicle.removed() {
            let now = self.sim.elapsed();
            if *self.retired.entry(id).or_insert(now + RETIRED_AFTER) <= now
                && self.restarts.insert(id, Duration::MAX) != Some(Duration::MAX)
            {
                self.event(&format!("node {id} is switched off for ever"));
                self.down(id, Keep::All);
                self.restarts.insert(id, Duration::MAX);
                self.shared.ground(id).iter().for_each(Ground::reboot);
            }
        }
    }

    /// The machines below the nodes do what is due there.
    fn machines(&self) {
        for (&id, ground) in self.shared.grounds.iter() {
            for run in ground.step() {
                let (vm, epoch, generation) = (&run.vm, run.epoch, run.generation);
                self.event(&format!("node {id} executes {vm}, epoch {epoch}, generation {generation}"));
                self.shared.executions.begun(id, &run, &self.shared.grounds, &self.shared.audit);
            }
        }
    }

    /// Steps until this holds; a violation if it does not within the limit.
    fn until(&mut self, waiting_for: &str, holds: impl Fn(&Shared) -> bool) -> bool {
        let limit = self.sim.elapsed() + LIMIT;
        while self.sim.elapsed() < limit {
            self.step();
            if holds(&self.shared) {
                return true;
            }
        }
        let waiting_for = format!("{waiting_for}{}", hosts::trouble(&self.shared));
        self.event(&format!("stuck: {waiting_for}"));
        self.shared.audit.violate(Violation::Stuck { waiting_for });
        false
    }

    fn event(&self, what: &str) {
        self.shared.event(&format!("{:.3} {what}", self.sim.elapsed().as_secs_f64()));
    }

    /// The first node forms the cluster and adds the others.
    fn form(&mut self) {
        let voters = (1..=self.shared.shape.voters).map(NodeId).collect();
        let first = NodeId(1);
        self.until("the first node leads", |shared| {
            shared.up().iter().any(|(id, node, _)| *id == first && node.standing().leads())
        });
        // Where there are duties of a leader, one of them is to add the others.
        if !self.shared.shape.program.hosts() {
            self.shared.order(first, Order::Members(voters));
        }
        let wanted: Vec<NodeId> = (1..=self.shared.shape.voters).map(NodeId).collect();
        self.until("the cluster is formed", |shared| {
            let up = shared.up();
            let formed = up.iter().filter(|(_, node, _)| node.standing().voters == wanted).count();
            formed as u64 == shared.shape.voters
        });
        self.until("the servers have a state", |shared| {
            let servers = shared.founders().len();
            let replicas = checks::replicas(shared);
            replicas.iter().all(|(_, replica)| replica.read(|state| server::is_prepared(state, servers)))
        });
        if self.shared.shape.program.hosts() {
            self.shared.people.begin();
            self.until("every vm runs", |shared| {
                shared.people.has_deployed() && hosts::settled(shared).is_ok()
            });
        }
    }

    fn crash(&mut self, id: NodeId, keep: Keep) {
        self.event(&format!("node {id} crashes, its disk keeps {keep:?}"));
        self.down(id, keep);
        if let Some(ground) = self.shared.ground(id) {
            ground.reboot();
        }
    }

    /// The daemon dies, and all that the machine has stays as it is.
    fn kill_daemon(&mut self, id: NodeId) {
        self.event(&format!("the daemon of node {id} is killed"));
        self.down(id, Keep::All);
    }

    fn down(&mut self, id: NodeId, keep: Keep) {
        self.crashes += 1;
        self.shared.disk(id).power_off(keep);
        self.shared.net.unplug(id);
        self.shared.set_status(id, Status::Down);
        self.sim.crash(host(id));
        // Hosts now and then stay away for longer than they are waited for.
        let long = self.shared.shape.program.hosts() && self.dice.chance(350);
        let after = if long { self.dice.millis(2500, 9000) } else { self.dice.millis(20, 1500) };
        self.restarts.insert(id, self.sim.elapsed() + after);
    }

    fn start(&mut self, id: NodeId) {
        self.restarts.remove(&id);
        let disk = self.shared.disk(id);
        disk.power_on();
        self.shared.untroubled(id);
        match self.shared.shape.broken {
            Some(BrokenRule::AcknowledgesBeforeSync) => disk.trouble(Trouble::Lies),
            Some(BrokenRule::ForgetsItsVote) => mistakes::forget_the_vote(&disk),
            Some(_) | None => {}
        }
        self.event(&format!("node {id} starts"));
        self.sim.bounce(host(id));
    }

    /// Things go wrong for a while.
    fn chaos(&mut self) {
        if self.shared.shape.broken == Some(BrokenRule::AcknowledgesBeforeSync) {
            for id in self.shared.nodes() {
                self.shared.disk(id).trouble(Trouble::Lies);
            }
        }
        self.shared.enter(Phase::Chaos);
        let end = self.sim.elapsed() + self.shared.shape.chaos;
        let mut next = self.sim.elapsed();
        while self.sim.elapsed() < end {
            self.step();
            if self.sim.elapsed() >= next {
                let (least, most) = self.shared.shape.pause;
                next = self.sim.elapsed() + self.dice.millis(least, most);
                self.fault();
            }
        }
    }

    /// All is healed, and the cluster has to work.
    fn settle(&mut self) {
        self.heal_all();
        self.shared.enter(Phase::Healed);
        let acknowledged =
            |shared: &Shared| shared.history.acknowledged().len() as u64 + shared.people.granted();
        let before = acknowledged(&self.shared);
        let written = self.until("a write is acknowledged", |shared| acknowledged(shared) > before);
        if written {
            if self.shared.shape.faults.iter().any(|(fault, _)| *fault == chaos::MEMBERS) {
                self.gather();
            }
            if self.shared.shape.program.hosts() {
                self.until("people are heard", |shared| shared.people.is_done());
                self.until("every vm runs once, where it should", |shared| hosts::settled(shared).is_ok());
            }
            self.shared.enter(Phase::Quiet);
            self.until("all nodes agree", checks::agree);
            self.until("the watchers know", checks::watchers_know);
        }
        checks::at_the_end(&self.shared);
    }

    /// All nodes become members.
    fn gather(&mut self) {
        let wanted = self.shared.nodes();
        let deadline = self.sim.elapsed() + LIMIT;
        let mut asked = self.sim.elapsed();
        while self.sim.elapsed() < deadline {
            self.step();
            if self.shared.up().iter().filter(|(_, node, _)| node.standing().voters == wanted).count()
                == wanted.len()
            {
                return;
            }
            if self.sim.elapsed() >= asked {
                asked += Duration::from_secs(1);
                for id in self.shared.nodes() {
                    self.shared.order(id, Order::Members(wanted.iter().copied().collect()));
                }
            }
        }
        let waiting_for = "all nodes are members".to_owned();
        self.shared.audit.violate(Violation::Stuck { waiting_for });
    }
}
