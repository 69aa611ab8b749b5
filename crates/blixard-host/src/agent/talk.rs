//! What the agent says to its server, and what it hears.

use blixard_core::grant::{Heartbeat, RunningVm};
use blixard_core::ports::units::ObservedUnit;
use blixard_core::reconcile::Work;
use blixard_core::state::VmReport;
use blixard_proto::v1::{HostMessage, host_message, server_message};
use blixard_proto::{HostReport, decode_grant, encode_heartbeat, encode_host_report};
use blixard_types::{Epoch, VmId};
use tokio::time::Instant;

use super::{Agent, RETRY_AFTER};
use crate::link::LinkEvent;

impl Agent {
    pub(super) fn on_link(&mut self, event: LinkEvent) {
        match event {
            LinkEvent::Up(server) => {
                self.server = Some(server);
                self.send_heartbeat();
            }
            LinkEvent::Message(server_message::Message::Grant(grant)) => {
                self.unanswered = None;
                match decode_grant(grant) {
                    Ok(grant) => self.on_grant(grant),
                    Err(error) => tracing::warn!(%error, "a grant cannot be read"),
                }
            }
            LinkEvent::Message(server_message::Message::News(_)) => self.send_heartbeat(),
            LinkEvent::Message(server_message::Message::ReportAnswer(answer)) => {
                let Some((vm, epoch, report)) = self.reports.open.remove(&answer.sequence) else {
                    return;
                };
                if !answer.refusal.is_empty() {
                    // The state has moved on. What to do about it is in the next grant, not in the one
                    // that this report came from.
                    tracing::info!(%vm, %epoch, refusal = answer.refusal, "a report was refused");
                    self.refused.insert(vm);
                    return self.send_heartbeat();
                }
                let memory = self.memories.entry(vm).or_default();
                memory.work = Work::Idle;
                memory.acknowledged = Some((epoch, report));
            }
            // The agent ends with it, before it comes here.
            LinkEvent::Replaced => {}
            LinkEvent::Down => {
                (self.server, self.unanswered) = (None, None);
                // What was not answered is said again on the next stream.
                for (_, (vm, ..)) in std::mem::take(&mut self.reports.open) {
                    self.set_work(&vm, Work::Idle);
                }
            }
        }
    }

    pub(super) fn send_report(&mut self, vm: VmId, epoch: Epoch, report: VmReport) {
        self.reports.sequence += 1;
        let sequence = self.reports.sequence;
        let message = HostReport { sequence, vm: vm.clone(), epoch, report: report.clone() };
        if self.send(host_message::Message::Report(encode_host_report(&message))) {
            self.set_work(&vm, Work::Busy);
            self.reports.open.insert(sequence, (vm, epoch, report));
        }
    }

    pub(super) fn send_heartbeat(&mut self) {
        let now = Instant::now();
        self.heartbeat_at = now + self.lease.heartbeat_every();
        if self.server.is_none() || !self.clock_is_steady() {
            return;
        }
        let since = *self.unanswered.get_or_insert(now);
        if now.duration_since(since) > self.lease.patience() {
            tracing::warn!("the server does not answer; another stream is opened");
            return self.lost.notify_one();
        }
        let running = |unit: &ObservedUnit| {
            let (vm, epoch, generation) = (unit.vm.clone(), unit.epoch?, unit.generation?);
            Some(RunningVm { vm, epoch, generation })
        };
        let heartbeat = Heartbeat {
            node: self.host.hello.node,
            boot: self.host.hello.boot.clone(),
            daemon: self.host.hello.daemon,
            n: self.gate.next_heartbeat(self.host.clock.boot()),
            running: self.units.values().filter_map(running).collect(),
            holds: self.gate.holds(),
            fenced_by: self.fenced_by(),
        };
        self.send(host_message::Message::Heartbeat(encode_heartbeat(&heartbeat)));
    }

    /// Sends without waiting. What does not fit is said again: heartbeats by the clock, reports by the
    /// next plan.
    fn send(&mut self, message: host_message::Message) -> bool {
        let Some(server) = &self.server else { return false };
        let sent = server.try_send(HostMessage { message: Some(message) }).is_ok();
        if !sent {
            let soon = Instant::now() + RETRY_AFTER;
            self.again_at = Some(self.again_at.map_or(soon, |at| at.min(soon)));
        }
        sent
    }
}
