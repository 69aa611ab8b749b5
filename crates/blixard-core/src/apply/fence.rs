//! Hosts that are silent, lost and back; leases; incarnations. The rules are those of [`crate::lease`].

use blixard_types::{DaemonId, Epoch, Incarnation, NodeId, Revision, VmId};

use super::{Moment, Rejection};
use crate::command::{FenceCommand, Outcome};
use crate::lease::LeaseTimes;
use crate::state::{
    Admission, Authority, ClusterState, Deadlines, EventKind, Fence, InPartition, Node, Presence, Quarantine,
    Restart, Role, Run, Unplaced, Vm,
};

/// Epochs of an incarnation; each begins this much after the one before, so that an epoch says which
/// incarnation it belongs to, and what an earlier one has said can never be of one that counts.
const EPOCHS_PER_INCARNATION: u64 = 1 << 24;

impl ClusterState {
    pub(super) fn fence(&mut self, command: &FenceCommand, moment: Moment) -> Result<Outcome, Rejection> {
        match *command {
            FenceCommand::NodeLost { node, authority } => self.node_lost(node, authority, moment),
            FenceCommand::NodeBack { node, authority } => self.node_back(node, authority, moment),
            FenceCommand::DeclareLost { node } => self.declare_lost(node, moment),
            FenceCommand::FenceArmed { node, daemon, held } => self.fence_armed(node, daemon, held, moment),
            FenceCommand::SetLeaseTimes { times } => self.set_lease_times(times, moment),
            FenceCommand::SettleLeases { authority, since } => {
                self.check_authority(authority, moment)?;
                // Who has waited for one change has not waited for the next.
                if since != self.fencing.settling_since {
                    return Ok(Outcome::Unchanged);
                }
                let settled = self.fencing.settling.take();
                Ok(settled.map_or(Outcome::Unchanged, |_| moment.changed()))
            }
            FenceCommand::BeginIncarnation { incarnation, survivor } => {
                self.begin_incarnation(incarnation, survivor, moment)
            }
            FenceCommand::EndQuarantine { authority } => {
                self.check_authority(authority, moment)?;
                let before = std::mem::take(&mut self.fencing.quarantine);
                Ok(if before == Quarantine::Over { Outcome::Unchanged } else { moment.changed() })
            }
            FenceCommand::SetAdmission { node, admission } => self.set_admission(node, admission, moment),
        }
    }

    /// What one leader has waited for, the next one has not.
    fn check_authority(&self, authority: Authority, moment: Moment) -> Result<(), Rejection> {
        let now = Authority { incarnation: self.incarnation(), term: moment.term };
        if authority == now { Ok(()) } else { Err(Rejection::OtherLeadership { term: authority.term }) }
    }

    pub(super) fn known_node(&mut self, node: NodeId) -> Result<&mut Node, Rejection> {
        self.nodes.get_mut(&node).ok_or(Rejection::UnknownNode { node })
    }

    fn node_lost(
        &mut self,
        node: NodeId,
        authority: Authority,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        self.check_authority(authority, moment)?;
        let host = self.known_node(node)?;
        if host.presence == Presence::Lost {
            return Ok(Outcome::Unchanged);
        }
        // Without a deadline silence says nothing; only a person can say that the machine is off.
        if host.presence == Presence::Present && host.fence != Fence::Armed {
            return Err(Rejection::NoDeadline { node });
        }
        let declared = host.presence == Presence::DeclaredLost;
        host.presence = Presence::Lost;
        self.note(moment, EventKind::NodeLost { node });
        // Of what may be either, a lease says nothing; with a person's word nothing of it is left.
        let over = |which| which == InPartition::Stops || declared;
        self.end_placements(Some(node), over, moment);
        Ok(moment.changed())
    }

    fn node_back(
        &mut self,
        node: NodeId,
        authority: Authority,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        self.check_authority(authority, moment)?;
        let host = self.known_node(node)?;
        match host.presence {
            Presence::Present => Ok(Outcome::Unchanged),
            Presence::DeclaredLost => Err(Rejection::DeclaredLost { node }),
            Presence::Lost => {
                host.presence = Presence::Present;
                self.note(moment, EventKind::NodeBack { node });
                Ok(moment.changed())
            }
        }
    }

    /// What is kept in a partition has no lease to wait for: the person's word ends it. What stops, or may,
    /// still waits for the silence that `NodeLost` stands for.
    fn declare_lost(&mut self, node: NodeId, moment: Moment) -> Result<Outcome, Rejection> {
        let host = self.known_node(node)?;
        let newly = host.presence == Presence::Present;
        if newly {
            host.presence = Presence::DeclaredLost;
            self.note(moment, EventKind::NodeDeclaredLost { node });
        }
        let ended = self.end_placements(Some(node), |which| which == InPartition::MayRun, moment);
        Ok(if newly || ended > 0 { moment.changed() } else { Outcome::Unchanged })
    }

    /// Ends the epochs of the vms of a host, or of all, that a partition has one of these meanings for.
    fn end_placements(
        &mut self,
        of: Option<NodeId>,
        which: impl Fn(InPartition) -> bool,
        moment: Moment,
    ) -> usize {
        let placed = self.vms.iter().filter(|(_, vm)| which(vm.in_partition));
        let placed: Vec<(VmId, Epoch, NodeId)> = placed
            .filter_map(|(id, vm)| match vm.run {
                Run::Placed { node, epoch, .. } if of.is_none_or(|of| of == node) => {
                    Some((id.clone(), epoch, node))
                }
                Run::Placed { .. } | Run::Unplaced { .. } => None,
            })
            .collect();
        for (id, epoch, node) in &placed {
            self.end(id, *epoch, Unplaced::Lost { node: *node }, moment);
        }
        placed.len()
    }

    fn fence_armed(
        &mut self,
        node: NodeId,
        daemon: DaemonId,
        held: Revision,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let since = self.fencing.since;
        let host = self.known_node(node)?;
        if host.session.as_ref().is_none_or(|session| session.daemon != daemon) {
            return Err(Rejection::StaleSession { node });
        }
        // Only grants from here on have a deadline; an older word is of a time when there was one host.
        if since.is_none_or(|since| held < since) {
            return Err(Rejection::NoDeadline { node });
        }
        if host.fence != Fence::Open {
            return Ok(Outcome::Unchanged);
        }
        host.fence = Fence::Armed;
        self.note(moment, EventKind::NodeFenced { node });
        Ok(moment.changed())
    }

    fn set_lease_times(&mut self, times: LeaseTimes, moment: Moment) -> Result<Outcome, Rejection> {
        if self.fencing.times == times {
            return Ok(Outcome::Unchanged);
        }
        times.check().map_err(|error| Rejection::LeaseTimes { reason: error.to_string() })?;
        if self.fencing.settling.is_some() {
            return Err(Rejection::StillSettling);
        }
        // What nobody can hold needs no waiting for: a young cluster gets the times of its configuration.
        self.fencing.settling_since = moment.revision;
        self.fencing.settling = self.fencing.may_be_held().then_some(self.fencing.times);
        self.fencing.longest_silence_ms = self.fencing.longest_silence_ms.max(self.fencing.silence_ms());
        self.fencing.times = times;
        self.note(moment, EventKind::LeaseTimesSet { times });
        Ok(moment.changed())
    }

    fn begin_incarnation(
        &mut self,
        incarnation: Incarnation,
        survivor: Option<NodeId>,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        survivor.map(|node| self.known_node(node).map(drop)).transpose()?;
        let Some(identity) = self.identity.as_mut() else {
            return Err(Rejection::NotInitialised);
        };
        if incarnation == identity.incarnation {
            return Ok(Outcome::Unchanged);
        }
        if incarnation < identity.incarnation {
            return Err(Rejection::OtherIncarnation { incarnation });
        }
        identity.incarnation = incarnation;
        self.fencing.quarantine = Quarantine::Waiting;
        self.note(moment, EventKind::IncarnationBegun { incarnation });
        self.end_placements(None, |which| which == InPartition::Stops, moment);
        // Every daemon says hello again: what it said before, it said to another incarnation.
        self.nodes.values_mut().for_each(|node| node.session = None);
        let floor = Epoch(incarnation.0.saturating_sub(1).saturating_mul(EPOCHS_PER_INCARNATION));
        self.retired_epoch = self.retired_epoch.max(floor);
        self.vms.values_mut().for_each(|vm| vm.last_epoch = vm.last_epoch.max(floor));
        if let Some(survivor) = survivor {
            self.fencing.longest_silence_ms = self.fencing.recovery_quarantine_ms();
            self.cut_off_all_but(survivor);
            self.review_rules();
        }
        Ok(moment.changed())
    }

    /// What was lost may be found again, and would not know that it was: no certificate of it counts, no token gets
    /// it another one, and no group takes it for a server. It stays known for the volumes that it has, until it is
    /// removed.
    fn cut_off_all_but(&mut self, survivor: NodeId) {
        for (_, node) in self.nodes.iter_mut().filter(|(id, _)| **id != survivor) {
            node.certificates.clear();
            node.roles.remove(&Role::Server);
        }
        self.registry.tokens.clear();
    }

    fn set_admission(
        &mut self,
        node: NodeId,
        admission: Admission,
        moment: Moment,
    ) -> Result<Outcome, Rejection> {
        let host = self.known_node(node)?;
        if host.admission == admission {
            return Ok(Outcome::Unchanged);
        }
        host.admission = admission;
        self.note(moment, EventKind::AdmissionSet { node, admission });
        Ok(moment.changed())
    }

    /// Whether a host may be given something to run, as far as leases are concerned.
    pub(super) fn check_fence(&self, node: NodeId, host: &Node) -> Result<(), Rejection> {
        if self.fencing.quarantine == Quarantine::Waiting {
            return Err(Rejection::Quarantine);
        }
        if host.presence != Presence::Present {
            return Err(Rejection::HostLost { node });
        }
        if host.admission != Admission::Open {
            return Err(Rejection::Cordoned { node });
        }
        match self.unfenced().find(|&other| other != node) {
            Some(other) => Err(Rejection::BesideUnfenced { node, other }),
            None => Ok(()),
        }
    }

    /// Keeps what is known of leases in step with the number of hosts.
    pub(super) fn review_fencing(&mut self, moment: Moment) {
        let hosts: Vec<NodeId> = self.hosts().collect();
        match (hosts.as_slice(), self.fencing.since) {
            ([_, _, ..], None) => {
                self.fencing.since = Some(moment.revision);
                self.fencing.deadlines = Deadlines::Granted;
            }
            ([] | [_], Some(_)) => {
                self.fencing.since = None;
                let alone = hosts.first().and_then(|host| self.nodes.get_mut(host));
                if let Some(alone) = alone {
                    alone.fence = Fence::Open;
                }
            }
            _ => {}
        }
    }

    /// What a node's fence is once it has these roles: a host that comes to others has never been granted
    /// anything without a deadline.
    pub(super) fn fence_of(&self, id: NodeId, runs_vms: bool) -> Fence {
        let before = self.nodes.get(&id).map_or(Fence::None, |node| node.fence);
        let runs = self.vms.values().any(|vm| vm.run.host() == Some(id));
        match (before, runs_vms) {
            (Fence::None, true) if self.hosts().any(|host| host != id) => Fence::Armed,
            (Fence::None, true) => Fence::Open,
            (Fence::Open | Fence::Armed, false) if !runs => Fence::None,
            (before, _) => before,
        }
    }
}

/// What a partition means for the epoch of a vm that is to run this next.
pub(super) fn in_partition(vm: &Vm, keeps: bool) -> InPartition {
    let next = if keeps { InPartition::MayRun } else { InPartition::Stops };
    let before = vm.run.host().map(|_| vm.in_partition);
    if before.is_none_or(|before| before == next) { next } else { InPartition::Either }
}

/// The vm is given another generation to run. What a cut-off host may do is settled with a placement, so another word on
/// that takes a new one: the epoch would stay of both kinds for ever otherwise, and the vm on a host that is lost.
pub(super) fn runs_next(vm: &mut Vm, keeps: bool) {
    vm.in_partition = in_partition(vm, keeps);
    if vm.in_partition == InPartition::Either && vm.run.host().is_some() && vm.wanted() {
        vm.restart = Restart::Requested;
    }
}
