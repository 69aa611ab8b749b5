//! Commands about leases and about hosts that are silent, lost, or to be emptied.

use blixard_types::{DaemonId, Incarnation, NodeId, Revision};

use crate::lease::LeaseTimes;
use crate::state::{Admission, Authority};

/// A change of what the log says of hosts and their leases.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FenceCommand {
    /// A host has been silent for longer than any of its leases can last: nothing that may stop runs there.
    NodeLost {
        /// The host.
        node: NodeId,
        /// Whose decision it is.
        authority: Authority,
    },
    /// A host that was lost speaks again.
    NodeBack {
        /// The host.
        node: NodeId,
        /// Whose decision it is.
        authority: Authority,
    },
    /// A person says that a machine is off.
    DeclareLost {
        /// The host.
        node: NodeId,
    },
    /// A host holds a lease: what may stop there stops when the lease ends.
    FenceArmed {
        /// The host.
        node: NodeId,
        /// Its daemon.
        daemon: DaemonId,
        /// The revision of the grant that it holds.
        held: Revision,
    },
    /// Changes how long leases last.
    SetLeaseTimes {
        /// The new times.
        times: LeaseTimes,
    },
    /// No lease from before the last change of the times can be left.
    SettleLeases {
        /// Whose decision it is.
        authority: Authority,
        /// The revision of that change: another one may have followed.
        since: Revision,
    },
    /// The cluster was recovered or restored: what was placed is to be placed anew, once it has ended.
    BeginIncarnation {
        /// The new incarnation: higher than the last, and one that no other recovery or restore has begun.
        incarnation: Incarnation,
        /// The one server that is left, where the others are lost for ever: they are cut off.
        survivor: Option<NodeId>,
    },
    /// No lease of an earlier incarnation can be left.
    EndQuarantine {
        /// Whose decision it is.
        authority: Authority,
    },
    /// Says whether vms are placed on a host.
    SetAdmission {
        /// The host.
        node: NodeId,
        /// Whether.
        admission: Admission,
    },
}
