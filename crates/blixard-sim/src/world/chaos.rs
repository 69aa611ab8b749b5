//! What goes wrong next.

use blixard_types::NodeId;

use super::World;
use crate::disk::{Keep, Trouble};
use crate::net::Link;
use crate::shape::Fault;
use crate::shared::Order;

/// The fault after which members have to be gathered.
pub(super) const MEMBERS: Fault = Fault::Members;

fn is_of_a_disk(fault: Fault) -> bool {
    matches!(fault, Fault::PowerCut | Fault::SyncsFail | Fault::Full)
}

impl World {
    /// Makes one thing go wrong.
    pub(super) fn fault(&mut self) {
        let nodes = self.shared.nodes();
        let Some(one) = self.dice.pick(&nodes) else { return };
        let others: Vec<NodeId> = nodes.iter().copied().filter(|node| *node != one).collect();
        let Some(other) = self.dice.pick(&others) else { return };
        let Some(fault) = self.draw() else { return };
        // What has no power cannot fail; a disk without trouble is found at the next start.
        if self.restarts.contains_key(&one) && is_of_a_disk(fault) {
            return;
        }
        match fault {
            Fault::CutOff => self.split(&[one]),
            Fault::Split => {
                let group: Vec<NodeId> = nodes.iter().copied().filter(|_| self.dice.chance(500)).collect();
                self.split(&group);
            }
            Fault::OneWay => self.link(one, other, "is cut", |link| link.cut = true),
            Fault::Slow => self.link(one, other, "is slow", |link| link.delay = (20, 250)),
            Fault::Lossy => self.link(one, other, "is lossy", |link| link.loses = 150),
            Fault::Heal => {
                self.event("the network is healed");
                self.shared.net.heal();
            }
            Fault::Crash => self.crash_if_up(one),
            Fault::CrashAll => nodes.iter().for_each(|node| self.crash_if_up(*node)),
            Fault::PowerCut => {
                let (writes, keep) = (self.dice.below(30), self.keep());
                self.event(&format!("the power of node {one} goes after {writes} writes"));
                self.shared.trouble(one);
                self.shared.disk(one).power_off_after(writes, keep);
            }
            Fault::SyncsFail => self.spoil(one, Trouble::SyncsFail(self.keep())),
            Fault::Full => self.spoil(one, Trouble::Full),
            Fault::HandOver => {
                self.event(&format!("node {one} is to lead"));
                for node in &nodes {
                    self.shared.order(*node, Order::HandOver(one));
                }
            }
            Fault::Members => self.other_members(&nodes),
            Fault::Daemon if self.restarts.contains_key(&one) => {}
            Fault::Daemon => self.kill_daemon(one),
            Fault::Exit => self.exit_one(one),
            Fault::Storm => {
                self.event("much is written");
                self.shared.call_for_storm();
            }
        }
    }

    /// The hypervisor of one of the node's vms exits.
    fn exit_one(&self, node: NodeId) {
        let Some(ground) = self.shared.ground(node) else { return };
        let running = ground.running();
        let which: Vec<usize> = (0..running.len()).collect();
        if let Some(run) = self.dice.pick(&which).and_then(|which| running.get(which)) {
            self.event(&format!("the hypervisor of {} on node {node} exits", run.vm));
            ground.let_exit(&run.vm);
        }
    }

    fn draw(&self) -> Option<Fault> {
        let faults = self.shared.shape.faults;
        let mut left = self.dice.below(faults.iter().map(|(_, weight)| weight).sum());
        for (fault, weight) in faults {
            if left < *weight {
                return Some(*fault);
            }
            left -= weight;
        }
        None
    }

    fn keep(&self) -> Keep {
        let number = self.dice.number();
        match self.dice.below(6) {
            0 | 1 => Keep::Nothing,
            2 | 3 => Keep::Some(number),
            4 => Keep::Torn(number),
            _ => Keep::All,
        }
    }

    fn crash_if_up(&mut self, node: NodeId) {
        if !self.restarts.contains_key(&node) {
            self.crash(node, self.keep());
        }
    }

    fn spoil(&self, node: NodeId, trouble: Trouble) {
        self.event(&format!("disk of node {node}: {trouble:?}"));
        self.shared.trouble(node);
        self.shared.disk(node).trouble(trouble);
    }

    fn link(&self, from: NodeId, to: NodeId, how: &str, change: impl FnOnce(&mut Link)) {
        self.event(&format!("the link from node {from} to node {to} {how}"));
        self.shared.net.change(from, to, change);
    }

    /// Nothing passes between these and the others.
    fn split(&self, group: &[NodeId]) {
        self.event(&format!("{group:?} are cut off"));
        for from in self.shared.nodes() {
            for to in self.shared.nodes() {
                if group.contains(&from) != group.contains(&to) {
                    self.shared.net.change(from, to, |link| link.cut = true);
                }
            }
        }
    }

    fn other_members(&self, nodes: &[NodeId]) {
        let mut wanted: Vec<NodeId> = nodes.to_vec();
        while wanted.len() > 3 && self.dice.chance(600) {
            let gone = usize::try_from(self.dice.below(wanted.len() as u64)).unwrap_or(0);
            wanted.remove(gone);
        }
        self.event(&format!("members are to be {wanted:?}"));
        for node in nodes {
            self.shared.order(*node, Order::Members(wanted.iter().copied().collect()));
        }
    }

    /// Nothing goes wrong any more.
    pub(super) fn heal_all(&mut self) {
        self.event("all is healed");
        self.shared.net.heal();
        for id in self.shared.nodes() {
            let disk = self.shared.disk(id);
            if self.shared.troubled(id) && disk.is_on() {
                // A disk in trouble, or about to lose power, is replaced by itself.
                let keep = self.keep();
                self.crash_if_up_with(id, keep);
            }
        }
    }

    fn crash_if_up_with(&mut self, node: NodeId, keep: Keep) {
        if !self.restarts.contains_key(&node) {
            self.crash(node, keep);
        }
    }
}
