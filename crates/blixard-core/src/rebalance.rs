//! Carrying a rebalancing out: its moves, a few at a time, each gated on the ones before being healthy.
//!
//! Owns: which moves are made next, and when it is over. Refuses to know: what is out of balance
//! ([`crate::schedule::rebalance`]), and how a move is carried out, which is as for a drain.
//!
//! ```text
//! Begin(moves) ──▶ under way ── MoveVm for each, in order ──▶ none left ──▶ over
//!                      └── End: a person, or no move can be made any more ──▲
//! ```
//! A move names the placement that it ends. One whose vm has been placed anew since, is not wanted any more, or has
//! no other host left, is not made.

use std::collections::VecDeque;

use blixard_types::{Epoch, VmId};
use serde::{Deserialize, Serialize};

use crate::schedule::Planner;
use crate::state::{ClusterState, Phase, Run};

/// Most moves of one rebalancing: all of them have to fit into a command.
pub const MOVES_MAX: usize = 256;

/// A rebalancing that is under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rebalancing {
    /// How many vms may be on their way at a time.
    pub max_parallel: u32,
    /// The placements that are to end, in this order, and have not been told to.
    pub moves: VecDeque<(VmId, Epoch)>,
}

/// What is to be done for a rebalancing now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Nothing: none is under way, or its next moves wait for others to be healthy.
    Wait,
    /// These vms leave their hosts.
    Moves(Vec<(VmId, Epoch)>),
    /// It is over: no move is left that can be made.
    End,
}

/// What is to be done now.
#[must_use]
pub fn next(state: &ClusterState) -> Next {
    let Some(rebalancing) = &state.rebalancing else { return Next::Wait };
    let on_the_way = state.vms.values().filter(|vm| vm.moves_from.is_some() && vm.wanted()).count();
    let at_a_time = rebalancing.max_parallel.max(1) as usize;
    let left: Vec<_> = rebalancing.moves.iter().filter(|(vm, epoch)| is_due(state, vm, *epoch)).collect();
    if left.is_empty() {
        return Next::End;
    }
    if on_the_way >= at_a_time {
        return Next::Wait;
    }
    let mut planner = Planner::of(state);
    let mut moves = Vec::new();
    for (vm, epoch) in left {
        if moves.len() < at_a_time - on_the_way && planner.would_leave(state, vm) {
            moves.push((vm.clone(), *epoch));
        }
    }
    match (moves.is_empty(), on_the_way) {
        (false, _) => Next::Moves(moves),
        (true, 0) => Next::End,
        // What is on its way may make room.
        (true, _) => Next::Wait,
    }
}

/// Whether the placement is still the one that was to end.
fn is_due(state: &ClusterState, id: &VmId, of: Epoch) -> bool {
    state.vms.get(id).is_some_and(|vm| match &vm.run {
        Run::Placed { epoch, phase: Phase::Running { .. }, .. } => *epoch == of && vm.wanted_there(),
        Run::Placed { .. } | Run::Unplaced { .. } => false,
    })
}

#[cfg(test)]
mod tests;
