//! The host's network, as far as vms' interfaces are concerned.

use std::collections::BTreeSet;

use blixard_types::VmId;
use blixard_types::spec::Account;

use super::BoxFuture;

/// A tap of a vm, as data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tap {
    /// Its name, at most 15 bytes.
    pub id: String,
    /// Who may open it beside root.
    pub account: Option<Account>,
    /// Whether it has several queues.
    pub multi_queue: bool,
    /// The bridge it is put on; on none if absent.
    pub bridge: Option<String>,
}

/// Why the host's network is not as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NetworkError {
    /// An interface of that name is there, and is not ours.
    #[error("the interface {id} is there already, and Blixard has not made it")]
    Foreign {
        /// The interface.
        id: String,
    },
    /// The interface belongs to another vm.
    #[error("the interface {id} belongs to vm {vm}")]
    Taken {
        /// The interface.
        id: String,
        /// The vm.
        vm: VmId,
    },
    /// There is no such bridge.
    #[error("there is no bridge {bridge} on this host")]
    NoBridge {
        /// Its name.
        bridge: String,
    },
    /// A change was refused.
    #[error("cannot {action} the interface {id}: {reason}")]
    Refused {
        /// What was asked.
        action: &'static str,
        /// The interface.
        id: String,
        /// What was said.
        reason: String,
    },
    /// The host does not tell what it has.
    #[error("cannot list the host's interfaces: {reason}")]
    List {
        /// Why.
        reason: String,
    },
}

/// Makes and removes the interfaces of vms. What it has made it recognises by a mark on the interface
/// itself, so that a daemon that starts anew finds what one before it has left.
pub trait Networks: Send + Sync + 'static {
    /// Gives a vm these taps and no others, made anew: nothing of the vm runs yet. After a failure some of
    /// them may be there.
    fn prepare(&self, vm: VmId, taps: Vec<Tap>) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// Removes all that was made for a vm; nothing there is no error.
    fn remove(&self, vm: VmId) -> BoxFuture<'_, Result<(), NetworkError>>;

    /// The vms that something was made for.
    fn vms(&self) -> BoxFuture<'_, Result<BTreeSet<VmId>, NetworkError>>;
}
