//! `apply`: the one place where the cluster's state changes.
//!
//! Owns: every invariant of the state, checked here because two proposers may race and only the log
//! decides who was first. Refuses to know: the clock (time is in the command), randomness, and who
//! proposed: who asked for a change is kept with it, and decides nothing. A refused command changes nothing except that its outcome is remembered.

mod claims;
mod deploy;
mod evaluation;
mod fence;
mod garbage;
mod lifecycle;
mod membership;
mod node;
mod placement;
mod rejection;
mod rollback;
mod rules;
mod volume;

use blixard_types::{DaemonId, LogPosition, NodeId, Revision};

pub use rejection::{MembershipRejection, Rejection, VolumeRejection};

use crate::command::{Command, Envelope, Outcome};
use crate::ports::UnixMillis;
use crate::principal::Principal;
use crate::state::{ClusterState, Event, EventKind};

/// Where and when a command is applied.
#[derive(Debug, Clone, Copy)]
struct Moment {
    revision: Revision,
    term: u64,
    at: UnixMillis,
    by: Option<Principal>,
}

impl ClusterState {
    /// Applies one committed command.
    ///
    /// The same call applied again, by request id, gives the outcome of the first time.
    ///
    /// # Errors
    /// When an invariant forbids the change; the state is as before.
    pub fn apply(&mut self, envelope: &Envelope, position: LogPosition) -> Result<Outcome, Rejection> {
        self.applied = position;
        self.requests.advance(position.term, envelope.at);
        if let Some(outcome) = self.requests.outcome(envelope.request) {
            return outcome.clone();
        }
        if self.requests.is_full(envelope.command.asker()) {
            // Not remembered: asked again, it may be taken.
            return Err(Rejection::TooManyCalls);
        }
        let (revision, term) = (position.revision(), position.term);
        let moment = Moment { revision, term, at: envelope.at, by: envelope.by };
        let outcome = self.change(&envelope.command, moment);
        self.requests.remember(envelope.request, outcome.clone());
        outcome
    }

    fn change(&mut self, command: &Command, moment: Moment) -> Result<Outcome, Rejection> {
        if self.identity.is_none() && !matches!(command, Command::InitCluster { .. }) {
            return Err(Rejection::NotInitialised);
        }
        match command {
            Command::InitCluster { cluster, rules } => self.init_cluster(*cluster, *rules, moment),
            Command::RegisterNode { node, name, roles } => self.register_node(*node, name, roles, moment),
            Command::OpenSession { node, daemon, boot, facts } => {
                self.open_session(*node, *daemon, boot, facts, moment)
            }
            Command::SetNodeKey { node, key } => self.set_node_key(*node, *key, moment),
            Command::Deploy(deploy) => self.deploy(deploy, moment),
            Command::Place { vm, node, epoch } => self.place(vm, *node, *epoch, moment),
            Command::Report { node, daemon, sequence, vm, epoch, report } => {
                let speaker = Speaker { node: *node, daemon: *daemon, sequence: *sequence };
                self.report(speaker, vm, *epoch, report, moment)
            }
            Command::SetDesired { vm, desired } => self.set_desired(vm, *desired, moment),
            Command::RestartVm { vm } => self.restart_vm(vm, moment),
            Command::MoveVm { vm, epoch } => self.move_vm(vm, *epoch, moment),
            Command::DeleteVm { vm, files } => self.delete_vm(vm, *files, moment),
            Command::ForgetGenerations { keep } => Ok(self.forget_generations(*keep, moment)),
            Command::RememberEvaluation(remember) => Ok(self.remember_evaluation(remember, moment)),
            Command::Volume(command) => self.change_volume(command, moment),
            Command::Placement(command) => self.change_placement(command, moment),
            Command::Fence(command) => self.fence(command, moment),
            Command::Membership(command) => self.change_membership(command, moment),
            Command::KnowRules { node, newest } => self.know_rules(*node, *newest, moment),
            // What it says is compared by whoever holds the state; the state itself is not changed.
            Command::Audit { .. } => Ok(Outcome::Unchanged),
        }
    }

    fn note(&mut self, moment: Moment, kind: EventKind) {
        let event = Event { revision: moment.revision, at: moment.at, by: moment.by, kind };
        if let Some(forgotten) = self.events.push(event) {
            self.events_forgotten = forgotten.revision;
        }
    }
}

/// Who reports, and the how-manieth time.
#[derive(Debug, Clone, Copy)]
struct Speaker {
    node: NodeId,
    daemon: DaemonId,
    sequence: u64,
}

impl Moment {
    const fn changed(self) -> Outcome {
        Outcome::Changed { revision: self.revision }
    }
}

#[cfg(test)]
mod tests;
