//! A few nodes in one process, on a hub and on disks in memory.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::consensus::{Consensus as _, ProposeError, Standing};
use blixard_core::ports::members::Membership as _;
use blixard_testkit::fake::peers::PeerHub;
use blixard_types::NodeId;
use futures_util::StreamExt as _;
use futures_util::stream::select_all;
use tempfile::TempDir;

use super::{Disk, Keep, Recorder, until};
use crate::{ElectionTiming, Peer, RaftNode, RaftOptions};

/// Long enough for a busy machine: a test that counts terms must not see an election without a reason.
const TIMING: ElectionTiming = ElectionTiming {
    heartbeat: Duration::from_millis(50),
    timeout_min: Duration::from_millis(400),
    timeout_max: Duration::from_millis(800),
};

/// Nodes, numbered from 1.
pub(crate) struct Cluster {
    pub(crate) hub: PeerHub,
    nodes: BTreeMap<u64, Running>,
    change: fn(&mut RaftOptions),
}

struct Running {
    node: RaftNode,
    machine: Arc<Recorder>,
    disk: Disk,
    directory: Arc<TempDir>,
}

impl Cluster {
    /// Three voters, the first of which leads.
    pub(crate) async fn of_three() -> Self {
        Self::with(|_| ()).await
    }

    /// The same with other options.
    pub(crate) async fn with(change: fn(&mut RaftOptions)) -> Self {
        let mut cluster = Self { hub: PeerHub::default(), nodes: BTreeMap::new(), change };
        for number in 1..=3 {
            cluster.start_new(number).await;
        }
        let first = cluster.node(1);
        first.form().await.unwrap();
        until(first, Standing::leads).await;
        for number in 2..=3 {
            first
                .add_learner(NodeId(number), format!("node {number}"), format!("at {number}"))
                .await
                .unwrap();
            first.caught_up(NodeId(number), 0).await.unwrap();
        }
        first.set_voters(voters([1, 2, 3])).await.unwrap();
        for number in 1..=3 {
            until(cluster.node(number), |standing| standing.voters.len() == 3).await;
        }
        cluster
    }

    /// Starts a node that knows nothing.
    pub(crate) async fn start_new(&mut self, number: u64) {
        self.start(number, Disk::new(), Arc::new(tempfile::tempdir().unwrap())).await;
    }

    async fn start(&mut self, number: u64, disk: Disk, directory: Arc<TempDir>) {
        let node = NodeId(number);
        let mut options = RaftOptions::new(node, directory.path());
        options.peer = Peer { name: format!("node {number}"), address: format!("at {number}") };
        options.transport = self.hub.transport(node);
        options.elections = TIMING;
        (self.change)(&mut options);
        let machine = Recorder::new();
        let opened =
            RaftNode::open_on(options, Arc::clone(&machine) as _, Box::new(disk.clone())).await.unwrap();
        self.hub.plug(node, Arc::new(opened.clone()));
        self.nodes.insert(number, Running { node: opened, machine, disk, directory });
    }

    pub(crate) fn node(&self, number: u64) -> &RaftNode {
        &self.nodes[&number].node
    }

    pub(crate) fn machine(&self, number: u64) -> &Recorder {
        &self.nodes[&number].machine
    }

    pub(crate) fn numbers(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    /// Kills a node: what its disk has not synced is gone, or some of it.
    pub(crate) async fn kill(&mut self, number: u64, keep: Keep) -> Killed {
        self.hub.unplug(NodeId(number));
        let Running { node, disk, directory, .. } = self.nodes.remove(&number).unwrap();
        let disk = disk.after_a_crash(keep);
        node.shutdown().await;
        Killed { disk, directory }
    }

    /// Kills all of them at one moment.
    pub(crate) async fn kill_all(&mut self, keep: Keep) -> BTreeMap<u64, Killed> {
        let numbers = self.numbers();
        for number in &numbers {
            self.hub.unplug(NodeId(*number));
        }
        let found: Vec<Disk> =
            numbers.iter().map(|number| self.nodes[number].disk.after_a_crash(keep)).collect();
        let mut killed = BTreeMap::new();
        for (number, disk) in numbers.into_iter().zip(found) {
            let Killed { directory, .. } = self.kill(number, keep).await;
            killed.insert(number, Killed { disk, directory });
        }
        killed
    }

    /// Starts a node on what a kill has left.
    pub(crate) async fn restart(&mut self, number: u64, killed: Killed) {
        self.start(number, killed.disk, killed.directory).await;
    }

    /// Shuts one down as it should be, and starts it again.
    pub(crate) async fn bounce(&mut self, number: u64) {
        self.hub.unplug(NodeId(number));
        let Running { node, disk, directory, .. } = self.nodes.remove(&number).unwrap();
        node.shutdown().await;
        self.start(number, disk, directory).await;
    }

    pub(crate) fn cut_off(&self, number: u64) {
        for other in self.others(number) {
            self.hub.cut(NodeId(number), other);
        }
    }

    pub(crate) fn heal(&self, number: u64) {
        for other in self.others(number) {
            self.hub.heal(NodeId(number), other);
        }
    }

    fn others(&self, number: u64) -> impl Iterator<Item = NodeId> {
        self.nodes.keys().copied().filter(move |other| *other != number).map(NodeId)
    }

    /// Waits until one of these leads and the others follow it; returns its number.
    pub(crate) async fn leader_among(&self, numbers: &[u64]) -> u64 {
        let leads = |number: &u64| self.node(*number).standing().leads();
        let agreed = |leader: u64| {
            let standing = |number: &u64| self.node(*number).standing();
            let term = self.node(leader).standing().term;
            numbers.iter().map(standing).all(|s| s.leader == Some(NodeId(leader)) && s.term == term)
        };
        let mut changes = select_all(numbers.iter().map(|number| self.node(*number).standings()));
        loop {
            if let Some(leader) = numbers.iter().copied().find(leads)
                && agreed(leader)
            {
                return leader;
            }
            changes.next().await.expect("they do not stop");
        }
    }

    /// Proposes to whoever leads among these, until it is applied.
    pub(crate) async fn propose(&self, numbers: &[u64], command: &str) {
        loop {
            let leader = self.leader_among(numbers).await;
            match self.node(leader).propose(command.as_bytes().to_vec()).await {
                Ok(_) => return,
                Err(ProposeError::NotLeader { .. } | ProposeError::OutcomeUnknown) => {
                    tokio::task::yield_now().await;
                }
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub(crate) async fn propose_many(&self, numbers: &[u64], names: impl Iterator<Item = u32>) {
        for name in names {
            self.propose(numbers, &format!("command {name}")).await;
        }
    }

    /// Waits until these have applied as much as their leader, and checks that they agree.
    pub(crate) async fn agree(&self, numbers: &[u64]) -> Vec<Vec<u8>> {
        let leader = self.leader_among(numbers).await;
        let reached = self.node(leader).linearize().await.unwrap();
        for number in numbers {
            until(self.node(*number), |standing| standing.applied >= Some(reached)).await;
        }
        let commands = self.machine(leader).commands();
        for number in numbers {
            assert!(self.machine(*number).commands() == commands, "node {number} differs from {leader}");
        }
        commands
    }

    pub(crate) async fn shutdown(self) {
        for (number, running) in self.nodes {
            self.hub.unplug(NodeId(number));
            running.node.shutdown().await;
        }
    }
}

/// What is left of a node.
pub(crate) struct Killed {
    pub(crate) disk: Disk,
    pub(crate) directory: Arc<TempDir>,
}

pub(crate) fn voters<const N: usize>(numbers: [u64; N]) -> BTreeSet<NodeId> {
    numbers.into_iter().map(NodeId).collect()
}
