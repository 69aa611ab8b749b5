//! A node that runs the code of a server: its state, its log through the leader, and gRPC.
//!
//! Owns the composition, as `blixardd` does for real, and clients beside it that write and read here, whoever
//! leads. The registers they use are names of nodes: a new name is a command that is not harmless when it is
//! applied twice, and each makes an event. Nodes that are hosts, too, have the leader's duties and build; others build nothing.

mod channels;
mod outside;
mod renumbering;
mod unasked;
pub(crate) mod watcher;

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use blixard_closure::FileSigner;
use blixard_core::command::{Command, MembershipCommand};
use blixard_core::lease::Profile;
use blixard_core::ports::Clock;
use blixard_core::ports::consensus::SharedConsensus;
use blixard_core::rules::RULES;
use blixard_core::state::{ClusterState, EVENTS_KEPT, Role, Roles};
use blixard_pki::KeyFiles;
use blixard_raft::RaftNode;
use blixard_server::leader::leases::LeaseAsks;
use blixard_server::roots::BuildsInFlight;
use blixard_server::{Builder, Forwarding, Keyring, LeaseDesk, Replica, Server, services};
use blixard_server::{bootstrap, leader, roots};
use blixard_types::{ClusterId, NodeAddress, NodeId, NodeName};
use futures_util::{StreamExt as _, stream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::ground::Ground;
use crate::net::End;
use crate::shape::BrokenRule;
use crate::shared::{Phase, Shared};
pub(crate) use channels::Channels;
use outside::{NoConsoles, Outside};
use renumbering::Renumbering;
use unasked::Unasked;

/// Few, so that they are contended for.
const REGISTERS: u64 = 4;
/// The first of the nodes whose names are registers.
const FIRST_REGISTER: u64 = 1000;
/// Clients of each node; where people ask for other things, too, one that asks less.
const CLIENTS: u64 = 2;
/// Writes of a storm: more than servers keep events.
const STORM: u64 = EVENTS_KEPT as u64 + 100;
/// How many of them are under way at once.
const STORM_AT_ONCE: usize = 64;
/// After this a client no longer waits.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a server is made of, here.
pub(crate) fn compose(
    shared: &Shared,
    id: NodeId,
    node: &RaftNode,
    replica: Arc<Replica>,
) -> Option<(Server, LeaseAsks)> {
    let outside = Arc::new(Outside { dice: shared.dice.fork() });
    let log: SharedConsensus = match shared.shape.broken {
        Some(BrokenRule::ForwardsAsNewCalls) => Arc::new(Renumbering::new(node.clone(), outside.clone())),
        _ => Arc::new(node.clone()),
    };
    let peers = Arc::new(Channels::new(shared.net.clone(), id));
    let ground = shared.ground(id);
    let clock: Arc<dyn Clock> = ground.as_ref().map_or(outside.clone(), Ground::clock);
    let (leases, asks) = LeaseDesk::new();
    let server = Server {
        node: id,
        version: "simulated",
        replica,
        consensus: Arc::new(Forwarding::new(log.clone(), peers.clone())),
        log,
        membership: Arc::new(node.clone()),
        peers,
        leases,
        keyring: Arc::new(Keyring::open(keys(ground.as_ref())).ok()?),
        address: if ground.is_some() { Some(address(id)?) } else { None },
        disk: outside.clone(),
        clock,
        builder: match ground {
            Some(ground) => Some(builder(&ground, &outside)?),
            None => None,
        },
        entropy: outside,
    };
    Some((server, asks))
}

/// Nobody has keys where there are no machines.
fn keys(ground: Option<&Ground>) -> KeyFiles {
    match ground {
        Some(ground) => KeyFiles::below(&ground.folder()),
        None => KeyFiles::below(Path::new("/nonexistent/blixard-sim")),
    }
}

fn builder(ground: &Ground, outside: &Outside) -> Option<Builder> {
    let (inbox, evaluator, store) = (Arc::new(ground.nix()), Arc::new(ground.nix()), Arc::new(ground.nix()));
    let signer = Arc::new(FileSigner::open(&ground.folder(), outside).ok()?);
    Some(Builder { inbox, evaluator, store, signer })
}

/// What a server does besides answering, as `blixardd` starts it.
pub(crate) fn start_duties(
    (shared, node): (&Shared, &RaftNode),
    server: &Server,
    builds: BuildsInFlight,
    asks: LeaseAsks,
    tasks: &mut JoinSet<()>,
) -> Option<()> {
    let times = Some(Profile::Fast.times());
    let log: SharedConsensus = match shared.shape.broken {
        Some(BrokenRule::GrantsUnasked) => Arc::new(Unasked(node.clone())),
        _ => Arc::clone(&server.log),
    };
    let granting = Server { log, ..server.clone() };
    tasks.spawn(leader::run(server.clone()));
    tasks.spawn(leader::members::run(server.clone()));
    tasks.spawn(leader::leases::run(granting, asks, times));
    tasks.spawn(leader::audit::run(server.clone()));
    let (name, announced) = (name(&node_name(server.node))?, server.clone());
    tasks.spawn(async move {
        let known = |state: &ClusterState| state.nodes.contains_key(&announced.node);
        while !announced.replica.read(known) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        bootstrap::announce(announced, name, every_role()).await;
    });
    tasks.spawn(roots::run(server.clone(), builds));
    Some(())
}

pub(crate) fn every_role() -> Roles {
    [Role::Server, Role::Host, Role::Builder].into()
}

/// What a node is called.
pub(crate) fn node_name(node: NodeId) -> String {
    format!("server-{node}")
}

/// Where it is said to be.
pub(crate) fn address(node: NodeId) -> Option<NodeAddress> {
    format!("{}:7000", node_name(node)).parse().ok()
}

/// Serves whoever connects, until dropped.
pub(crate) async fn serve(server: Server, builds: BuildsInFlight, ends: mpsc::UnboundedReceiver<End>) {
    let services = services(&server, builds, Arc::new(NoConsoles));
    let incoming = stream::unfold(ends, |mut ends| async {
        ends.recv().await.map(|end| (Ok::<_, io::Error>(end), ends))
    });
    let router = tonic::transport::Server::builder()
        .add_service(services.peer)
        .add_service(services.cluster)
        .add_service(services.host)
        .add_service(services.join)
        .add_service(services.deploy)
        .add_service(services.placement)
        .add_service(services.vm);
    // It ends with the node's network.
    drop(router.serve_with_incoming(incoming).await);
}

fn name(text: &str) -> Option<NodeName> {
    text.parse().ok()
}

/// Gives a new cluster its first state.
pub(crate) async fn prepare(shared: Shared, server: Server) {
    let mut commands = vec![Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest }];
    for node in shared.founders() {
        let Some(name) = name(&node_name(node)) else { continue };
        if !shared.shape.program.hosts() {
            commands.push(Command::RegisterNode { node, name, roles: [Role::Server].into() });
            continue;
        }
        commands.push(Command::RegisterNode { node, name, roles: every_role() });
        if let Some(address) = address(node) {
            commands.push(Command::Membership(MembershipCommand::SetAddress { node, address }));
        }
    }
    let proposer = server.proposer();
    for command in commands {
        while proposer.propose(proposer.fresh_request(), command.clone()).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// Whether a state is one that clients can work with.
pub(crate) fn is_prepared(state: &ClusterState, servers: usize) -> bool {
    state.nodes.len() >= servers
        && state.nodes.values().all(|node| node.address.is_none() || node.session.is_some())
}

/// The clients of one node.
pub(crate) fn start_clients(shared: &Shared, server: &Server, tasks: &mut JoinSet<()>) {
    // Where registers are nodes, a machine that joins could not know its number before.
    if shared.shape.spare > 0 {
        return;
    }
    let (clients, pause) = if shared.shape.program.hosts() { (1, (150, 900)) } else { (CLIENTS, (20, 150)) };
    for _ in 0..clients {
        tasks.spawn(client(shared.clone(), server.clone(), pause));
    }
}

/// Writes and reads here, whoever leads, until told to be quiet.
async fn client(shared: Shared, server: Server, (least, most): (u64, u64)) {
    let dice = shared.dice.fork();
    while shared.phase() != Phase::Quiet {
        tokio::time::sleep(dice.millis(least, most)).await;
        if shared.phase() == Phase::Forming {
            continue;
        }
        if shared.take_storm() {
            storm(&server, &shared).await;
        }
        let register = dice.below(REGISTERS);
        let begun = shared.history.now();
        let read = match dice.below(10) {
            0..=5 => {
                write(&shared, &server, register).await;
                continue;
            }
            6..=7 => tokio::time::timeout(PATIENCE, server.consensus.linearize()).await,
            _ => tokio::time::timeout(PATIENCE, server.consensus.linearize_by_lease()).await,
        };
        if matches!(read, Ok(Ok(_))) {
            let found = server.replica.read(|state| register_of(state, register));
            shared.history.read(register, found, begun);
        }
    }
}

async fn write(shared: &Shared, server: &Server, register: u64) {
    let value = shared.fresh_value();
    let Some(name) = name(&format!("v{value}")) else { return };
    let node = NodeId(FIRST_REGISTER + register);
    let command = Command::RegisterNode { node, name, roles: [Role::Builder].into() };
    let begun = shared.history.begin(register, value);
    let proposer = server.proposer();
    let proposed = tokio::time::timeout(PATIENCE, proposer.propose(proposer.fresh_request(), command));
    if let Ok(Ok(_)) = proposed.await {
        shared.history.acknowledge(&begun);
    }
}

fn register_of(state: &ClusterState, register: u64) -> Option<u64> {
    value_in(state.nodes.get(&NodeId(FIRST_REGISTER + register))?.name.as_str())
}

/// The value that a name stands for, if it is a register's.
pub(crate) fn value_in(name: &str) -> Option<u64> {
    name.strip_prefix('v')?.parse().ok()
}

/// Writes many values at once, which nobody reads: servers forget what happened before.
async fn storm(server: &Server, shared: &Shared) {
    let write = |nth: u64| async move {
        let Some(name) = name(&format!("w{}", shared.fresh_value())) else { return };
        let node = NodeId(FIRST_REGISTER + REGISTERS + nth % REGISTERS);
        let command = Command::RegisterNode { node, name, roles: [Role::Builder].into() };
        let proposer = server.proposer();
        // What does not get through in time is missed by nobody.
        drop(tokio::time::timeout(PATIENCE, proposer.propose(proposer.fresh_request(), command)).await);
    };
    stream::iter(0..STORM).for_each_concurrent(STORM_AT_ONCE, write).await;
}
