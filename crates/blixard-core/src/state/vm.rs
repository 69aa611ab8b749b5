//! A vm: its generations, what is wanted of it, and where it is in its life.
//!
//! ```text
//!            Place(e + 1)             Report(Starting)             Report(Running)
//! Unplaced ───────────────▶ Placed(e) ───────────────▶ Starting ───────────────▶ Running
//!    ▲                        │                            │                        │
//!    └────────────────────────┴── Report(Stopped | Failed | Succeeded) ┴────────────────────────┘
//! ```
//!
//! A host that is lost ends its epochs, too. `Stopped`, `Failed`, `Succeeded` and lost end an epoch for good: after them the vm runs again only by a
//! new placement, and a task that has succeeded gets one only for another generation, or when somebody starts it.
//! So no late report can be taken for one of a placement that came after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use blixard_types::{
    ClosureRef, DeploymentId, Epoch, GenerationNumber, NodeId, Sha256Hash, StorePath, VmId, VolumeName,
};
use serde::{Deserialize, Serialize};

use crate::ports::UnixMillis;
use crate::principal::Principal;

/// Generations kept of each vm; older ones are forgotten, with their roots.
pub const GENERATIONS_KEPT: usize = 10;

/// A vm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Vm {
    /// The flake that defines it.
    pub source: SourceId,
    /// What is wanted; a deployment never changes it.
    pub desired: Desired,
    /// How many calls have started or stopped it, those that found it so already included.
    #[serde(default)]
    pub wishes: u64,
    /// Whether it goes away once it has stopped.
    pub deletion: Deletion,
    /// What becomes of its files then.
    #[serde(default)]
    pub files: Files,
    /// Whether its placement is to end, for a new one to follow.
    #[serde(default)]
    pub restart: Restart,
    /// The host it is moved away from, until it is healthy on another one.
    #[serde(default)]
    pub moves_from: Option<NodeId>,
    /// The newest generations.
    pub generations: BTreeMap<GenerationNumber, Generation>,
    /// The generation it should run.
    pub target: GenerationNumber,
    /// Where it is in its life.
    pub run: Run,
    /// Its newest epoch; before its first placement [`super::ClusterState::retired_epoch`] of then.
    pub last_epoch: Epoch,
    /// The host it was placed on last.
    pub last_host: Option<NodeId>,
    /// The host that it has left, until it runs elsewhere: it has the closure, and keeps it until then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub came_from: Option<NodeId>,
    /// What its host makes ready while another generation runs on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preparing: Option<Preparing>,
    /// The number of the newest report on its placement by the daemon whose session is open; 0 if none.
    pub heard: u64,
    /// What a cut-off host may do with it at its newest epoch.
    #[serde(default)]
    pub in_partition: InPartition,
    /// Epochs in a row in which the target generation failed without having been healthy.
    pub failures: u32,
    /// The hosts of those epochs.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub failed_on: BTreeSet<NodeId>,
    /// The vm for which it was stopped, until it is placed again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preempted_by: Option<VmId>,
    /// The generation that it has returned from, until it gets another one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returned: Option<Returned>,
}

/// A return to a generation that was healthy, from a newer one that never was.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Returned {
    /// The newer one.
    pub from: GenerationNumber,
    /// What it lacked, in the host's words.
    pub reason: String,
}

impl Vm {
    /// The generation it should run.
    pub fn target_generation(&self) -> Option<&Generation> {
        self.generations.get(&self.target)
    }

    /// Its next try is a first one.
    pub(crate) fn forgive(&mut self) {
        self.failures = 0;
        self.failed_on.clear();
    }

    /// Whether the host that it is placed on should run it.
    pub fn wanted_there(&self) -> bool {
        self.wanted() && self.restart == Restart::No
    }

    /// It is placed on a host, and has left another one if it was there before.
    pub(crate) fn goes_to(&mut self, node: NodeId) {
        // Of several hosts on which it failed to come up, the first is the one that had it.
        let from = self.came_from.or(self.last_host);
        self.came_from = from.filter(|&from| from != node);
        self.last_host = Some(node);
    }

    /// The host that has to remove its files before it is forgotten.
    pub fn discards(&self) -> Option<NodeId> {
        let over = self.deletion == Deletion::Requested && self.run.host().is_none();
        self.last_host.filter(|_| over && self.files == Files::Discard)
    }

    /// Whether it should run somewhere.
    pub fn wanted(&self) -> bool {
        self.desired == Desired::Running && self.deletion == Deletion::Keep && !self.is_done()
    }

    /// Whether it is a task that has done what it should do.
    pub fn is_done(&self) -> bool {
        matches!(self.run, Run::Unplaced { why: Unplaced::Succeeded { generation, .. } } if generation == self.target)
    }
}

impl Returned {
    /// What people are told of it, with the generation that is to run instead.
    #[must_use]
    pub fn told(&self, to: GenerationNumber) -> String {
        format!(
            "generation {} did not become healthy, so generation {to} is to run again: {}",
            self.from, self.reason
        )
    }
}

/// A generation that a host makes ready while the one before it runs on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preparing {
    /// Which.
    pub generation: GenerationNumber,
    /// Why it is not ready yet, where that is more than a matter of time. The host goes on trying.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

/// What is wanted of a vm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Desired {
    /// It runs.
    Running,
    /// It does not.
    Stopped,
}

/// Whether a vm goes away once it has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Deletion {
    /// It stays.
    Keep,
    /// It goes.
    Requested,
}

/// What becomes of the files of a vm that goes away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Files {
    /// They stay on its host.
    #[default]
    Keep,
    /// Its host removes them, and says so, before the vm is forgotten.
    Discard,
}

/// Whether a placement is to end, for a new one to follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// It goes on.
    #[default]
    No,
    /// Its host stops it; then it is placed again.
    Requested,
}

/// What a host that is cut off may do with a vm. A generation that is kept may run for a while after one
/// that is stopped has replaced it as the target, so this is of an epoch, not of a generation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum InPartition {
    /// It stops it when its lease ends, whatever generation runs.
    #[default]
    Stops,
    /// It may go on: whatever was to run at this epoch is kept.
    MayRun,
    /// It may go on, or stop with the lease: generations of both kinds were to run at this epoch.
    Either,
}

/// One (closure reference, spec) of a vm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Generation {
    /// The runner's closure.
    pub closure: ClosureRef,
    /// The digest of its spec, a key of the state's specs.
    pub spec: Sha256Hash,
    /// The runner's derivation.
    pub drv: StorePath,
    /// The platform, `x86_64-linux`.
    pub system: String,
    /// The deployment that introduced it.
    pub deployment: DeploymentId,
    /// The node that has built it, and has signed for it.
    #[serde(default)]
    pub builder: Option<NodeId>,
    /// When.
    pub at: UnixMillis,
    /// Who deployed it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<Principal>,
    /// Whether it has ever been healthy.
    #[serde(default, skip_serializing_if = "Proof::is_none")]
    pub proof: Proof,
}

/// Whether a generation has ever been healthy. In logs of before this was kept, none has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Proof {
    /// It has not.
    #[default]
    None,
    /// It has.
    WasHealthy,
}

impl Proof {
    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    fn is_none(&self) -> bool {
        *self == Self::None
    }
}

/// Where a vm is in its life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Run {
    /// On no host: it may be placed.
    Unplaced {
        /// Why it is on none.
        why: Unplaced,
    },
    /// On a host, which alone may run it.
    Placed {
        /// The host.
        node: NodeId,
        /// The placement.
        epoch: Epoch,
        /// How far it has come.
        phase: Phase,
    },
}

impl Run {
    /// The host, if it is placed.
    pub fn host(&self) -> Option<NodeId> {
        match self {
            Self::Placed { node, .. } => Some(*node),
            Self::Unplaced { .. } => None,
        }
    }

    /// The generation that its host has last said to run.
    pub fn generation(&self) -> Option<GenerationNumber> {
        match self {
            Self::Placed { phase: Phase::Fetching { generation }, .. }
            | Self::Placed { phase: Phase::Starting { generation }, .. }
            | Self::Placed { phase: Phase::Running { generation, .. }, .. } => Some(*generation),
            Self::Placed { phase: Phase::Assigned, .. } | Self::Unplaced { .. } => None,
        }
    }
}

/// Why a vm is on no host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unplaced {
    /// It is new.
    New,
    /// Its host has stopped it.
    Stopped,
    /// Its host was lost, and cannot run it any more.
    Lost {
        /// That host.
        node: NodeId,
    },
    /// It was to run once, and has done so.
    Succeeded {
        /// When.
        at: UnixMillis,
        /// What ran.
        generation: GenerationNumber,
    },
    /// It ended by itself, or could not be started.
    Failed {
        /// What happened, in the host's words.
        reason: String,
        /// When.
        at: UnixMillis,
        /// What it was to run.
        generation: GenerationNumber,
        /// Whether it was the host that could not run it. Such a vm is tried again for ever.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        hindered: bool,
    },
}

/// How far a placement has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// The host has not spoken of it.
    Assigned,
    /// The host fetches its closure from other nodes.
    Fetching {
        /// What it fetches.
        generation: GenerationNumber,
    },
    /// The host starts it.
    Starting {
        /// What it starts.
        generation: GenerationNumber,
    },
    /// Its hypervisor runs.
    Running {
        /// What it runs.
        generation: GenerationNumber,
        /// How it does.
        health: HealthStatus,
    },
}

/// Whether a running vm does what it is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HealthStatus {
    /// Not known yet.
    Pending,
    /// It was READY or long enough active, and all checks passed.
    Healthy,
    /// It was not so within its deadline.
    Unhealthy {
        /// What is missing.
        reason: String,
    },
}

/// Most bytes of a reason that a host gives; the rest is cut. Far below what a command may have.
pub const REASON_MAX_BYTES: usize = 4096;

/// As much of a reason as is kept.
#[must_use]
pub fn cut_reason(reason: &str) -> &str {
    reason.get(..reason.floor_char_boundary(REASON_MAX_BYTES)).unwrap_or_default()
}

/// What a host says of a vm.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VmReport {
    /// It fetches the closure of this generation from other nodes.
    Fetching {
        /// What it fetches.
        generation: GenerationNumber,
    },
    /// It makes the closure of this generation ready, and the generation before it runs on.
    Preparing {
        /// What is made ready.
        generation: GenerationNumber,
        /// Why it cannot be had; it is tried again.
        trouble: Option<String>,
    },
    /// It starts this generation.
    Starting {
        /// What it starts.
        generation: GenerationNumber,
    },
    /// The hypervisor runs.
    Running {
        /// What it runs.
        generation: GenerationNumber,
        /// How it does.
        health: HealthStatus,
    },
    /// It was stopped as told; no process of it is left.
    Stopped,
    /// Its files are removed, as was asked with its deletion. Said of an epoch that is over.
    FilesGone,
    /// One of its volumes is removed, as was asked. Said of the placement that it was made for.
    VolumeGone {
        /// Which.
        volume: VolumeName,
    },
    /// It was to run once, and has ended well; no process of it is left.
    Succeeded {
        /// What ran.
        generation: GenerationNumber,
    },
    /// It ended by itself or could not be started; no process of it is left.
    Failed {
        /// What it was to run.
        generation: GenerationNumber,
        /// What happened.
        reason: String,
    },
    /// Its host could not run it, because of something that is not the vm's: a closure that nobody gave, a bus that is
    /// gone, a disk that is full. No process of it is left.
    Hindered {
        /// What it was to run.
        generation: GenerationNumber,
        /// What happened.
        reason: String,
    },
}

/// A stable id of the flake that defines a vm: its reference without what changes from commit to
/// commit.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(transparent)]
pub struct SourceId(String);

/// A text that cannot be the id of a source.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a source id has 1 to {max} bytes and no control characters", max = SourceId::MAX_BYTES)]
pub struct SourceIdError;

impl SourceId {
    /// Longest id in bytes.
    pub const MAX_BYTES: usize = 512;

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for SourceId {
    type Err = SourceIdError;

    fn from_str(text: &str) -> Result<Self, SourceIdError> {
        let fits = (1..=Self::MAX_BYTES).contains(&text.len()) && !text.chars().any(char::is_control);
        if fits { Ok(Self(text.to_owned())) } else { Err(SourceIdError) }
    }
}

impl fmt::Display for SourceId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for SourceId {
    fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
        String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
    }
}
