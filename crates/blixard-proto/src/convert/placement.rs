//! Rebalancing and preemption: the commands, and how clients see plans.

use blixard_core::command::PlacementCommand;
use blixard_core::schedule::rebalance::{Move, RebalancePlan, Share};
use blixard_core::state::{ClusterState, Preemption};
use blixard_types::{Epoch, NodeId};

use super::{ConvertError, vm_id};
use crate::v1::{self, placement_command as message};

pub(crate) fn placement_to(command: &PlacementCommand) -> v1::PlacementCommand {
    use message::Command as To;
    let command = match command {
        PlacementCommand::Rebalance { moves, max_parallel } => To::Rebalance(message::Rebalance {
            moves: moves
                .iter()
                .map(|(vm, epoch)| message::Placed { vm: vm.to_string(), epoch: epoch.0 })
                .collect(),
            max_parallel: *max_parallel,
        }),
        PlacementCommand::EndRebalance => To::EndRebalance(message::EndRebalance {}),
        PlacementCommand::SetPreemption { preemption } => {
            To::SetPreemption(message::Preemption { on: *preemption == Preemption::On })
        }
        PlacementCommand::Preempt { vm, epoch, by } => {
            To::Preempt(message::Preempt { vm: vm.to_string(), epoch: epoch.0, by: by.to_string() })
        }
    };
    v1::PlacementCommand { command: Some(command) }
}

pub(crate) fn placement_from(command: v1::PlacementCommand) -> Result<PlacementCommand, ConvertError> {
    use message::Command as From;
    let unknown = || ConvertError::of("placement", "is unknown to this server");
    Ok(match command.command.ok_or_else(unknown)? {
        From::Rebalance(begin) => {
            let placed = |one: &message::Placed| Ok((vm_id(&one.vm)?, Epoch(one.epoch)));
            let moves = begin.moves.iter().map(placed).collect::<Result<_, ConvertError>>()?;
            PlacementCommand::Rebalance { moves, max_parallel: begin.max_parallel }
        }
        From::EndRebalance(message::EndRebalance {}) => PlacementCommand::EndRebalance,
        From::SetPreemption(set) => PlacementCommand::SetPreemption { preemption: preemption(set.on) },
        From::Preempt(preempt) => PlacementCommand::Preempt {
            vm: vm_id(&preempt.vm)?,
            epoch: Epoch(preempt.epoch),
            by: vm_id(&preempt.by)?,
        },
    })
}

/// The setting.
#[must_use]
pub fn preemption(on: bool) -> Preemption {
    if on { Preemption::On } else { Preemption::Off }
}

/// What a rebalancing would do, as clients see it.
#[must_use]
pub fn rebalance_view(state: &ClusterState, plan: &RebalancePlan) -> v1::RebalanceResponse {
    let name = |node: &NodeId| state.nodes.get(node).map(|node| node.name.to_string()).unwrap_or_default();
    let share = |share: Share| u32::try_from(share.0).unwrap_or(u32::MAX);
    let moved = |one: &Move| v1::VmMove {
        vm: one.vm.to_string(),
        from: name(&one.from),
        to: name(&one.to),
        because: one.because.to_string(),
    };
    let host = |(node, (now, then)): (&NodeId, &(Share, Share))| v1::HostShare {
        node: name(node),
        now: share(*now),
        then: share(*then),
    };
    let ordered = state.rebalancing.as_ref().map_or(0, |rebalancing| rebalancing.moves.len());
    let moving = state.vms.values().filter(|vm| vm.moves_from.is_some() && vm.wanted());
    let under_way = ordered.saturating_add(moving.count());
    v1::RebalanceResponse {
        moves: plan.moves.iter().map(moved).collect(),
        hosts: plan.hosts.iter().map(host).collect(),
        unfinished: 0,
        under_way: under_way as u64,
        revision: state.applied.revision().0,
    }
}
