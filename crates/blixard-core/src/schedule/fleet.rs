//! The planner: what it knows of the hosts and of the vms on them, kept in step with the state.
//!
//! All of it follows from the state; it is kept only so that a decision does not look at every host and
//! every vm. What has changed is read from the events; where those are forgotten all is read anew. The
//! test `a_planner_that_follows_plans_like_one_made_anew` holds it to that.

mod orders;
mod trial;
mod view;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use blixard_types::{NodeId, Revision, Sha256Hash, VmId};

use super::choose::{Rank, Room};
use super::company::Company;
use super::explain::Merit;
use super::filter::{self, Gate};
use super::reason::{HostRefusal, REFUSALS_SHOWN, RefusalReason, WaitingOn};
use super::shape::{Requirement, Shape};
use super::volumes::{Tie, name};
use super::{PlacementDecision, SchedulePlan, backoff, score};
use crate::ports::UnixMillis;
use crate::state::{ClusterState, Node, Preemption, Usage, Vm};
use orders::Orders;

/// Plans placements, and remembers what it has read of the state.
#[derive(Debug, Default)]
pub struct Planner {
    /// The newest change that it knows.
    seen: Revision,
    hosts: BTreeMap<NodeId, Host>,
    vms: BTreeMap<VmId, Known>,
    /// What is counted of each vm's volumes.
    volumes: BTreeMap<VmId, BTreeMap<NodeId, Usage>>,
    /// The vms to place: higher priority first, then by name.
    pending: BTreeSet<(Reverse<i32>, VmId)>,
    /// What generations ask for, by the digest of the spec and the platform.
    shapes: BTreeMap<Sha256Hash, BTreeMap<String, Arc<Shape>>>,
    orders: Orders,
    company: Company,
    /// The vms that the last plan has placed here and the state may not have.
    tentative: Vec<VmId>,
}

/// A host, and what is taken of it.
#[derive(Debug, Default)]
struct Host {
    /// None before its daemon has spoken, and where nothing is to be placed.
    capacity: Option<crate::state::Capacity>,
    used: Usage,
}

/// A vm as it was when it was looked at.
#[derive(Debug)]
struct Known {
    host: Option<NodeId>,
    shape: Arc<Shape>,
}

/// Whether a plan says what is waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reasons {
    Given,
    LeftOut,
}

impl Planner {
    /// One that knows this state.
    #[must_use]
    pub fn of(state: &ClusterState) -> Self {
        let mut planner = Self::default();
        planner.read_anew(state);
        planner
    }

    /// Plans placements, with what the other vms wait for.
    pub fn plan(&mut self, state: &ClusterState, now: UnixMillis) -> SchedulePlan {
        self.decide(state, now, usize::MAX, Reasons::Given)
    }

    /// Plans placements. What vms wait for is said only where it is a time or a person.
    pub fn placements(&mut self, state: &ClusterState, now: UnixMillis) -> SchedulePlan {
        self.decide(state, now, usize::MAX, Reasons::LeftOut)
    }

    /// The same up to so many placements: those after them are not decided yet.
    pub fn next_placements(&mut self, state: &ClusterState, now: UnixMillis, most: usize) -> SchedulePlan {
        self.decide(state, now, most, Reasons::LeftOut)
    }

    fn decide(
        &mut self,
        state: &ClusterState,
        now: UnixMillis,
        most: usize,
        reasons: Reasons,
    ) -> SchedulePlan {
        self.follow(state);
        let (mut plan, gate) = (SchedulePlan::default(), Gate::of(state));
        let mut next = self.pending.first().cloned();
        while let Some(key) = next.filter(|_| plan.placements.len() < most) {
            next = self.pending.range((Bound::Excluded(&key), Bound::Unbounded)).next().cloned();
            let id = key.1;
            let Some(vm) = state.vms.get(&id) else { continue };
            let waiting = if let Some(waiting) = backoff(state, vm, now) {
                Some(waiting)
            } else if let Some((node, new)) = self.choose(state, gate, &id, vm) {
                self.take(&id, node, new);
                plan.placements.push(PlacementDecision { vm: id.clone(), node, epoch: vm.last_epoch.next() });
                self.tentative.push(id.clone());
                None
            } else {
                let waiting = (reasons == Reasons::Given).then(|| self.refusals(state, &id)).flatten();
                self.keep_room(state, &id, vm);
                waiting
            };
            if let Some(WaitingOn::Backoff { until, .. }) = waiting {
                plan.again_at = Some(plan.again_at.map_or(until, |at| at.min(until)));
            }
            plan.waiting.extend(waiting.map(|waiting| (id, waiting)));
        }
        plan
    }

    /// While others make room for a vm, nobody else is put where it is made: they do not all stop at once.
    fn keep_room(&mut self, state: &ClusterState, id: &VmId, vm: &Vm) {
        let Some(node) = making_room(state, id).find_map(|(_, vm)| vm.run.host()) else { return };
        self.take(id, node, Tie::of(state, id, vm).new);
        self.tentative.push(id.clone());
    }

    /// The best host that will do, and what new volumes will take of it.
    pub(super) fn choose(
        &mut self,
        state: &ClusterState,
        gate: Gate,
        id: &VmId,
        vm: &Vm,
    ) -> Option<(NodeId, Usage)> {
        let shape = Arc::clone(&self.vms.get(id)?.shape);
        let tie = Tie::of(state, id, vm);
        if let Some(pin) = &tie.pin {
            let good = self.verdict(state, gate, pin.node, &shape, &tie).is_ok();
            return good.then_some((pin.node, tie.new));
        }
        let takes = shape.takes.and(tie.new);
        let rank_of =
            |hosts: &BTreeMap<NodeId, Host>, node: NodeId| rank(hosts, state, &shape.requirement, node);
        let order = self.orders.get(&shape.requirement, |order| {
            for &node in self.hosts.keys() {
                order.set(node, rank_of(&self.hosts, node));
            }
        });
        let room = |node| self.hosts.get(&node).filter(|_| gate.lets(node)).and_then(Host::room);
        let points = score::points(&self.company, &shape, vm);
        let strategy = shape.requirement.strategy;
        let plain = order.best(strategy, takes, |node| points.contains_key(&node), room);
        let beside = points.iter().filter_map(|(&node, points)| {
            room(node).filter(|room| room.has(takes))?;
            Some(order.get(node)?.with(points.total()))
        });
        beside.chain(plain).max().map(|rank| (rank.node(), tie.new))
    }

    /// Where a vm would go that has to leave its host; it is there from now on, as far as this planner is
    /// concerned, and gone if there is no such place.
    pub(crate) fn move_away(&mut self, state: &ClusterState, id: &VmId) -> Option<NodeId> {
        self.tentative.push(id.clone());
        let vm = state.vms.get(id)?;
        let before = self.vms.get(id).and_then(|known| known.host);
        self.look_at_vm(state, id);
        self.leave(id);
        let found = self.choose(state, Gate::of(state), id, vm);
        if let Some((node, new)) = found.or(before.map(|node| (node, Usage::default()))) {
            self.take(id, node, new);
        }
        found.map(|(node, _)| node)
    }

    /// Takes a vm off its host.
    pub(super) fn leave(&mut self, id: &VmId) {
        let Some(known) = self.vms.get_mut(id) else { return };
        let Some(node) = known.host.take() else { return };
        let shape = Arc::clone(&known.shape);
        self.company.remove(id, node, &shape.labels);
        if let Some(host) = self.hosts.get_mut(&node) {
            host.used = host.used.without(shape.takes);
        }
        self.load_changed(node);
    }

    /// Puts a vm on a host, as far as this planner is concerned.
    pub(super) fn take(&mut self, id: &VmId, node: NodeId, new: Usage) {
        let (Some(known), Some(host)) = (self.vms.get_mut(id), self.hosts.get_mut(&node)) else { return };
        known.host = Some(node);
        host.used = host.used.and(known.shape.takes);
        self.company.add(id, node, &known.shape.labels);
        if new != Usage::default() {
            host.used = host.used.and(new);
            let counted = self.volumes.entry(id.clone()).or_default().entry(node).or_default();
            *counted = counted.and(new);
        }
        self.load_changed(node);
    }

    /// Hosts and why they will not do, as many as are shown.
    pub(crate) fn refusals(&self, state: &ClusterState, id: &VmId) -> Option<WaitingOn> {
        let refused = self.host_refusals(state, id)?;
        let by = state.vms.get(id)?.preempted_by.clone();
        Some(match by {
            Some(by) => WaitingOn::Preempted { by, then: Box::new(refused) },
            None => refused,
        })
    }

    fn host_refusals(&self, state: &ClusterState, id: &VmId) -> Option<WaitingOn> {
        let vms: Vec<VmId> = making_room(state, id).map(|(vm, _)| vm.clone()).collect();
        if !vms.is_empty() {
            return Some(WaitingOn::Room { vms });
        }
        let (gate, shape) = (Gate::of(state), &self.vms.get(id)?.shape);
        let tie = Tie::of(state, id, state.vms.get(id)?);
        if let Some(pin) = &tie.pin {
            let reason = self.verdict(state, gate, pin.node, shape, &tie).err()?;
            let volumes = pin.volumes.iter().cloned().collect();
            return Some(WaitingOn::Volume { vm: id.clone(), host: name(state, pin.node), volumes, reason });
        }
        let refusal = |(&node, of): (&NodeId, &Node)| {
            let reason = self.verdict(state, gate, node, shape, &tie).err()?;
            Some(HostRefusal { name: of.name.to_string(), reason })
        };
        let refusals: Vec<_> = state.nodes.iter().take(REFUSALS_SHOWN).filter_map(refusal).collect();
        let others = state.nodes.len().saturating_sub(refusals.len());
        Some(WaitingOn::Host { refusals, others })
    }

    /// Whether a host will do for a vm that is on none.
    fn verdict(
        &self,
        state: &ClusterState,
        gate: Gate,
        node: NodeId,
        shape: &Shape,
        tie: &Tie,
    ) -> Result<(), RefusalReason> {
        let of = state.nodes.get(&node).ok_or(RefusalReason::Role)?;
        tie.admits(state, node)?;
        filter::admits(of)?;
        filter::meets(of, &shape.requirement)?;
        gate.check(state, node)?;
        let facts = &of.session.as_ref().ok_or(RefusalReason::NoSession)?.facts;
        let used = self.hosts.get(&node).map(|host| host.used).unwrap_or_default();
        facts.capacity().fits(used, shape.takes.and(tie.new)).map_err(RefusalReason::Room)
    }

    /// A host's place among those that will do for a vm that this planner does as if it were not there.
    pub(super) fn merit(
        &self,
        state: &ClusterState,
        gate: Gate,
        node: NodeId,
        shape: &Shape,
        (id, vm): (&VmId, &Vm),
    ) -> Result<(Rank, Merit), RefusalReason> {
        self.verdict(state, gate, node, shape, &Tie::of(state, id, vm))?;
        let host = self.hosts.get(&node).ok_or(RefusalReason::Role)?;
        let free_mib = host.room().ok_or(RefusalReason::NoSession)?.free_mib();
        let points = score::points(&self.company, shape, vm).remove(&node).unwrap_or_default();
        let rank = Rank::new(shape.requirement.strategy, free_mib, node).with(points.total());
        Ok((rank, Merit { points, free_mib }))
    }

    /// A host's place in each order after something came or went there.
    fn load_changed(&mut self, node: NodeId) {
        let Some(host) = self.hosts.get(&node) else { return };
        let Some(room) = host.room() else { return };
        self.orders.update(|requirement, order| {
            if order.get(node).is_some() {
                order.set(node, Some(Rank::new(requirement.strategy, room.free_mib(), node)));
            }
        });
    }
}

/// The vms that are being stopped for this one.
fn making_room<'a>(state: &'a ClusterState, id: &'a VmId) -> impl Iterator<Item = (&'a VmId, &'a Vm)> {
    let vms = (state.preemption == Preemption::On).then(|| state.vms.iter());
    let makes_room = |(_, vm): &(&VmId, &Vm)| {
        vm.preempted_by.as_ref() == Some(id) && vm.run.host().is_some() && !vm.wanted_there()
    };
    vms.into_iter().flatten().filter(makes_room)
}

impl Host {
    fn room(&self) -> Option<Room> {
        self.capacity.map(|capacity| Room { capacity, used: self.used })
    }
}

/// A host's place in the order for a shape; none if it will not do whatever its room is.
fn rank(
    hosts: &BTreeMap<NodeId, Host>,
    state: &ClusterState,
    requirement: &Requirement,
    node: NodeId,
) -> Option<Rank> {
    let (host, of) = (hosts.get(&node)?, state.nodes.get(&node)?);
    filter::meets(of, requirement).ok()?;
    Some(Rank::new(requirement.strategy, host.room()?.free_mib(), node))
}
