//! Conversions: words that several messages share.

pub(crate) mod closure;
pub(crate) mod cluster;
pub(crate) mod command;
pub(crate) mod deploy;
pub(crate) mod directory;
pub(crate) mod event;
mod facts;
pub(crate) mod fence;
pub(crate) mod host;
pub(crate) mod membership;
pub(crate) mod outcome;
pub(crate) mod placement;
pub(crate) mod vm;
pub(crate) mod volume;

use blixard_core::state::{HealthStatus, Role, Roles, VmReport};
use blixard_types::{ClosureRef, GenerationNumber, NodeAddress, NodeName, Sha256Hash, Spec, StorePath, VmId};
use blixard_types::{VolumeId, VolumeName};

use crate::v1;
pub(crate) use facts::{facts_from, facts_to};

/// A message that does not say what it should.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConvertError {
    /// The field.
    pub field: &'static str,
    /// What is wrong with it.
    pub problem: String,
}

impl ConvertError {
    pub(crate) fn missing(field: &'static str) -> Self {
        Self { field, problem: "is missing".to_owned() }
    }

    pub(crate) fn of(field: &'static str, problem: &(impl ToString + ?Sized)) -> Self {
        Self { field, problem: problem.to_string() }
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(error: ConvertError) -> Self {
        Self::invalid_argument(error.to_string())
    }
}

/// The 16 bytes of an id.
///
/// # Errors
/// When there are not 16.
pub fn random_id(field: &'static str, bytes: &[u8]) -> Result<[u8; 16], ConvertError> {
    bytes.try_into().map_err(|_| ConvertError::of(field, &format!("expected 16 bytes, got {}", bytes.len())))
}

/// A node's name.
///
/// # Errors
/// When the text is no name.
pub fn node_name(text: &str) -> Result<NodeName, ConvertError> {
    text.parse().map_err(|error| ConvertError::of("name", &error))
}

/// Where a node is reached.
///
/// # Errors
/// When the text is no address.
pub fn node_address(text: &str) -> Result<NodeAddress, ConvertError> {
    text.parse().map_err(|error| ConvertError::of("address", &error))
}

/// A vm by name.
///
/// # Errors
/// When the text is no name.
pub fn vm_id(text: &str) -> Result<VmId, ConvertError> {
    text.parse().map_err(|error| ConvertError::of("vm", &error))
}

/// A volume of a vm by name.
///
/// # Errors
/// When the text is no name.
pub fn volume_id(text: &str) -> Result<VolumeId, ConvertError> {
    text.parse().map_err(|error| ConvertError::of("volume", &error))
}

pub(crate) fn volume_name(text: &str) -> Result<VolumeName, ConvertError> {
    text.parse().map_err(|error| ConvertError::of("volume", &error))
}

pub(crate) fn store_path(field: &'static str, text: &str) -> Result<StorePath, ConvertError> {
    text.parse().map_err(|error| ConvertError::of(field, &error))
}

fn hash(field: &'static str, bytes: &[u8]) -> Result<Sha256Hash, ConvertError> {
    let bytes = bytes.try_into();
    bytes.map(Sha256Hash).map_err(|_| ConvertError::of(field, "expected 32 bytes"))
}

fn hash_bytes(hash: Sha256Hash) -> bytes::Bytes {
    bytes::Bytes::copy_from_slice(&hash.0)
}

pub(crate) fn closure_to(closure: &ClosureRef) -> v1::ClosureRef {
    v1::ClosureRef {
        root: closure.root.to_string(),
        nar_hash: hash_bytes(closure.nar_hash),
        closure_digest: hash_bytes(closure.closure_digest),
        path_count: closure.path_count,
        nar_size: closure.nar_size,
    }
}

pub(crate) fn closure_from(closure: Option<v1::ClosureRef>) -> Result<ClosureRef, ConvertError> {
    let closure = closure.ok_or_else(|| ConvertError::missing("closure"))?;
    Ok(ClosureRef {
        root: store_path("closure.root", &closure.root)?,
        nar_hash: hash("closure.nar_hash", &closure.nar_hash)?,
        closure_digest: hash("closure.closure_digest", &closure.closure_digest)?,
        path_count: closure.path_count,
        nar_size: closure.nar_size,
    })
}

pub(crate) fn spec_to(spec: &Spec) -> Result<String, ConvertError> {
    spec.to_canonical_json().map_err(|error| ConvertError::of("spec", &error))
}

pub(crate) fn spec_from(text: &str) -> Result<Spec, ConvertError> {
    let json = serde_json::from_str(text).map_err(|error| ConvertError::of("spec", &error))?;
    Spec::from_json(&json).map_err(|error| ConvertError::of("spec", &error))
}

pub(crate) fn role_to(role: Role) -> v1::Role {
    match role {
        Role::Server => v1::Role::Server,
        Role::Host => v1::Role::Host,
        Role::Builder => v1::Role::Builder,
    }
}

/// Roles by their numbers.
///
/// # Errors
/// When one is unknown.
pub fn roles_from(roles: &[i32]) -> Result<Roles, ConvertError> {
    let role = |&number: &i32| match v1::Role::try_from(number) {
        Ok(v1::Role::Server) => Ok(Role::Server),
        Ok(v1::Role::Host) => Ok(Role::Host),
        Ok(v1::Role::Builder) => Ok(Role::Builder),
        Ok(v1::Role::Unspecified) | Err(_) => {
            Err(ConvertError::of("roles", &format!("unknown role {number}")))
        }
    };
    roles.iter().map(role).collect()
}

pub(crate) fn health_to(health: &HealthStatus) -> (v1::Health, String) {
    match health {
        HealthStatus::Pending => (v1::Health::Pending, String::new()),
        HealthStatus::Healthy => (v1::Health::Healthy, String::new()),
        HealthStatus::Unhealthy { reason } => (v1::Health::Unhealthy, reason.clone()),
    }
}

fn health_from(health: i32, reason: String) -> Result<HealthStatus, ConvertError> {
    match v1::Health::try_from(health) {
        Ok(v1::Health::Pending) => Ok(HealthStatus::Pending),
        Ok(v1::Health::Healthy) => Ok(HealthStatus::Healthy),
        Ok(v1::Health::Unhealthy) => Ok(HealthStatus::Unhealthy { reason }),
        Ok(v1::Health::Unspecified) | Err(_) => {
            Err(ConvertError::of("health", &format!("unknown health {health}")))
        }
    }
}

pub(crate) fn report_to(report: &VmReport) -> v1::VmReport {
    use v1::vm_report::{
        Failed, Fetching, FilesGone, Preparing, Report, Running, Starting, Stopped, Succeeded, VolumeGone,
    };
    let report = match report {
        VmReport::Fetching { generation } => Report::Fetching(Fetching { generation: generation.0 }),
        VmReport::Preparing { generation, trouble } => {
            Report::Preparing(Preparing { generation: generation.0, trouble: trouble.clone() })
        }
        VmReport::Starting { generation } => Report::Starting(Starting { generation: generation.0 }),
        VmReport::Running { generation, health } => {
            let (health, reason) = health_to(health);
            Report::Running(Running { generation: generation.0, health: health.into(), reason })
        }
        VmReport::Stopped => Report::Stopped(Stopped {}),
        VmReport::FilesGone => Report::FilesGone(FilesGone {}),
        VmReport::VolumeGone { volume } => Report::VolumeGone(VolumeGone { name: volume.to_string() }),
        VmReport::Succeeded { generation } => Report::Succeeded(Succeeded { generation: generation.0 }),
        VmReport::Failed { generation, reason } => {
            Report::Failed(Failed { generation: generation.0, reason: reason.clone() })
        }
        VmReport::Hindered { generation, reason } => {
            Report::Hindered(Failed { generation: generation.0, reason: reason.clone() })
        }
    };
    v1::VmReport { report: Some(report) }
}

pub(crate) fn report_from(report: Option<v1::VmReport>) -> Result<VmReport, ConvertError> {
    use v1::vm_report::Report;
    let report = report.and_then(|report| report.report).ok_or_else(|| ConvertError::missing("report"))?;
    Ok(match report {
        Report::Fetching(fetching) => {
            VmReport::Fetching { generation: GenerationNumber(fetching.generation) }
        }
        Report::Preparing(preparing) => VmReport::Preparing {
            generation: GenerationNumber(preparing.generation),
            trouble: preparing.trouble,
        },
        Report::Starting(starting) => {
            VmReport::Starting { generation: GenerationNumber(starting.generation) }
        }
        Report::Running(running) => VmReport::Running {
            generation: GenerationNumber(running.generation),
            health: health_from(running.health, running.reason)?,
        },
        Report::Stopped(_) => VmReport::Stopped,
        Report::FilesGone(_) => VmReport::FilesGone,
        Report::VolumeGone(gone) => VmReport::VolumeGone { volume: volume_name(&gone.name)? },
        Report::Succeeded(succeeded) => {
            VmReport::Succeeded { generation: GenerationNumber(succeeded.generation) }
        }
        Report::Failed(failed) => {
            VmReport::Failed { generation: GenerationNumber(failed.generation), reason: failed.reason }
        }
        Report::Hindered(failed) => {
            VmReport::Hindered { generation: GenerationNumber(failed.generation), reason: failed.reason }
        }
    })
}
