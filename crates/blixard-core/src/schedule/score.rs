//! Which of the hosts that will do is better. Only a few have points for a vm: those with vms that its affinities
//! speak of, and the one it was on last.

use std::collections::BTreeMap;

use blixard_types::NodeId;

use super::company::Company;
use super::shape::Shape;
use crate::state::{Run, Unplaced, Vm};

/// For each affinity that a vm there meets.
const AFFINITY: i32 = 10;
/// For each vm there that an anti-affinity speaks of.
const ANTI_AFFINITY: i32 = -10;
/// For the host that it was on last: its closure is there, and it need not move.
const STAYS: i32 = 5;
/// For the host that it failed on last: another may do better.
const FAILED_HERE: i32 = -50;
/// For the hosts that it failed on before, since it was last well or changed: one that it was never tried on goes first.
const FAILED_BEFORE: i32 = -25;
/// For the host that it was told to leave: another was found before.
const LEAVES: i32 = -50;

/// Why a host is better or worse for a vm than others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Points {
    /// Affinities that are met.
    pub affinity: i32,
    /// Vms there that it is better placed away from.
    pub anti_affinity: i32,
    /// What its runs say of this host.
    pub history: i32,
}

impl Points {
    /// All together.
    #[must_use]
    pub fn total(self) -> i32 {
        self.affinity.saturating_add(self.anti_affinity).saturating_add(self.history)
    }
}

/// The points of the hosts that have any for this vm; all others have none.
pub(super) fn points(company: &Company, shape: &Shape, vm: &Vm) -> BTreeMap<NodeId, Points> {
    let mut points: BTreeMap<NodeId, Points> = BTreeMap::new();
    for peers in &shape.affinity {
        company.each(peers, |node, _| points.entry(node).or_default().affinity += AFFINITY);
    }
    for peers in &shape.anti_affinity {
        company.each(peers, |node, count| {
            let away = i32::try_from(count).unwrap_or(i32::MAX).saturating_mul(ANTI_AFFINITY);
            let of = points.entry(node).or_default();
            of.anti_affinity = of.anti_affinity.saturating_add(away);
        });
    }
    for &node in &vm.failed_on {
        points.entry(node).or_default().history = FAILED_BEFORE;
    }
    if let Some((node, of)) = history(vm) {
        points.entry(node).or_default().history = of;
    }
    points
}

/// The points for what a vm's last run says of the host it was on.
fn history(vm: &Vm) -> Option<(NodeId, i32)> {
    let points = match &vm.run {
        _ if vm.moves_from.is_some() && vm.moves_from == vm.last_host => LEAVES,
        Run::Unplaced { why: Unplaced::Failed { generation, .. } } if *generation == vm.target => FAILED_HERE,
        // What was lost once is no reason to come back.
        Run::Unplaced { why: Unplaced::Lost { .. } } => 0,
        Run::Unplaced { .. } | Run::Placed { .. } => STAYS,
    };
    vm.last_host.map(|host| (host, points))
}
