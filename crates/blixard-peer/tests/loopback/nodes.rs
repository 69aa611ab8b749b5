//! Three consensus nodes over gRPC on loopback.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use blixard_core::ports::consensus::{
    ApplyHalt, Checkpoint, Consensus as _, ReplicatedMachine, RestoreError, Standing,
};
use blixard_core::ports::members::Membership as _;
use blixard_peer::{Channels, GrpcPeers, PlainDialer};
use blixard_raft::{Peer, RaftNode, RaftOptions};
use blixard_types::{LogPosition, NodeId};
use futures_util::StreamExt as _;
use tempfile::TempDir;
use tokio::net::TcpListener;

use crate::ground::OnLoopback;

/// Counts what it applies.
#[derive(Default)]
struct Counter(Mutex<Vec<Vec<u8>>>);

impl ReplicatedMachine for Counter {
    fn apply(&self, _: LogPosition, command: &[u8]) -> Result<Vec<u8>, ApplyHalt> {
        self.0.lock().unwrap().push(command.to_vec());
        Ok(Vec::new())
    }

    fn checkpoint(&self) -> Checkpoint {
        let state = self.0.lock().unwrap().clone();
        Box::new(move || {
            state
                .iter()
                .flat_map(|command| [&[u8::try_from(command.len()).unwrap()], command.as_slice()].concat())
                .collect()
        })
    }

    fn restore(&self, mut state: &[u8]) -> Result<(), RestoreError> {
        let mut commands = Vec::new();
        while let Some((length, rest)) = state.split_first() {
            let (command, rest) = rest.split_at(usize::from(*length));
            commands.push(command.to_vec());
            state = rest;
        }
        *self.0.lock().unwrap() = commands;
        Ok(())
    }
}

struct Running {
    node: RaftNode,
    machine: Arc<Counter>,
    ground: OnLoopback,
    directory: Arc<TempDir>,
    address: String,
}

async fn start(number: u64, address: &str, directory: Arc<TempDir>) -> Running {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let mut options = RaftOptions::new(NodeId(number), directory.path());
    options.peer = Peer { name: format!("node {number}"), address: address.clone() };
    options.transport = Arc::new(GrpcPeers::new(Channels::new(Arc::new(PlainDialer))));
    options.checkpoint_every = 40;
    options.keep_entries = 0;
    let machine = Arc::new(Counter::default());
    let node = RaftNode::open(options, Arc::clone(&machine) as _).await.unwrap();
    let ground = OnLoopback::default();
    ground.serve_on(listener, Arc::new(node.clone()));
    Running { node, machine, ground, directory, address }
}

async fn until(node: &RaftNode, wanted: impl Fn(&Standing) -> bool) {
    let mut standings = node.standings();
    while let Some(standing) = standings.next().await {
        if wanted(&standing) {
            return;
        }
    }
    panic!("{:?}", node.standing());
}

/// Proposes to whichever node takes it.
async fn propose(nodes: &BTreeMap<u64, Running>, command: String) {
    loop {
        for running in nodes.values() {
            if running.node.propose(command.clone().into_bytes()).await.is_ok() {
                return;
            }
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn three_nodes_over_grpc_outlive_their_leader_and_bring_it_back_by_a_snapshot() {
    let mut nodes = BTreeMap::new();
    for number in 1..=3 {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        nodes.insert(number, start(number, "127.0.0.1:0", directory).await);
    }
    let first = &nodes[&1].node;
    first.form().await.unwrap();
    until(first, Standing::leads).await;
    for number in 2..=3 {
        first.add_learner(NodeId(number), String::new(), nodes[&number].address.clone()).await.unwrap();
        first.caught_up(NodeId(number), 0).await.unwrap();
    }
    first.set_voters((1..=3).map(NodeId).collect()).await.unwrap();
    for n in 0..50 {
        propose(&nodes, format!("{n}")).await;
    }

    let Running { node, ground, directory, address, .. } = nodes.remove(&1).unwrap();
    drop(ground);
    node.shutdown().await;
    drop(node);
    for n in 50..150 {
        propose(&nodes, format!("{n}")).await;
    }
    nodes.insert(1, start(1, &address, directory).await);

    let last = nodes[&2].node.standing().last_log;
    for running in nodes.values() {
        until(&running.node, |standing| standing.applied >= last).await;
    }
    // What a proposer was not answered to, it proposed again.
    let expected: BTreeSet<Vec<u8>> = (0..150).map(|n| format!("{n}").into_bytes()).collect();
    for running in nodes.values() {
        let applied: BTreeSet<_> = running.machine.0.lock().unwrap().iter().cloned().collect();
        assert!(applied == expected);
        running.node.shutdown().await;
    }
}
