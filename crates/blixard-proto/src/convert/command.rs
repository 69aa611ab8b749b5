//! The encoding of what is in the log.

use blixard_core::command::{Command, Deploy, Envelope, RememberEvaluation, TakeOver, VmDefinition};
use blixard_core::ports::UnixMillis;
use blixard_core::principal::Principal;
use blixard_core::rules::Rules;
use blixard_core::signature::{BuilderSignature, NodeKey};
use blixard_core::state::{EvaluationKey, Files, RememberedVm};
use blixard_types::{ClusterId, DaemonId, DeploymentId, Epoch, NodeId, RequestId, Revision};
use prost::Message;

use super::fence::{fence_from, fence_to};
use super::membership::{membership_from, membership_to};
use super::placement::{placement_from, placement_to};
use super::vm::{desired, desired_to};
use super::volume::{volume_from, volume_to};
use super::{
    ConvertError, closure_from, closure_to, facts_from, facts_to, hash, hash_bytes, random_id, report_from,
    report_to,
};
use super::{role_to, roles_from, spec_from, spec_to, store_path, vm_id};
use crate::v1::{self, envelope};

/// The newest version of the encoding that this program reads. It writes this one where an entry says who asks for it,
/// which older programs do not know.
pub const ENVELOPE_VERSION: u32 = 2;
/// The version of entries that do not say it, and of all before.
const NAMELESS_VERSION: u32 = 1;

fn id(bytes: [u8; 16]) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&bytes)
}

/// Encodes a log entry.
///
/// # Errors
/// When a spec cannot be written as JSON, which does not happen for one that was parsed.
pub fn encode_envelope(envelope: &Envelope) -> Result<Vec<u8>, ConvertError> {
    let message = v1::Envelope {
        version: if envelope.by.is_some() { ENVELOPE_VERSION } else { NAMELESS_VERSION },
        request_id: id(envelope.request.0),
        at_ms: envelope.at.0,
        by: envelope.by.map(principal_to),
        command: Some(command_to(&envelope.command)?),
    };
    Ok(message.encode_to_vec())
}

/// Decodes a log entry.
///
/// # Errors
/// When it is of another version, holds an unknown command, or is no entry at all: the server that
/// meets it has to stop.
pub fn decode_envelope(bytes: &[u8]) -> Result<Envelope, ConvertError> {
    let message = v1::Envelope::decode(bytes).map_err(|error| ConvertError::of("envelope", &error))?;
    if !(NAMELESS_VERSION..=ENVELOPE_VERSION).contains(&message.version) {
        let read = format!("{NAMELESS_VERSION} to {ENVELOPE_VERSION}");
        let problem = format!("version {} is unknown, this server reads {read}", message.version);
        return Err(ConvertError { field: "envelope", problem });
    }
    let unknown = || ConvertError::of("command", "is unknown to this server");
    Ok(Envelope {
        request: RequestId(random_id("request_id", &message.request_id)?),
        at: UnixMillis(message.at_ms),
        by: message.by.map(principal_from).transpose()?,
        command: command_from(message.command.ok_or_else(unknown)?)?,
    })
}

fn principal_to(principal: Principal) -> envelope::Principal {
    use envelope::principal::Who;
    let who = match principal {
        Principal::User { node, uid } => Who::User(envelope::User { node: node.0, uid }),
        Principal::Node { node } => Who::Node(node.0),
        Principal::TokenHolder => Who::TokenHolder(envelope::TokenHolder {}),
    };
    envelope::Principal { who: Some(who) }
}

fn principal_from(principal: envelope::Principal) -> Result<Principal, ConvertError> {
    use envelope::principal::Who;
    match principal.who {
        Some(Who::User(user)) => Ok(Principal::User { node: NodeId(user.node), uid: user.uid }),
        Some(Who::Node(node)) => Ok(Principal::Node { node: NodeId(node) }),
        Some(Who::TokenHolder(_)) => Ok(Principal::TokenHolder),
        None => Err(ConvertError::of("by", "is unknown to this server")),
    }
}

fn command_to(command: &Command) -> Result<envelope::Command, ConvertError> {
    use envelope::Command as To;
    Ok(match command {
        Command::InitCluster { cluster, rules } => {
            To::InitCluster(envelope::InitCluster { cluster_id: id(cluster.0), rules: rules.0 })
        }
        Command::RegisterNode { node, name, roles } => To::RegisterNode(envelope::RegisterNode {
            node: node.0,
            name: name.to_string(),
            roles: roles.iter().map(|&role| role_to(role).into()).collect(),
        }),
        Command::OpenSession { node, daemon, boot, facts } => To::OpenSession(envelope::OpenSession {
            node: node.0,
            daemon_id: id(daemon.0),
            boot_id: boot.clone(),
            facts: Some(facts_to(facts)),
        }),
        Command::SetNodeKey { node, key } => {
            let key = bytes::Bytes::copy_from_slice(&key.0);
            To::SetNodeKey(envelope::SetNodeKey { node: node.0, key })
        }
        Command::Deploy(deploy) => To::Deploy(deploy_to(deploy)?),
        Command::Place { vm, node, epoch } => {
            To::Place(envelope::Place { vm: vm.to_string(), node: node.0, epoch: epoch.0 })
        }
        Command::Report { node, daemon, sequence, vm, epoch, report } => To::Report(envelope::Report {
            sequence: *sequence,
            node: node.0,
            daemon_id: id(daemon.0),
            vm: vm.to_string(),
            epoch: epoch.0,
            report: Some(report_to(report)),
        }),
        Command::SetDesired { vm, desired } => {
            To::SetDesired(envelope::SetDesired { vm: vm.to_string(), desired: desired_to(*desired).into() })
        }
        Command::MoveVm { vm, epoch } => To::MoveVm(envelope::MoveVm { vm: vm.to_string(), epoch: epoch.0 }),
        Command::RestartVm { vm } => To::RestartVm(envelope::RestartVm { vm: vm.to_string() }),
        Command::DeleteVm { vm, files } => {
            let discard_files = *files == Files::Discard;
            To::DeleteVm(envelope::DeleteVm { vm: vm.to_string(), discard_files })
        }
        Command::ForgetGenerations { keep } => {
            To::ForgetGenerations(envelope::ForgetGenerations { keep: *keep })
        }
        Command::RememberEvaluation(remember) => To::RememberEvaluation(remember_to(remember)),
        Command::Volume(command) => To::Volume(volume_to(command)),
        Command::Placement(command) => To::Placement(placement_to(command)),
        Command::Fence(command) => To::Fence(fence_to(command)),
        Command::Membership(command) => To::Membership(membership_to(command)),
        Command::Audit { revision, digest, rules } => {
            To::Audit(envelope::Audit { revision: revision.0, digest: hash_bytes(*digest), rules: rules.0 })
        }
        Command::KnowRules { node, newest } => {
            To::KnowRules(envelope::KnowRules { node: node.0, newest: newest.0 })
        }
    })
}

fn command_from(command: envelope::Command) -> Result<Command, ConvertError> {
    use envelope::Command as From;
    Ok(match command {
        From::InitCluster(init) => Command::InitCluster {
            cluster: ClusterId(random_id("cluster_id", &init.cluster_id)?),
            rules: Rules(init.rules),
        },
        From::RegisterNode(register) => Command::RegisterNode {
            node: NodeId(register.node),
            name: register.name.parse().map_err(|error| ConvertError::of("name", &error))?,
            roles: roles_from(&register.roles)?,
        },
        From::OpenSession(open) => Command::OpenSession {
            node: NodeId(open.node),
            daemon: DaemonId(random_id("daemon_id", &open.daemon_id)?),
            boot: open.boot_id,
            facts: facts_from(open.facts)?,
        },
        From::SetNodeKey(set) => {
            let key =
                set.key.as_ref().try_into().map_err(|_| ConvertError::of("key", "expected 32 bytes"))?;
            Command::SetNodeKey { node: NodeId(set.node), key: NodeKey(key) }
        }
        From::Deploy(deploy) => Command::Deploy(deploy_from(deploy)?),
        From::Place(place) => {
            Command::Place { vm: vm_id(&place.vm)?, node: NodeId(place.node), epoch: Epoch(place.epoch) }
        }
        From::Report(report) => Command::Report {
            sequence: report.sequence,
            node: NodeId(report.node),
            daemon: DaemonId(random_id("daemon_id", &report.daemon_id)?),
            vm: vm_id(&report.vm)?,
            epoch: Epoch(report.epoch),
            report: report_from(report.report)?,
        },
        From::SetDesired(set) => Command::SetDesired { vm: vm_id(&set.vm)?, desired: desired(set.desired)? },
        From::MoveVm(moved) => Command::MoveVm { vm: vm_id(&moved.vm)?, epoch: Epoch(moved.epoch) },
        From::RestartVm(restart) => Command::RestartVm { vm: vm_id(&restart.vm)? },
        From::DeleteVm(delete) => {
            let files = if delete.discard_files { Files::Discard } else { Files::Keep };
            Command::DeleteVm { vm: vm_id(&delete.vm)?, files }
        }
        From::ForgetGenerations(forget) => Command::ForgetGenerations { keep: forget.keep },
        From::RememberEvaluation(remember) => Command::RememberEvaluation(remember_from(remember)?),
        From::Volume(command) => Command::Volume(volume_from(command)?),
        From::Placement(command) => Command::Placement(placement_from(command)?),
        From::Fence(command) => Command::Fence(fence_from(command)?),
        From::Membership(change) => Command::Membership(membership_from(change)?),
        From::Audit(audit) => Command::Audit {
            revision: Revision(audit.revision),
            digest: hash("digest", &audit.digest)?,
            rules: Rules(audit.rules),
        },
        From::KnowRules(know) => Command::KnowRules { node: NodeId(know.node), newest: Rules(know.newest) },
    })
}

fn deploy_to(deploy: &Deploy) -> Result<envelope::Deploy, ConvertError> {
    let definition = |vm: &VmDefinition| {
        Ok(envelope::VmDefinition {
            vm: vm.vm.to_string(),
            drv: vm.drv.to_string(),
            system: vm.system.clone(),
            closure: Some(closure_to(&vm.closure)),
            spec: spec_to(&vm.spec)?,
        })
    };
    Ok(envelope::Deploy {
        deployment_id: id(deploy.deployment.0),
        source: deploy.source.to_string(),
        take_over: deploy.take_over == TakeOver::Allow,
        vms: deploy.vms.iter().map(definition).collect::<Result<_, ConvertError>>()?,
        builder: deploy.builder.as_ref().map(|signature| signature.node.0),
        signature: deploy
            .builder
            .as_ref()
            .map(|builder| bytes::Bytes::copy_from_slice(&builder.signature))
            .unwrap_or_default(),
    })
}

fn deploy_from(deploy: envelope::Deploy) -> Result<Deploy, ConvertError> {
    let definition = |vm: envelope::VmDefinition| {
        Ok(VmDefinition {
            vm: vm_id(&vm.vm)?,
            drv: store_path("drv", &vm.drv)?,
            system: vm.system,
            closure: closure_from(vm.closure)?,
            spec: spec_from(&vm.spec)?,
        })
    };
    Ok(Deploy {
        deployment: DeploymentId(random_id("deployment_id", &deploy.deployment_id)?),
        source: deploy.source.parse().map_err(|error| ConvertError::of("source", &error))?,
        take_over: if deploy.take_over { TakeOver::Allow } else { TakeOver::Refuse },
        vms: deploy.vms.into_iter().map(definition).collect::<Result<_, ConvertError>>()?,
        builder: builder_from(deploy.builder, &deploy.signature)?,
    })
}

fn builder_from(node: Option<u64>, signature: &[u8]) -> Result<Option<BuilderSignature>, ConvertError> {
    let Some(node) = node else { return Ok(None) };
    let signature = signature.try_into().map_err(|_| ConvertError::of("signature", "expected 64 bytes"))?;
    Ok(Some(BuilderSignature { node: NodeId(node), signature }))
}

fn remember_to(remember: &RememberEvaluation) -> envelope::RememberEvaluation {
    let vm = |vm: &RememberedVm| envelope::RememberedVm {
        attribute: vm.attribute.clone(),
        drv: vm.drv.to_string(),
        out: vm.out.to_string(),
        system: vm.system.clone(),
        spec_digest: hash_bytes(vm.spec),
    };
    let key = hash_bytes(remember.key.0);
    envelope::RememberEvaluation { key, vms: remember.vms.iter().map(vm).collect() }
}

fn remember_from(remember: envelope::RememberEvaluation) -> Result<RememberEvaluation, ConvertError> {
    let vm = |vm: envelope::RememberedVm| {
        Ok(RememberedVm {
            attribute: vm.attribute,
            drv: store_path("drv", &vm.drv)?,
            out: store_path("out", &vm.out)?,
            system: vm.system,
            spec: hash("spec_digest", &vm.spec_digest)?,
        })
    };
    Ok(RememberEvaluation {
        key: EvaluationKey(hash("key", &remember.key)?),
        vms: remember.vms.into_iter().map(vm).collect::<Result<_, ConvertError>>()?,
    })
}

#[cfg(test)]
mod tests;
