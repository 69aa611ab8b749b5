//! The program of a simulated node: consensus, clients beside it, and who watches.

use std::sync::Arc;
use std::time::Duration;

use blixard_core::ports::consensus::{Consensus as _, ReplicatedMachine};
use blixard_core::ports::members::Membership as _;
use blixard_host::{AgentError, Host};
use blixard_raft::{Offload, Peer, RaftNode, RaftOptions};
use blixard_server::Replica;
use blixard_server::roots::BuildsInFlight;
use blixard_types::NodeId;
use futures_util::StreamExt as _;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::audit::Violation;
use crate::host;
use crate::join::join;
use crate::net;
use crate::registers::{Registers, Set};
use crate::server;
use crate::shape::Program;
use crate::shared::{Machine, Order, Phase, Shared, Status};

/// Few, so that they are contended for.
const REGISTERS: u64 = 4;
/// Of each node. Only those of the leader get far.
const CLIENTS: u64 = 3;
/// Small, so that a run fills many.
pub(crate) const LOG_SEGMENT_BYTES: u64 = 8 * 1024;
/// Entries between two comparisons of states: a thread computes their digests, whose time no seed decides.
const NEVER: u64 = u64::MAX;
/// After this a client no longer waits.
const PATIENCE: Duration = Duration::from_millis(800);

/// Runs a node until its host crashes.
pub(crate) async fn run(shared: Shared, id: NodeId) -> turmoil::Result {
    shared.set_status(id, Status::Starting);
    if !shared.founders().contains(&id) {
        join(&shared, id).await;
    }
    let (machine, replicated): (_, Arc<dyn ReplicatedMachine>) = match shared.shape.program {
        Program::Registers => {
            let registers = Registers::new(id, shared.audit.clone());
            (Machine::Registers(Arc::clone(&registers)), registers)
        }
        Program::Servers | Program::Cluster => {
            let replica = Arc::new(Replica::auditing_every(NEVER));
            (Machine::Server(Arc::clone(&replica)), replica)
        }
    };
    let opened = RaftNode::open_on(options(&shared, id), replicated, shared.disk(id).log());
    let node = match opened.await {
        Ok(node) => node,
        Err(error) => {
            failed(&shared, id, &format!("{:#}", anyhow::Error::from(error)));
            return std::future::pending().await;
        }
    };
    if shared.phase() == Phase::Forming && id == NodeId(1) {
        drop(node.form().await);
    }
    let (orders, taken) = mpsc::unbounded_channel();
    shared.event(&format!("node {id} is up"));
    shared.set_status(id, Status::Up { node: node.clone(), machine: machine.clone(), orders });
    let mut tasks = JoinSet::new();
    let (ends, served) = mpsc::unbounded_channel();
    tasks.spawn(net::serve(shared.net.clone(), id, Arc::new(node.clone()), ends));
    tasks.spawn(watch(shared.clone(), id, node.clone()));
    tasks.spawn(obey(shared.clone(), node.clone(), taken));
    match machine {
        Machine::Registers(registers) => {
            for _ in 0..CLIENTS {
                tasks.spawn(client(shared.clone(), node.clone(), Arc::clone(&registers)));
            }
        }
        Machine::Server(replica) => start_server(&shared, id, &node, replica, served, &mut tasks),
    }
    while tasks.join_next().await.is_some() {}
    std::future::pending().await
}

fn start_server(
    shared: &Shared,
    id: NodeId,
    node: &RaftNode,
    replica: Arc<Replica>,
    ends: mpsc::UnboundedReceiver<net::End>,
    tasks: &mut JoinSet<()>,
) {
    let Some((server, asks)) = server::compose(shared, id, node, replica) else { return };
    let builds = BuildsInFlight::default();
    tasks.spawn(server::serve(server.clone(), builds.clone(), ends));
    if let Some(ground) = shared.ground(id) {
        server::start_duties((shared, node), &server, builds, asks, tasks);
        tasks.spawn(run_agent(shared.clone(), host::compose(shared, &server, &ground)));
    }
    if shared.phase() == Phase::Forming && id == NodeId(1) {
        tasks.spawn(server::prepare(shared.clone(), server.clone()));
    }
    server::start_clients(shared, &server, tasks);
}

/// A daemon ends with its agent, and is started again.
async fn run_agent(shared: Shared, host: Host) {
    let id = host.hello.node;
    let Err(error) = blixard_host::run(host).await else { return };
    let replaced = matches!(error, AgentError::Replaced);
    let reason = format!("its agent has ended: {:#}", anyhow::Error::from(error));
    if replaced {
        shared.event(&format!("node {id} has stopped: {reason}"));
        shared.set_status(id, Status::Failed);
    } else {
        failed(&shared, id, &reason);
    }
}

fn options(shared: &Shared, id: NodeId) -> RaftOptions {
    let mut options = RaftOptions::new(id, "/data");
    options.peer = match server::address(id).filter(|_| shared.shape.program.hosts()) {
        Some(address) => Peer { name: server::node_name(id), address: address.to_string() },
        None => Peer { name: format!("node {id}"), address: format!("at {id}") },
    };
    options.transport = shared.net.transport(id);
    options.files = shared.disk(id).files();
    options.offload = Offload::Inline(shared.pace());
    options.log_segment_bytes = LOG_SEGMENT_BYTES;
    options.checkpoint_every = shared.shape.checkpoint_every;
    options.keep_entries = shared.shape.checkpoint_every / 4;
    options.restore_leadership = shared.shape.restores_leadership();
    options
}

fn failed(shared: &Shared, id: NodeId, reason: &str) {
    shared.event(&format!("node {id} has stopped: {reason}"));
    shared.set_status(id, Status::Failed);
    if !shared.troubled(id) && shared.disk(id).is_on() {
        shared.audit.violate(Violation::Stopped { node: id, reason: reason.to_owned() });
    }
}

/// Looks at every standing.
async fn watch(shared: Shared, id: NodeId, node: RaftNode) {
    let mut standings = node.standings();
    while let Some(standing) = standings.next().await {
        if shared.audit.standing(&standing)
            && let Some(leader) = standing.leader
        {
            shared.event(&format!("node {leader} leads term {}", standing.term));
        }
        if let Some(reason) = standing.stopped {
            failed(&shared, id, &reason);
        }
    }
}

/// Writes and reads, as fast as people would, until told to be quiet.
async fn client(shared: Shared, node: RaftNode, machine: Arc<Registers>) {
    let dice = shared.dice.fork();
    while shared.phase() != Phase::Quiet {
        tokio::time::sleep(dice.millis(5, 60)).await;
        // Who does not lead refuses; asked now and then all the same.
        let asks = node.standing().leads() || dice.chance(100);
        if !asks || shared.phase() == Phase::Forming {
            continue;
        }
        let register = dice.below(REGISTERS);
        match dice.below(10) {
            0..=5 => write(&shared, &node, register).await,
            6..=7 => {
                let begun = shared.history.now();
                let point = tokio::time::timeout(PATIENCE, node.linearize()).await;
                if matches!(point, Ok(Ok(_))) {
                    shared.history.read(register, machine.get(register), begun);
                }
            }
            _ => {
                let begun = shared.history.now();
                let point = tokio::time::timeout(PATIENCE, node.linearize_by_lease()).await;
                if matches!(point, Ok(Ok(_))) {
                    shared.history.read(register, machine.get(register), begun);
                }
            }
        }
    }
}

async fn write(shared: &Shared, node: &RaftNode, register: u64) {
    let value = shared.fresh_value();
    let Ok(command) = serde_json::to_vec(&Set { register, value }) else { return };
    let begun = shared.history.begin(register, value);
    if let Ok(Ok(_)) = tokio::time::timeout(PATIENCE, node.propose(command)).await {
        shared.history.acknowledge(&begun);
    }
}

/// Does as an operator asks. What does not succeed is asked again, or not.
async fn obey(shared: Shared, node: RaftNode, mut orders: mpsc::UnboundedReceiver<Order>) {
    while let Some(order) = orders.recv().await {
        if !node.standing().leads() {
            continue;
        }
        let done = match &order {
            Order::HandOver(to) => tokio::time::timeout(PATIENCE, node.transfer_leadership(*to))
                .await
                .is_ok_and(|done| done.is_ok()),
            Order::Members(members) => tokio::time::timeout(4 * PATIENCE, change_members(&node, members))
                .await
                .is_ok_and(|done| done),
        };
        shared.event(&format!("{order:?}: {}", if done { "done" } else { "not done" }));
    }
}

async fn change_members(node: &RaftNode, wanted: &std::collections::BTreeSet<NodeId>) -> bool {
    let known =
        |node: &RaftNode| node.standing().members.iter().map(|member| member.node).collect::<Vec<_>>();
    for id in wanted {
        if !known(node).contains(id) {
            let added = node.add_learner(*id, format!("node {id}"), format!("at {id}")).await;
            if added.is_err() || node.caught_up(*id, 100).await.is_err() {
                return false;
            }
        }
    }
    if node.set_voters(wanted.clone()).await.is_err() {
        return false;
    }
    let me = node.standing().node;
    for id in known(node) {
        if !wanted.contains(&id) && id != me && node.remove(id).await.is_err() {
            return false;
        }
    }
    true
}
