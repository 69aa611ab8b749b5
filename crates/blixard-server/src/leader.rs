//! What the leader does besides answering: it proposes the placements that the scheduler plans, and the moves away
//! from hosts that are drained.
//!
//! What the planner remembers follows from the state, so that a new leader goes on where the last one
//! stopped. A placement that `apply` rejects is planned anew when the state changes, and so is every vm
//! that waits for room.

pub mod audit;
pub mod leases;
pub mod members;

use std::time::Duration;

use blixard_core::command::{Command, PlacementCommand};
use blixard_core::ports::UnixMillis;
use blixard_core::rebalance::Next;
use blixard_core::schedule::Planner;
use blixard_core::schedule::preempt::{self, Eviction};
use blixard_core::{drain, rebalance};
use futures_util::future::join_all;
use futures_util::{FutureExt, StreamExt};

use crate::Server;

/// Placements decided and proposed together. Enough to fill a group commit, few enough for one round to be short:
/// entries and grants wait while it is decided.
const PLACEMENTS_PER_ROUND: usize = 256;

/// Runs for as long as the consensus node does.
pub async fn run(server: Server) {
    let mut standings = server.consensus.standings();
    let mut changes = server.replica.changes();
    let mut planner = Planner::default();
    loop {
        changes.mark_unchanged();
        let pause =
            if server.consensus.standing().leads() { place(&server, &mut planner).await } else { None };
        let again = async {
            match pause {
                Some(pause) => tokio::time::sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        futures_util::select_biased! {
            standing = standings.next().fuse() => if standing.is_none() { return },
            changed = changes.changed().fuse() => if changed.is_err() { return },
            () = again.fuse() => {}
        }
    }
}

/// Proposes what the scheduler plans; gives the pause until it may plan something else.
async fn place(server: &Server, planner: &mut Planner) -> Option<Duration> {
    let now = server.clock.wall();
    let plan = server.replica.read(|state| planner.next_placements(state, now, PLACEMENTS_PER_ROUND));
    let proposer = server.proposer();
    let proposals = plan.placements.into_iter().map(|placement| {
        let proposer = proposer.clone();
        async move {
            let (vm, node, epoch) = (placement.vm.clone(), placement.node, placement.epoch);
            let command = Command::Place { vm, node, epoch };
            match proposer.propose(proposer.fresh_request(), command).await {
                Ok(_) => tracing::info!(vm = %placement.vm, %node, %epoch, "placed"),
                Err(failure) => tracing::info!(vm = %placement.vm, %node, %epoch, %failure, "not placed"),
            }
        }
    });
    join_all(proposals).await;
    let drained = drain(server).await;
    rebalance(server).await;
    preempt(server).await;
    let again_at = plan.again_at.into_iter().chain(drained).min();
    // One more millisecond, so that the planner then sees the instant as past.
    again_at.map(|at| Duration::from_millis(at.since(now) + 1))
}

/// Proposes what leaves draining hosts; says when to look again.
async fn drain(server: &Server) -> Option<UnixMillis> {
    let now = server.clock.wall();
    let plan = server.replica.read(|state| drain::plan(state, now));
    let proposer = server.proposer();
    for (vm, epoch) in plan.moves {
        let command = Command::MoveVm { vm: vm.clone(), epoch };
        match proposer.propose(proposer.fresh_request(), command).await {
            Ok(_) => tracing::info!(%vm, %epoch, "leaves its host"),
            Err(failure) => tracing::info!(%vm, %epoch, %failure, "does not leave its host"),
        }
    }
    plan.again_at
}

/// Proposes the next moves of a rebalancing, or its end.
async fn rebalance(server: &Server) {
    match server.replica.read(rebalance::next) {
        Next::Wait => {}
        Next::Moves(moves) => {
            for (vm, epoch) in moves {
                let command = Command::MoveVm { vm: vm.clone(), epoch };
                propose(server, command, &format!("{vm} leaves its host for the sake of balance")).await;
            }
        }
        Next::End => {
            let command = Command::Placement(PlacementCommand::EndRebalance);
            propose(server, command, "the rebalancing is over").await;
        }
    }
}

/// Proposes which vms make room for others, where the cluster lets them.
async fn preempt(server: &Server) {
    let now = server.clock.wall();
    for Eviction { vm, epoch, by, .. } in server.replica.read(|state| preempt::plan(state, now)) {
        let command = PlacementCommand::Preempt { vm: vm.clone(), epoch, by: by.clone() };
        propose(server, Command::Placement(command), &format!("{vm} makes room for {by}")).await;
    }
}

async fn propose(server: &Server, command: Command, what: &str) {
    let proposer = server.proposer();
    match proposer.propose(proposer.fresh_request(), command).await {
        Ok(_) => tracing::info!("{what}"),
        Err(failure) => tracing::info!(%failure, "not done: {what}"),
    }
}
