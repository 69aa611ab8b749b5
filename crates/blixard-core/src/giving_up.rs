//! What speaks against declaring a host lost.
//!
//! Owns: the words. Refuses to know: how it is found out whether a machine answers. Declaring a host lost ends the
//! placements of what a partition keeps at once, and of all others once the host's lease must be over; so a
//! machine that is not off after all may run vms twice, and a cluster without another host runs them nowhere.

use blixard_types::{NodeId, VmId};

use crate::state::{ClusterState, Fence, InPartition, Node, Presence};

/// Whether a machine's daemon answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answers {
    /// It does.
    Yes,
    /// It was asked, and did not.
    No,
}

/// What speaks against declaring a host lost.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Objection {
    /// It is not off.
    #[error(
        "its daemon answers, so it is not off: what runs there is killed when its lease ends, not shut down"
    )]
    Answers,
    /// Nothing is placed anywhere else.
    #[error("no other host takes vms, so its {vms} vm{s} would run nowhere before it is back", s = if *vms == 1 { "" } else { "s" })]
    OnlyHost {
        /// How many it has.
        vms: usize,
    },
    /// Its guests outlive its silence.
    #[error("it holds no lease that ends, so what runs there runs on, and then twice, unless it is off")]
    NoLease,
    /// These outlive its silence.
    #[error("{} in a partition, so {} at once, and twice unless it is off", keep(.0), run(.0))]
    Kept(Vec<VmId>),
}

fn keep(vms: &[VmId]) -> String {
    let names: Vec<String> = vms.iter().map(ToString::to_string).collect();
    format!("{} {}", names.join(", "), if vms.len() == 1 { "runs on" } else { "run on" })
}

fn run(vms: &[VmId]) -> &'static str {
    if vms.len() == 1 { "it would run elsewhere" } else { "they would run elsewhere" }
}

impl Objection {
    /// Whether a person has to say that it is meant all the same. The others are true of a machine that is off,
    /// too, and are said as warnings.
    #[must_use]
    pub fn forbids(&self) -> bool {
        matches!(self, Self::Answers | Self::OnlyHost { .. })
    }
}

/// All that speaks against it; none for a node that is given up already, or that runs no vms.
#[must_use]
pub fn objections(state: &ClusterState, id: NodeId, answers: Answers) -> Vec<Objection> {
    let Some(node) = state.nodes.get(&id).filter(|node| node.presence == Presence::Present) else {
        return Vec::new();
    };
    if node.fence == Fence::None {
        return Vec::new();
    }
    let here: Vec<_> = state.vms.iter().filter(|(_, vm)| vm.run.host() == Some(id)).collect();
    let kept = here.iter().filter(|(_, vm)| vm.in_partition != InPartition::Stops);
    let kept: Vec<VmId> = kept.map(|(vm, _)| (*vm).clone()).collect();
    let other = |(&other, of): (&NodeId, &Node)| other != id && takes_vms(of);
    let alone = !state.nodes.iter().any(other);
    let all = [
        (answers == Answers::Yes).then_some(Objection::Answers),
        (alone && !here.is_empty()).then_some(Objection::OnlyHost { vms: here.len() }),
        (node.fence == Fence::Open).then_some(Objection::NoLease),
        (!kept.is_empty()).then_some(Objection::Kept(kept)),
    ];
    all.into_iter().flatten().collect()
}

fn takes_vms(node: &Node) -> bool {
    crate::schedule::admits(node).is_ok()
}

#[cfg(test)]
mod tests;
