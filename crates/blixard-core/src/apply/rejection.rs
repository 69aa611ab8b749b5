//! Why a command is refused.

use blixard_types::{Epoch, Incarnation, NodeId, NodeName, VmId, VolumeId, VolumeName};
use serde::{Deserialize, Serialize};

use crate::schedule::RefusalReason;
use crate::state::{REQUESTS_MAX, Role, Roles, Shortage, SourceId, TOKENS_MAX};

/// An invariant that a command would break. Each says what a person can do about it, if anything.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "rejection")]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum Rejection {
    /// Nothing but its initialisation can come first.
    #[error("the cluster is not initialised")]
    NotInitialised,
    /// More calls in a minute than the outcomes of can be remembered.
    #[error("there are more calls than the cluster remembers the outcomes of, {REQUESTS_MAX} in a minute")]
    TooManyCalls,
    /// A cluster has one identity.
    #[error("the cluster is initialised already")]
    AlreadyInitialised,
    /// No such vm.
    #[error("there is no vm {vm}")]
    UnknownVm { vm: VmId },
    /// No such node.
    #[error("there is no node {node}")]
    UnknownNode { node: NodeId },
    /// Two nodes of one name.
    #[error("node {other} is called {name} already")]
    NameTaken { name: NodeName, other: NodeId },
    /// A daemon that has been replaced by a newer one reports, or asks for its session again.
    #[error("the session on node {node} belongs to another daemon")]
    StaleSession { node: NodeId },
    /// A report that a newer one of the same daemon has overtaken.
    #[error("a newer report on vm {vm} has been heard")]
    Overtaken { vm: VmId },
    /// A report of, or a placement beside, another epoch than the one the vm has.
    #[error("vm {vm} is not at epoch {epoch} on node {node}")]
    OtherEpoch { vm: VmId, node: NodeId, epoch: Epoch },
    /// A placement of a vm that may still run elsewhere.
    #[error("vm {vm} is placed on node {host} at epoch {epoch} and has not been stopped there")]
    StillPlaced { vm: VmId, host: NodeId, epoch: Epoch },
    /// A placement of a vm that should not run.
    #[error("vm {vm} should not run")]
    NotWanted { vm: VmId },
    /// A restart of a vm that is stopped.
    #[error("vm {vm} is stopped, so there is nothing to restart")]
    IsStopped { vm: VmId },
    /// More moves than a command has room for.
    #[error("{moves} moves are more than one rebalancing makes")]
    TooManyMoves { moves: usize },
    /// A move that nobody wants any more.
    #[error("vm {vm} does not have to leave node {node}: that is not drained, nor is the vm rebalanced")]
    NotLeaving { vm: VmId, node: NodeId },
    /// The cluster does not preempt.
    #[error("vms do not make room for others in this cluster")]
    NoPreemption,
    /// Nobody gives way to an equal.
    #[error("vm {vm} does not make room for {by}, which has no higher priority or does not ask for it")]
    NoHigherPriority { vm: VmId, by: VmId },
    /// A move of a vm that is on no host.
    #[error("vm {vm} is on no host")]
    NotPlaced { vm: VmId },
    /// A node that does not run vms, or whose daemon has not spoken.
    #[error("node {node} does not run vms")]
    NotAHost { node: NodeId },
    /// A decision of a leader that is not the leader any more.
    #[error("it was decided under term {term}, in which this cluster is not now")]
    OtherLeadership { term: u64 },
    /// A host without a deadline is not lost by being silent.
    #[error("node {node} holds no lease with a deadline")]
    NoDeadline { node: NodeId },
    /// A host that a person says is off.
    #[error("node {node} was declared lost, and what ran there is still waited for")]
    DeclaredLost { node: NodeId },
    /// A host that is lost.
    #[error("node {node} is lost")]
    HostLost { node: NodeId },
    /// A host that takes no vms.
    #[error("node {node} takes no new vms")]
    Cordoned { node: NodeId },
    /// Another host could not be cut off safely.
    #[error("nothing is placed on node {node} before node {other} holds a lease")]
    BesideUnfenced { node: NodeId, other: NodeId },
    /// What an earlier incarnation has granted may still run.
    #[error("leases from before the cluster was recovered or restored may still run")]
    Quarantine,
    /// Not a later incarnation.
    #[error("incarnation {incarnation} of the cluster is over")]
    OtherIncarnation { incarnation: Incarnation },
    /// Times that are not safe.
    #[error("these lease times are refused: {reason}")]
    LeaseTimes { reason: String },
    /// The times were changed not long ago.
    #[error("the last change of the lease times is not over yet")]
    StillSettling,
    /// The vm does not fit.
    #[error("vm {vm} does not fit on node {node}: {shortage}")]
    NoRoom { vm: VmId, node: NodeId, shortage: Shortage },
    /// The host is not what the vm requires.
    #[error("vm {vm} is not placed on {node}, which {reason}")]
    Unfit { vm: VmId, node: NodeName, reason: Box<RefusalReason> },
    /// A deployment without vms.
    #[error("the deployment names no vms")]
    EmptyDeployment,
    /// A vm twice in a deployment.
    #[error("the deployment names vm {vm} twice")]
    NamedTwice { vm: VmId },
    /// A vm of another flake.
    #[error("vm {vm} is defined by {owner}, not by {source_id}")]
    OtherSource { vm: VmId, owner: SourceId, source_id: SourceId },
    /// Two vms claim what only one can have.
    #[error("{claim}, which vm {vm} claims, belongs to vm {owner}")]
    Claimed { vm: VmId, claim: String, owner: VmId },
    /// A vm that is going.
    #[error("vm {vm} is being deleted")]
    BeingDeleted { vm: VmId },
    /// Volumes.
    #[error(transparent)]
    Volume(#[from] VolumeRejection),
    /// Who belongs to the cluster.
    #[error(transparent)]
    Membership(#[from] MembershipRejection),
    /// A deployment that no builder stands for.
    #[error("the deployment is not signed by the node that has built it")]
    NotSigned,
    /// A deployment that is signed by a node that builds nothing, or whose key is not known.
    #[error("node {node}, which has signed the deployment, is no builder with a known key")]
    NotABuilder { node: NodeId },
    /// A deployment that is not what its builder has signed.
    #[error("the deployment is not the one that node {node} has signed")]
    BadSignature { node: NodeId },
    /// A spec that cannot be written down.
    #[error("the spec of vm {vm} cannot be encoded")]
    SpecEncoding { vm: VmId },
}

/// An invariant of volumes.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "volume")]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum VolumeRejection {
    /// No such volume.
    #[error("there is no volume {id}")]
    Unknown { id: VolumeId },
    /// A vm without any.
    #[error("vm {vm} has no volumes that could be given up")]
    None { vm: VmId },
    /// A vm runs with it, or is about to.
    #[error("volume {id} is in use: vm {} {}", .id.vm, if *.placed { "is on a host" } else { "should run" })]
    InUse { id: VolumeId, placed: bool },
    /// Data would be cut off.
    #[error("volume {id} has {size_mib} MiB and is not shrunk to {wanted_mib} MiB")]
    Shrinks { id: VolumeId, size_mib: u64, wanted_mib: u64 },
    /// An image does not move.
    #[error("the image of volume {id} is {image:?} and cannot be another one")]
    OtherImage { id: VolumeId, image: String },
    /// Data would be lost.
    #[error("volume {id} is local: as another kind it would lose what is in it")]
    IsLocal { id: VolumeId },
    /// Two volumes in one file.
    #[error("the image {image:?} belongs to volume {owner}")]
    ImageTaken { image: String, owner: VolumeId },
    /// A vm cannot be in two places.
    #[error("volume {one} of vm {vm} is on node {node}, and volume {other} on node {elsewhere}")]
    Apart { vm: VmId, one: VolumeName, node: NodeId, other: VolumeName, elsewhere: NodeId },
    /// A placement away from its volume.
    #[error("volume {id} is on node {host}, so vm {} is not placed on node {node}", .id.vm)]
    Elsewhere { id: VolumeId, host: NodeId, node: NodeId },
    /// A placement before a volume is gone.
    #[error("volume {id} is being deleted")]
    Going { id: VolumeId },
    /// A host without a shared volume.
    #[error("node {node} does not have the shared volume {name}")]
    NotShared { node: NodeId, name: VolumeName },
    /// Two writers, perhaps.
    #[error("node {host}, which is lost, may still write to the shared volume {name}")]
    MayBeWritten { host: NodeId, name: VolumeName },
}

/// An invariant of who belongs to the cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "membership")]
#[expect(missing_docs, reason = "the fields are named in each message")]
pub enum MembershipRejection {
    /// A cluster of one that nobody can join.
    #[error("the cluster has no certificate authority yet")]
    NoAuthority,
    /// A cluster has one authority.
    #[error("the cluster has another certificate authority")]
    OtherAuthority,
    /// A token that can make nothing.
    #[error("a join token needs at least one role")]
    TokenWithoutRoles,
    /// A token for too long, or for no time.
    #[error("a join token lasts between a moment and 30 days, not {ttl_ms} ms")]
    TokenLifetime { ttl_ms: u64 },
    /// The same secret twice.
    #[error("this join token exists already")]
    TokenKnown,
    /// Too many tokens that can still be used.
    #[error("there are {TOKENS_MAX} join tokens already")]
    TooManyTokens,
    /// No such token.
    #[error("the join token is unknown to this cluster, or ran out long ago")]
    UnknownToken,
    /// A token whose time is over.
    #[error("the join token has run out")]
    TokenExpired,
    /// A token that another machine has used.
    #[error("the join token was used already")]
    TokenUsed,
    /// A machine wants more than its token allows.
    #[error("the join token allows {}, and the machine wants to be {}", list(.allowed), list(.wanted))]
    TokenRoles { wanted: Roles, allowed: Roles },
    /// A server that the others could not reach.
    #[error("a server needs an address at which the others reach it")]
    ServerWithoutAddress,
    /// A cluster needs a server.
    #[error("{name} is the last server of the cluster")]
    LastServer { name: NodeName },
    /// Vms would be lost.
    #[error("{name} runs {vms} vms")]
    HostsVms { name: NodeName, vms: usize },
    /// Data would be lost.
    #[error("{name} has {volumes} volumes")]
    HasVolumes { name: NodeName, volumes: usize },
    /// Nothing is placed on a node that goes.
    #[error("{name} is leaving the cluster")]
    Leaving { name: NodeName },
    /// Only what was to go is forgotten.
    #[error("{name} is not leaving the cluster")]
    NotLeaving { name: NodeName },
}

fn list(roles: &Roles) -> String {
    let name = |role: &Role| match role {
        Role::Server => "server",
        Role::Host => "host",
        Role::Builder => "builder",
    };
    let names: Vec<&str> = roles.iter().map(name).collect();
    if names.is_empty() { "nothing".to_owned() } else { names.join(", ") }
}
