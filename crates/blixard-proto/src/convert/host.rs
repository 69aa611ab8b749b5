//! Heartbeats, grants and reports.

use std::collections::{BTreeMap, BTreeSet};

use blixard_core::assignment::{Assignment, AssignmentSet, Intent, RunIntent, VolumeLife};
use blixard_core::grant::{Grant, GrantContent, Heartbeat, Pace, RunningVm};
use blixard_core::state::{Made, NodeFacts, VmReport};
use blixard_types::{DaemonId, Epoch, GenerationNumber, Incarnation, NodeId, Revision, VmId, VolumeName};

use super::{
    ConvertError, closure_from, closure_to, facts_from, facts_to, random_id, report_from, report_to,
};
use super::{spec_from, spec_to, vm_id, volume_name};
use crate::v1::{self, assignment, grant};

/// How a server refuses the hello of a daemon whose place another one has taken, for good.
pub const SESSION_TAKEN: tonic::Code = tonic::Code::AlreadyExists;

/// The first message of a host's stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hello {
    /// The host.
    pub node: NodeId,
    /// Its daemon.
    pub daemon: DaemonId,
    /// The kernel's boot id.
    pub boot: String,
    /// What the machine is.
    pub facts: NodeFacts,
}

/// A host's word on one vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// Counts the daemon's reports, over all its streams.
    pub sequence: u64,
    /// The vm.
    pub vm: VmId,
    /// The placement.
    pub epoch: Epoch,
    /// What.
    pub report: VmReport,
}

/// Encodes a hello.
#[must_use]
pub fn encode_hello(hello: &Hello) -> v1::Hello {
    v1::Hello {
        node: hello.node.0,
        daemon_id: bytes::Bytes::copy_from_slice(&hello.daemon.0),
        boot_id: hello.boot.clone(),
        facts: Some(facts_to(&hello.facts)),
    }
}

/// Decodes a hello.
///
/// # Errors
/// When a field is missing or malformed.
pub fn decode_hello(hello: v1::Hello) -> Result<Hello, ConvertError> {
    Ok(Hello {
        node: NodeId(hello.node),
        daemon: DaemonId(random_id("daemon_id", &hello.daemon_id)?),
        boot: hello.boot_id,
        facts: facts_from(hello.facts)?,
    })
}

/// Encodes a heartbeat; who sends it is known from the hello.
#[must_use]
pub fn encode_heartbeat(heartbeat: &Heartbeat) -> v1::Heartbeat {
    let running = |vm: &RunningVm| v1::RunningVm {
        vm: vm.vm.to_string(),
        epoch: vm.epoch.0,
        generation: vm.generation.0,
    };
    let held = |(incarnation, revision): (Incarnation, Revision)| v1::HeldSet {
        incarnation: incarnation.0,
        revision: revision.0,
    };
    v1::Heartbeat {
        n: heartbeat.n,
        running: heartbeat.running.iter().map(running).collect(),
        holds: heartbeat.holds.map(held),
        fenced_by: heartbeat.fenced_by.map(|revision| revision.0),
    }
}

/// Decodes a heartbeat of the host that said this hello.
///
/// # Errors
/// When a field is malformed.
pub fn decode_heartbeat(hello: &Hello, heartbeat: v1::Heartbeat) -> Result<Heartbeat, ConvertError> {
    let running = |vm: v1::RunningVm| {
        let (epoch, generation) = (Epoch(vm.epoch), GenerationNumber(vm.generation));
        Ok(RunningVm { vm: vm_id(&vm.vm)?, epoch, generation })
    };
    Ok(Heartbeat {
        node: hello.node,
        boot: hello.boot.clone(),
        daemon: hello.daemon,
        n: heartbeat.n,
        running: heartbeat.running.into_iter().map(running).collect::<Result<_, ConvertError>>()?,
        holds: heartbeat.holds.map(|held| (Incarnation(held.incarnation), Revision(held.revision))),
        fenced_by: heartbeat.fenced_by.map(Revision),
    })
}

/// Encodes a grant.
///
/// # Errors
/// When a spec cannot be written as JSON, which does not happen for one that was parsed.
pub fn encode_grant(grant: &Grant) -> Result<v1::Grant, ConvertError> {
    let content = match &grant.content {
        GrantContent::Whole(set) => grant::Content::Whole(set_to(set)?),
        GrantContent::Unchanged => grant::Content::Unchanged(grant::Unchanged {}),
    };
    Ok(v1::Grant {
        n: grant.n,
        term: grant.term,
        incarnation: grant.incarnation.0,
        revision: grant.revision.0,
        lease_ms: grant.lease_ms,
        heartbeat_ms: Some(grant.pace.heartbeat_ms),
        grace_ms: Some(grant.pace.grace_ms),
        content: Some(content),
    })
}

/// Decodes a grant.
///
/// # Errors
/// When a field is missing or malformed.
pub fn decode_grant(grant: v1::Grant) -> Result<Grant, ConvertError> {
    let content = match grant.content.ok_or_else(|| ConvertError::missing("content"))? {
        grant::Content::Whole(set) => GrantContent::Whole(set_from(set)?),
        grant::Content::Unchanged(_) => GrantContent::Unchanged,
    };
    let usual = Pace::default();
    let pace = Pace {
        heartbeat_ms: grant.heartbeat_ms.unwrap_or(usual.heartbeat_ms),
        grace_ms: grant.grace_ms.unwrap_or(usual.grace_ms),
    };
    Ok(Grant {
        n: grant.n,
        term: grant.term,
        incarnation: Incarnation(grant.incarnation),
        revision: Revision(grant.revision),
        lease_ms: grant.lease_ms,
        pace,
        content,
    })
}

fn set_to(set: &AssignmentSet) -> Result<v1::AssignmentSet, ConvertError> {
    let retained = |(vm, generations): (&VmId, &BTreeSet<GenerationNumber>)| v1::Retained {
        vm: vm.to_string(),
        generations: generations.iter().map(|generation| generation.0).collect(),
    };
    let discarded = |(vm, epoch): (&VmId, &Epoch)| v1::Discarded { vm: vm.to_string(), epoch: epoch.0 };
    let deleted = |(vm, volumes): (&VmId, &BTreeMap<VolumeName, Epoch>)| {
        let vm = vm.to_string();
        let one = |(name, epoch): (&VolumeName, &Epoch)| v1::DeletedVolume {
            vm: vm.clone(),
            name: name.to_string(),
            epoch: epoch.0,
        };
        volumes.iter().map(one).collect::<Vec<_>>()
    };
    Ok(v1::AssignmentSet {
        assignments: set.assignments.iter().map(assignment_to).collect::<Result<_, _>>()?,
        retained: set.retained.iter().map(retained).collect(),
        discarded: set.discarded.iter().map(discarded).collect(),
        deleted_volumes: set.deleted_volumes.iter().flat_map(deleted).collect(),
    })
}

fn assignment_to((vm, assignment): (&VmId, &Assignment)) -> Result<v1::Assignment, ConvertError> {
    let intent = match &assignment.intent {
        Intent::Run(run) => assignment::Intent::Run(assignment::Run {
            generation: run.generation.0,
            closure: Some(closure_to(&run.closure)),
            spec: spec_to(&run.spec)?,
            sources: run.sources.iter().map(|node| node.0).collect(),
            volumes: run.volumes.iter().map(held_to).collect(),
        }),
        Intent::Stop => assignment::Intent::Stop(assignment::Stop {}),
    };
    Ok(v1::Assignment { vm: vm.to_string(), epoch: assignment.epoch.0, intent: Some(intent) })
}

fn held_to((name, life): (&VolumeName, &VolumeLife)) -> v1::HeldVolume {
    v1::HeldVolume { name: name.to_string(), epoch: life.epoch.0, made: life.made == Made::Made }
}

fn held_from(held: &v1::HeldVolume) -> Result<(VolumeName, VolumeLife), ConvertError> {
    let made = if held.made { Made::Made } else { Made::Promised };
    Ok((volume_name(&held.name)?, VolumeLife { epoch: Epoch(held.epoch), made }))
}

fn set_from(set: v1::AssignmentSet) -> Result<AssignmentSet, ConvertError> {
    let retained = |kept: v1::Retained| {
        Ok((vm_id(&kept.vm)?, kept.generations.into_iter().map(GenerationNumber).collect()))
    };
    let discarded = |gone: v1::Discarded| Ok((vm_id(&gone.vm)?, Epoch(gone.epoch)));
    let mut deleted_volumes = BTreeMap::<VmId, BTreeMap<VolumeName, Epoch>>::new();
    for gone in set.deleted_volumes {
        let of_vm = deleted_volumes.entry(vm_id(&gone.vm)?).or_default();
        of_vm.insert(volume_name(&gone.name)?, Epoch(gone.epoch));
    }
    Ok(AssignmentSet {
        deleted_volumes,
        assignments: set
            .assignments
            .into_iter()
            .map(assignment_from)
            .collect::<Result<BTreeMap<_, _>, _>>()?,
        retained: set.retained.into_iter().map(retained).collect::<Result<_, ConvertError>>()?,
        discarded: set.discarded.into_iter().map(discarded).collect::<Result<_, ConvertError>>()?,
    })
}

fn assignment_from(assignment: v1::Assignment) -> Result<(VmId, Assignment), ConvertError> {
    let intent = match assignment.intent.ok_or_else(|| ConvertError::missing("intent"))? {
        assignment::Intent::Run(run) => Intent::Run(Box::new(RunIntent {
            generation: GenerationNumber(run.generation),
            closure: closure_from(run.closure)?,
            spec: spec_from(&run.spec)?,
            sources: run.sources.into_iter().map(NodeId).collect(),
            volumes: run.volumes.iter().map(held_from).collect::<Result<_, _>>()?,
        })),
        assignment::Intent::Stop(_) => Intent::Stop,
    };
    Ok((vm_id(&assignment.vm)?, Assignment { epoch: Epoch(assignment.epoch), intent }))
}

/// Encodes a report.
#[must_use]
pub fn encode_host_report(report: &HostReport) -> v1::Report {
    v1::Report {
        sequence: report.sequence,
        vm: report.vm.to_string(),
        epoch: report.epoch.0,
        report: Some(report_to(&report.report)),
    }
}

/// Decodes a report.
///
/// # Errors
/// When a field is missing or malformed.
pub fn decode_host_report(report: v1::Report) -> Result<HostReport, ConvertError> {
    Ok(HostReport {
        sequence: report.sequence,
        vm: vm_id(&report.vm)?,
        epoch: Epoch(report.epoch),
        report: report_from(report.report)?,
    })
}

#[cfg(test)]
mod tests;
