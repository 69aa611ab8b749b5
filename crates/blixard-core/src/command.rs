//! What goes through the log: commands, and what applying one came to.
//!
//! Time, ids and random numbers are in the command, because `apply` may draw none. The encoding is
//! `blixard-proto`'s.

mod fence;
mod membership;
mod placement;
mod volume;

use blixard_types::{
    CertificateSerial, ClosureRef, ClusterId, DaemonId, DeploymentId, Epoch, GenerationNumber, NodeId,
};
use blixard_types::{NodeName, RequestId, Revision, Sha256Hash, Spec, StorePath, VmId};
use serde::{Deserialize, Serialize};

pub use membership::{AdmitNode, MembershipCommand};

use crate::ports::UnixMillis;
use crate::principal::Principal;
use crate::rules::Rules;
use crate::signature::{BuilderSignature, NodeKey};
use crate::state::{Desired, EvaluationKey, Files, NodeFacts, RememberedVm, Roles, SourceId, VmReport};
pub use fence::FenceCommand;
pub use placement::PlacementCommand;
pub use volume::VolumeCommand;

/// Most bytes of an encoded command; a larger one is refused before it reaches the log. Room for a deployment of 500 vms
/// with long names; a segment of the log has to hold one, and a message between servers one beside a mebibyte of others.
pub const COMMAND_MAX_BYTES: usize = 960 << 10;

/// A command with what every command has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope {
    /// The call it comes from: applied once however often it is proposed.
    pub request: RequestId,
    /// When the leader proposed it.
    pub at: UnixMillis,
    /// Who asks for it; absent for what the cluster does by itself, and in logs of before this was kept.
    pub by: Option<Principal>,
    /// What is to change.
    pub command: Command,
}

/// A change of the cluster's state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Gives a new cluster its identity; the first command of every log.
    InitCluster {
        /// The identity.
        cluster: ClusterId,
        /// The rules by which what follows is applied.
        rules: Rules,
    },
    /// Adds a node, or renames it and changes its roles.
    RegisterNode {
        /// The node.
        node: NodeId,
        /// Its name, unique in the cluster.
        name: NodeName,
        /// What it is for.
        roles: Roles,
    },
    /// A daemon has started on a node: from here on only its reports count.
    OpenSession {
        /// The node.
        node: NodeId,
        /// The daemon.
        daemon: DaemonId,
        /// The kernel's boot id.
        boot: String,
        /// What the machine is.
        facts: NodeFacts,
    },
    /// Makes known by which key a node signs.
    SetNodeKey {
        /// The node.
        node: NodeId,
        /// Its key.
        key: NodeKey,
    },
    /// Introduces generations.
    Deploy(Deploy),
    /// Places a vm that does not run.
    Place {
        /// The vm.
        vm: VmId,
        /// Its host.
        node: NodeId,
        /// One more than its last epoch.
        epoch: Epoch,
    },
    /// A host says how a vm does.
    Report {
        /// The host.
        node: NodeId,
        /// The daemon that says it.
        daemon: DaemonId,
        /// Counts the daemon's reports: an older one that arrives later is refused.
        sequence: u64,
        /// The vm.
        vm: VmId,
        /// The placement it speaks of.
        epoch: Epoch,
        /// How the vm does.
        report: VmReport,
    },
    /// Starts or stops a vm.
    SetDesired {
        /// The vm.
        vm: VmId,
        /// What it should do.
        desired: Desired,
    },
    /// Stops a vm that should run, and places it anew.
    RestartVm {
        /// The vm.
        vm: VmId,
    },
    /// Stops a vm on its host, to be placed on another one.
    MoveVm {
        /// The vm.
        vm: VmId,
        /// The placement that is to end.
        epoch: Epoch,
    },
    /// Forgets a vm, once it does not run.
    DeleteVm {
        /// The vm.
        vm: VmId,
        /// What becomes of its files.
        files: Files,
    },
    /// Forgets the generations beyond the newest of each vm that nothing needs.
    ForgetGenerations {
        /// How many of the newest are kept.
        keep: u64,
    },
    /// Remembers what an evaluation gave.
    RememberEvaluation(RememberEvaluation),
    /// Removes a volume, or gives it up.
    Volume(VolumeCommand),
    /// Changes where vms are that run already.
    Placement(PlacementCommand),
    /// Changes what is known of hosts and their leases.
    Fence(FenceCommand),
    /// Changes who belongs to the cluster.
    Membership(MembershipCommand),
    /// Says what the state was at an earlier entry. A server whose state was another one stops.
    Audit {
        /// The entry.
        revision: Revision,
        /// The digest of the state after it.
        digest: Sha256Hash,
        /// The rules that held after it.
        rules: Rules,
    },
    /// A server says which rules its program knows.
    KnowRules {
        /// The server.
        node: NodeId,
        /// The newest of them.
        newest: Rules,
    },
}

/// On whose behalf commands of a kind are proposed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asker {
    /// Somebody who calls.
    Caller,
    /// The servers and hosts, to keep vms running and never twice.
    Cluster,
}

impl Command {
    /// On whose behalf it is proposed.
    #[must_use]
    pub const fn asker(&self) -> Asker {
        match self {
            Self::OpenSession { .. }
            | Self::Place { .. }
            | Self::Report { .. }
            | Self::MoveVm { .. }
            | Self::Placement(PlacementCommand::Preempt { .. } | PlacementCommand::EndRebalance)
            | Self::Fence(_)
            | Self::Audit { .. }
            | Self::KnowRules { .. } => Asker::Cluster,
            Self::InitCluster { .. }
            | Self::RegisterNode { .. }
            | Self::SetNodeKey { .. }
            | Self::Deploy(_)
            | Self::SetDesired { .. }
            | Self::RestartVm { .. }
            | Self::DeleteVm { .. }
            | Self::ForgetGenerations { .. }
            | Self::RememberEvaluation(_)
            | Self::Volume(_)
            | Self::Placement(_)
            | Self::Membership(_) => Asker::Caller,
        }
    }
}

/// One run of `deploy`, evaluated and built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deploy {
    /// Its id.
    pub deployment: DeploymentId,
    /// The flake that defines the vms.
    pub source: SourceId,
    /// Whether vms of other sources are taken over.
    pub take_over: TakeOver,
    /// The vms.
    pub vms: Vec<VmDefinition>,
    /// Who has built them, and says so.
    pub builder: Option<BuilderSignature>,
}

/// What happens to a vm that another source has defined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TakeOver {
    /// The deployment is refused.
    Refuse,
    /// It belongs to this source from now on.
    Allow,
}

/// A vm as a deployment defines it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VmDefinition {
    /// The vm.
    pub vm: VmId,
    /// The runner's derivation.
    pub drv: StorePath,
    /// The platform, `x86_64-linux`.
    pub system: String,
    /// The runner's closure.
    pub closure: ClosureRef,
    /// The spec.
    pub spec: Spec,
}

/// What an evaluation gave, once all of it was built and deployed. The specs are those of that
/// deployment, named by their digests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RememberEvaluation {
    /// What was evaluated.
    pub key: EvaluationKey,
    /// Its vms, in the evaluator's order.
    pub vms: Vec<RememberedVm>,
}

/// What applying a command came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The state has changed.
    Changed {
        /// At which revision.
        revision: Revision,
    },
    /// The state was so already.
    Unchanged,
    /// A certificate may be issued.
    Certified {
        /// At which revision.
        revision: Revision,
        /// For whom.
        node: NodeId,
        /// Its number.
        serial: CertificateSerial,
    },
    /// A deployment was accepted.
    Deployed {
        /// At which revision.
        revision: Revision,
        /// What it means for each vm, in the command's order.
        vms: Vec<DeployedVm>,
    },
}

/// What a deployment means for one vm.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeployedVm {
    /// The vm.
    pub vm: VmId,
    /// The generation it should now run.
    pub generation: GenerationNumber,
    /// How that differs from before.
    pub change: VmChange,
}

/// How a deployment changes a vm.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum VmChange {
    /// It was not there.
    Added,
    /// It has a new generation.
    Changed,
    /// Closure and spec are what they were: no new generation.
    Unchanged,
}
