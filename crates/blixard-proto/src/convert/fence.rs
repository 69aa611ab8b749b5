//! Commands about hosts and their leases.

use blixard_core::command::FenceCommand;
use blixard_core::lease::LeaseTimes;
use blixard_core::ports::UnixMillis;
use blixard_core::state::{Admission, Authority};
use blixard_types::{DaemonId, Incarnation, NodeId, Revision};

use super::{ConvertError, random_id};
use crate::v1::{self, fence_command as message};

pub(crate) fn fence_to(command: &FenceCommand) -> v1::FenceCommand {
    use message::Command as To;
    let command = match *command {
        FenceCommand::NodeLost { node, authority } => {
            To::NodeLost(message::NodeLost { node: node.0, authority: Some(authority_to(authority)) })
        }
        FenceCommand::NodeBack { node, authority } => {
            To::NodeBack(message::NodeBack { node: node.0, authority: Some(authority_to(authority)) })
        }
        FenceCommand::DeclareLost { node } => To::DeclareLost(message::DeclareLost { node: node.0 }),
        FenceCommand::FenceArmed { node, daemon, held } => {
            let daemon_id = bytes::Bytes::copy_from_slice(&daemon.0);
            To::FenceArmed(message::FenceArmed { node: node.0, daemon_id, held: held.0 })
        }
        FenceCommand::SetLeaseTimes { times } => To::SetLeaseTimes(times_to(times)),
        FenceCommand::SettleLeases { authority, since } => {
            let authority = Some(authority_to(authority));
            To::SettleLeases(message::SettleLeases { authority, since: since.0 })
        }
        FenceCommand::BeginIncarnation { incarnation, survivor } => {
            let survivor = survivor.map(|node| node.0);
            To::BeginIncarnation(message::BeginIncarnation { incarnation: incarnation.0, survivor })
        }
        FenceCommand::EndQuarantine { authority } => {
            To::EndQuarantine(message::EndQuarantine { authority: Some(authority_to(authority)) })
        }
        FenceCommand::SetAdmission { node, admission } => {
            let (admission, max_parallel, deadline) = admission_to(admission);
            To::SetAdmission(message::SetAdmission {
                node: node.0,
                admission: admission.into(),
                max_parallel,
                deadline_ms: deadline.map(|at| at.0),
            })
        }
    };
    v1::FenceCommand { command: Some(command) }
}

pub(crate) fn fence_from(command: v1::FenceCommand) -> Result<FenceCommand, ConvertError> {
    use message::Command as From;
    let unknown = || ConvertError::of("fence", "is unknown to this server");
    Ok(match command.command.ok_or_else(unknown)? {
        From::NodeLost(lost) => FenceCommand::NodeLost {
            node: NodeId(lost.node),
            authority: authority_from(lost.authority.as_ref())?,
        },
        From::NodeBack(back) => FenceCommand::NodeBack {
            node: NodeId(back.node),
            authority: authority_from(back.authority.as_ref())?,
        },
        From::DeclareLost(declare) => FenceCommand::DeclareLost { node: NodeId(declare.node) },
        From::FenceArmed(armed) => FenceCommand::FenceArmed {
            node: NodeId(armed.node),
            daemon: DaemonId(random_id("daemon_id", &armed.daemon_id)?),
            held: Revision(armed.held),
        },
        From::SetLeaseTimes(times) => FenceCommand::SetLeaseTimes { times: times_from(&times) },
        From::SettleLeases(settle) => FenceCommand::SettleLeases {
            authority: authority_from(settle.authority.as_ref())?,
            since: Revision(settle.since),
        },
        From::BeginIncarnation(begin) => FenceCommand::BeginIncarnation {
            incarnation: Incarnation(begin.incarnation),
            survivor: begin.survivor.map(NodeId),
        },
        From::EndQuarantine(end) => {
            FenceCommand::EndQuarantine { authority: authority_from(end.authority.as_ref())? }
        }
        From::SetAdmission(set) => FenceCommand::SetAdmission {
            node: NodeId(set.node),
            admission: admission_from(set.admission, set.max_parallel, set.deadline_ms.map(UnixMillis))?,
        },
    })
}

fn authority_to(authority: Authority) -> message::Authority {
    message::Authority { incarnation: authority.incarnation.0, term: authority.term }
}

fn authority_from(authority: Option<&message::Authority>) -> Result<Authority, ConvertError> {
    let authority = authority.ok_or_else(|| ConvertError::missing("authority"))?;
    Ok(Authority { incarnation: Incarnation(authority.incarnation), term: authority.term })
}

/// The times of leases.
pub(crate) fn times_to(times: LeaseTimes) -> v1::LeaseTimes {
    let LeaseTimes { heartbeat_ms, lease_ms, grace_ms, silence_ms, tick_ms, election_ms } = times;
    v1::LeaseTimes { heartbeat_ms, lease_ms, grace_ms, silence_ms, tick_ms, election_ms }
}

/// The times of leases; `apply` says whether they are safe.
pub(crate) fn times_from(times: &v1::LeaseTimes) -> LeaseTimes {
    let &v1::LeaseTimes { heartbeat_ms, lease_ms, grace_ms, silence_ms, tick_ms, election_ms } = times;
    LeaseTimes { heartbeat_ms, lease_ms, grace_ms, silence_ms, tick_ms, election_ms }
}

/// Whether vms are placed on a host, how many are moved away at a time, and until when.
pub(crate) fn admission_to(admission: Admission) -> (v1::Admission, u32, Option<UnixMillis>) {
    match admission {
        Admission::Open => (v1::Admission::Open, 0, None),
        Admission::Cordoned => (v1::Admission::Cordoned, 0, None),
        Admission::Draining { max_parallel, deadline } => (v1::Admission::Draining, max_parallel, deadline),
    }
}

/// Whether vms are placed on a host.
///
/// # Errors
/// When the number has no meaning to this program.
pub fn admission_from(
    admission: i32,
    max_parallel: u32,
    deadline: Option<UnixMillis>,
) -> Result<Admission, ConvertError> {
    match v1::Admission::try_from(admission) {
        Ok(v1::Admission::Open) => Ok(Admission::Open),
        Ok(v1::Admission::Cordoned) => Ok(Admission::Cordoned),
        Ok(v1::Admission::Draining) => Ok(Admission::Draining { max_parallel, deadline }),
        Ok(v1::Admission::Unspecified) | Err(_) => {
            Err(ConvertError::of("admission", &format!("{admission} is unknown")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_reads_back_as_it_was() {
        let authority = Authority { incarnation: Incarnation(2), term: 7 };
        let (node, times) = (NodeId(3), LeaseTimes::default());
        let admissions =
            [Admission::Open, Admission::Cordoned, Admission::Draining { max_parallel: 2, deadline: None }];
        let dated = Admission::Draining { max_parallel: 1, deadline: Some(UnixMillis(9)) };
        let mut commands = vec![
            FenceCommand::NodeLost { node, authority },
            FenceCommand::NodeBack { node, authority },
            FenceCommand::DeclareLost { node },
            FenceCommand::FenceArmed { node, daemon: DaemonId([9; 16]), held: Revision(40) },
            FenceCommand::SetLeaseTimes { times },
            FenceCommand::SettleLeases { authority, since: Revision(7) },
            FenceCommand::BeginIncarnation { incarnation: Incarnation(2), survivor: None },
            FenceCommand::BeginIncarnation { incarnation: Incarnation(3), survivor: Some(NodeId(2)) },
            FenceCommand::EndQuarantine { authority },
        ];
        commands.extend(
            admissions
                .into_iter()
                .chain([dated])
                .map(|admission| FenceCommand::SetAdmission { node, admission }),
        );
        for command in commands {
            assert_eq!(fence_from(fence_to(&command)), Ok(command));
        }
    }

    #[test]
    fn what_is_unknown_is_refused() {
        assert!(fence_from(v1::FenceCommand { command: None }).is_err());
        assert!(admission_from(9, 0, None).is_err() && admission_from(0, 0, None).is_err());
        let lost = message::Command::NodeLost(message::NodeLost { node: 1, authority: None });
        assert!(fence_from(v1::FenceCommand { command: Some(lost) }).is_err());
    }
}
