//! The agent and the holder of the host's lease: every grant is an order to it, and what runs under a lease
//! that is over has ended. The rules are those of [`blixard_core::lease`].

use std::collections::BTreeSet;
use std::time::Duration;

use blixard_core::grant::{Grant, Pace, Term};
use blixard_core::lease::clock::{ClockWatch, Trust};
use blixard_core::lease::host::order;
use blixard_core::lease::{Footing, HostLease};
use blixard_core::ports::BootMillis;
use blixard_core::ports::holder::HolderError;
use blixard_core::unit::UnitLease;
use blixard_types::holder::{LeaseName, Until};
use blixard_types::{Epoch, Revision, VmId, chain};
use tokio::task::JoinSet;

use super::Agent;
use crate::{Host, over};

/// Heartbeats that may go without an answer before the stream is given up: its other end may be a machine
/// that is off, which nobody tells.
const UNANSWERED_MAX: u64 = 2;

/// What an answer may take besides: a quorum round, on a machine that does much else.
const ANSWER_TAKES: Duration = Duration::from_millis(300);

/// What the agent keeps of its lease.
#[derive(Default)]
pub(super) struct Lease {
    pub(super) host: HostLease,
    pub(super) pace: Pace,
    watch: ClockWatch,
    trust: Trust,
    /// The order that the holder is being given.
    pub(super) feeding: JoinSet<Fed>,
    /// Vms that were started without a lease, until a later observation shows their units.
    leaseless: BTreeSet<VmId>,
    /// Whether it was said that there is no holder.
    complained: bool,
}

/// An order, and what came of it.
pub(super) struct Fed {
    until: Until,
    held: Result<LeaseName, FeedError>,
    /// Whether it is the first one of this boot that has an end.
    first: bool,
}

/// Why nothing is known to hold an order.
#[derive(Debug, thiserror::Error)]
enum FeedError {
    #[error(transparent)]
    Holder(#[from] HolderError),
    /// What was to start without a lease could start yet.
    #[error("cannot write below {folder} that a lease is held")]
    Mark {
        folder: String,
        #[source]
        cause: std::io::Error,
    },
}

/// Gives the holder an order. Before the first one that has an end, starts without a lease come to nothing.
async fn feed(host: Host, until: Until) -> Fed {
    let failed = |cause| FeedError::Mark { folder: host.layout.epochs_dir.clone(), cause };
    let first = match until {
        Until::At(_) => over::leased(host.files()).await,
        Until::Endless => Ok(false),
    };
    let first = match first {
        Ok(first) => first,
        Err(cause) => return Fed { until, held: Err(failed(cause)), first: false },
    };
    let mut held = host.holder.hold(until).await.map_err(FeedError::from);
    if held.is_err()
        && until == Until::Endless
        && let Err(cause) = over::not_leased(host.files()).await
    {
        held = Err(failed(cause));
    }
    Fed { until, held, first }
}

impl Lease {
    /// How long a heartbeat may go without an answer.
    pub(super) fn patience(&self) -> Duration {
        Duration::from_millis(self.pace.heartbeat_ms.saturating_mul(UNANSWERED_MAX)) + ANSWER_TAKES
    }

    pub(super) fn heartbeat_every(&self) -> Duration {
        Duration::from_millis(self.pace.heartbeat_ms)
    }
}

impl Agent {
    pub(super) fn on_grant(&mut self, grant: Grant) {
        let (now, pace) = (self.host.clock.boot(), grant.pace);
        match self.gate.take(grant, now) {
            Ok(term) => self.lease.host.granted(term, now),
            Err(refusal) => return tracing::warn!(%refusal, "a grant is not taken"),
        }
        self.lease.pace = pace;
        self.feed();
        let refused = std::mem::take(&mut self.refused);
        for vm in refused {
            self.set_work(&vm, blixard_core::reconcile::Work::Idle);
        }
    }

    /// Gives the holder the newest order, one at a time.
    fn feed(&mut self) {
        let Some(until) = order(self.gate.term()).filter(|_| self.lease.feeding.is_empty()) else { return };
        self.lease.feeding.spawn(feed(self.host.clone(), until));
    }

    pub(super) fn on_fed(&mut self, fed: Option<Fed>) {
        if fed.as_ref().is_some_and(|fed| fed.first) {
            // A start without a lease may have come before: what is seen from now on tells.
            self.observation.forget();
        }
        match fed {
            Some(Fed { until, held: Ok(lease), .. }) => {
                let held = lease.to_string();
                self.lease.complained = false;
                if let Some(over) = self.lease.host.held(until, lease) {
                    tracing::warn!(%over, held, "the lease was over; what ran under it was ended");
                    self.end_runs();
                }
                if order(self.gate.term()) != Some(until) {
                    self.feed();
                }
            }
            Some(Fed { until, held: Err(error), .. }) => {
                self.lease.host.not_held();
                if !std::mem::replace(&mut self.lease.complained, true) {
                    tracing::warn!(%until, error = chain(&error), "no lease is held");
                }
            }
            None => self.lease.host.not_held(),
        }
    }

    /// What has run under the lease before the one that is held now was ended with it.
    fn end_runs(&mut self) {
        for (vm, memory) in &mut self.memories {
            let kept = self.units.get(vm).is_some_and(|unit| !self.lease.host.has_ended(unit));
            let granted = self.gate.assignments().and_then(|set| set.assignments.get(vm));
            if let Some(started) = memory.running.filter(|_| !kept && granted.is_some_and(may_stop)) {
                memory.fenced = Some(started.epoch);
            }
        }
        self.observation.look_at_all();
    }

    /// A daemon before this one may have started what has ended with its lease since.
    pub(super) fn end_units_of_earlier_leases(&mut self) {
        for (vm, unit) in self.units.iter().filter(|(_, unit)| self.lease.host.has_ended(unit)) {
            self.memories.entry(vm.clone()).or_default().fenced = unit.epoch;
        }
    }

    /// Under what a vm is started now; `None` outside if it cannot be.
    pub(super) fn start_under(&mut self, vm: &VmId, now: BootMillis) -> Option<UnitLease> {
        match self.lease.host.footing(now) {
            Footing::Held(name) => Some(UnitLease { name: name.clone(), grace_ms: self.lease.pace.grace_ms }),
            Footing::Leaseless | Footing::NotYet => {
                self.lease.leaseless.insert(vm.clone());
                None
            }
        }
    }

    /// A start under one lease that has failed after its end was ended with it.
    pub(super) fn end_start(&mut self, vm: &VmId, epoch: Epoch, under: Option<&LeaseName>) {
        let now = self.host.clock.boot();
        let Some(under) = under else { return };
        if !matches!(self.lease.host.footing(now), Footing::Held(held) if held == under) {
            self.memories.entry(vm.clone()).or_default().fenced = Some(epoch);
        }
    }

    /// The vm was observed after all that was done about it.
    pub(super) fn is_seen(&mut self, vm: &VmId) {
        self.lease.leaseless.remove(vm);
    }

    /// The grant whose end everything here that may stop obeys.
    pub(super) fn fenced_by(&self) -> Option<Revision> {
        let leaseless = |vm: &VmId| self.lease.leaseless.contains(vm);
        let fences = self.observation.made && self.lease.host.fences(&self.units, &self.memories, leaseless);
        self.gate.holds().filter(|_| fences).map(|(_, revision)| revision)
    }

    /// Whether the clock may be trusted with another lease: it runs on from when a heartbeat is sent.
    pub(super) fn clock_is_steady(&mut self) -> bool {
        let trust = self.lease.watch.observe(self.host.clock.boot(), self.host.clock.raw());
        if trust != self.lease.trust {
            self.lease.trust = trust;
            match trust {
                Trust::Off => tracing::error!("the clock is slewed; the lease is not renewed by it"),
                Trust::Steady => tracing::info!("the clock is steady again"),
            }
        }
        trust == Trust::Steady || !matches!(self.gate.term(), Term::Until(_))
    }
}

fn may_stop(assignment: &blixard_core::assignment::Assignment) -> bool {
    match &assignment.intent {
        blixard_core::assignment::Intent::Run(run) => !run.spec.keeps_in_partition(),
        blixard_core::assignment::Intent::Stop => true,
    }
}
