//! What the nodes of one simulation and its driver share. All of it is in one thread.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use blixard_raft::{Pace, RaftNode};
use blixard_server::Replica;
use blixard_types::NodeId;
use tokio::sync::mpsc;

use crate::audit::Audit;
use crate::chronicle::Chronicle;
use crate::dice::Dice;
use crate::disk::Disk;
use crate::executions::Executions;
use crate::ground::{Ground, Now};
use crate::history::History;
use crate::net::Net;
use crate::people::Progress;
use crate::registers::Registers;
use crate::server::watcher::Told;
use crate::shape::Shape;

/// What a run is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd)]
pub(crate) enum Phase {
    /// The cluster is being formed.
    Forming,
    /// Things go wrong.
    Chaos,
    /// Nothing goes wrong any more; clients go on.
    Healed,
    /// Clients have stopped.
    Quiet,
}

/// How a node is.
pub(crate) enum Status {
    Starting,
    Up {
        node: RaftNode,
        machine: Machine,
        orders: mpsc::UnboundedSender<Order>,
    },
    /// It has stopped by itself, or did not start.
    Failed,
    Down,
}

/// What a node's log makes.
#[derive(Clone)]
pub(crate) enum Machine {
    Registers(Arc<Registers>),
    Server(Arc<Replica>),
}

/// What an operator asks of a node.
#[derive(Debug, Clone)]
pub(crate) enum Order {
    /// Hand the leadership over, if it leads.
    HandOver(NodeId),
    /// Make these the members, if it leads.
    Members(BTreeSet<NodeId>),
}

/// Clones are the same.
#[derive(Clone)]
pub(crate) struct Shared {
    pub(crate) shape: Shape,
    pub(crate) dice: Dice,
    pub(crate) net: Net,
    pub(crate) audit: Audit,
    pub(crate) history: History,
    pub(crate) told: Told,
    pub(crate) chronicle: Chronicle,
    storms: Arc<AtomicU64>,
    pub(crate) disks: Arc<BTreeMap<NodeId, Disk>>,
    /// The machines of hosts, if nodes are some.
    pub(crate) grounds: Arc<BTreeMap<NodeId, Ground>>,
    pub(crate) executions: Executions,
    pub(crate) people: Progress,
    pub(crate) time: Now,
    values: Arc<AtomicU64>,
    inner: Arc<Mutex<Inner>>,
}

struct Inner {
    phase: Phase,
    statuses: BTreeMap<NodeId, Status>,
    /// Disks that something was done to since their node started.
    troubled: BTreeSet<NodeId>,
    events: Vec<String>,
}

impl Shared {
    pub(crate) fn new(shape: Shape, seed: u64) -> Self {
        let dice = Dice::new(seed);
        let nodes = (1..=shape.nodes).map(NodeId);
        let (time, net) = (Now::default(), Net::new(dice.fork()));
        let grounds = if shape.program.hosts() { grounds(&shape, &time, &dice) } else { BTreeMap::new() };
        let inner = Inner {
            phase: Phase::Forming,
            statuses: BTreeMap::new(),
            troubled: BTreeSet::new(),
            events: Vec::new(),
        };
        Self {
            shape,
            net,
            dice,
            audit: Audit::default(),
            history: History::default(),
            told: Told::default(),
            chronicle: Chronicle::default(),
            storms: Arc::default(),
            disks: Arc::new(nodes.map(|node| (node, Disk::default())).collect()),
            grounds: Arc::new(grounds),
            executions: Executions::default(),
            people: Progress::default(),
            time,
            values: Arc::default(),
            inner: Arc::new(Mutex::new(inner)),
        }
    }

    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        self.disks.keys().copied().collect()
    }

    /// Those that are there from the beginning.
    pub(crate) fn founders(&self) -> Vec<NodeId> {
        let founders = self.shape.nodes - self.shape.spare;
        self.nodes().into_iter().filter(|node| node.0 <= founders).collect()
    }

    /// Those that are members in the end, or are not yet known to be none.
    pub(crate) fn remaining(&self) -> Vec<NodeId> {
        let removed = self.chronicle.removed();
        self.nodes().into_iter().filter(|node| !removed.contains(node)).collect()
    }

    pub(crate) fn disk(&self, node: NodeId) -> Disk {
        self.disks.get(&node).cloned().unwrap_or_default()
    }

    pub(crate) fn ground(&self, node: NodeId) -> Option<Ground> {
        self.grounds.get(&node).cloned()
    }

    pub(crate) fn phase(&self) -> Phase {
        self.lock().phase
    }

    pub(crate) fn enter(&self, phase: Phase) {
        self.event(&format!("{phase:?}"));
        self.lock().phase = phase;
    }

    pub(crate) fn status<T>(&self, node: NodeId, look: impl FnOnce(&Status) -> T) -> T {
        look(self.lock().statuses.get(&node).unwrap_or(&Status::Down))
    }

    pub(crate) fn set_status(&self, node: NodeId, status: Status) {
        self.lock().statuses.insert(node, status);
    }

    /// The nodes that are up.
    pub(crate) fn up(&self) -> Vec<(NodeId, RaftNode, Machine)> {
        let up = |(id, status): (&NodeId, &Status)| match status {
            Status::Up { node, machine, .. } => Some((*id, node.clone(), machine.clone())),
            _ => None,
        };
        self.lock().statuses.iter().filter_map(up).collect()
    }

    pub(crate) fn order(&self, to: NodeId, order: Order) {
        if let Some(Status::Up { orders, .. }) = self.lock().statuses.get(&to) {
            // A node that has just stopped takes no orders.
            drop(orders.send(order));
        }
    }

    pub(crate) fn trouble(&self, node: NodeId) {
        self.lock().troubled.insert(node);
    }

    pub(crate) fn troubled(&self, node: NodeId) -> bool {
        self.lock().troubled.contains(&node)
    }

    pub(crate) fn untroubled(&self, node: NodeId) {
        self.lock().troubled.remove(&node);
    }

    /// Somebody is to write much.
    pub(crate) fn call_for_storm(&self) {
        self.storms.store(1, Ordering::Relaxed);
    }

    /// Whether that is who asks.
    pub(crate) fn take_storm(&self) -> bool {
        self.storms.swap(0, Ordering::Relaxed) > 0
    }

    /// A value that was never written.
    pub(crate) fn fresh_value(&self) -> u64 {
        self.values.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Notes what happened, with the time.
    pub(crate) fn event(&self, what: &str) {
        let at = turmoil::sim_elapsed().map_or_else(String::new, |at| format!("{:.3} ", at.as_secs_f64()));
        self.lock().events.push(format!("{at}{what}"));
    }

    pub(crate) fn events(&self) -> Vec<String> {
        self.lock().events.clone()
    }

    /// How long a disk takes.
    pub(crate) fn pace(&self) -> Arc<dyn Pace> {
        Arc::new(DiskPace(self.dice.fork()))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn grounds(shape: &Shape, now: &Now, dice: &Dice) -> BTreeMap<NodeId, Ground> {
    // A machine without a folder for its files runs nothing, which is noticed.
    let ground = |node| Some((NodeId(node), Ground::new(now.clone(), dice.fork(), shape.broken).ok()?));
    (1..=shape.nodes).filter_map(ground).collect()
}

#[derive(Debug)]
struct DiskPace(Dice);

impl Pace for DiskPace {
    /// A disk that is mostly quick.
    fn next(&self) -> Duration {
        if self.0.chance(20) { self.0.millis(20, 120) } else { self.0.millis(0, 6) }
    }
}
