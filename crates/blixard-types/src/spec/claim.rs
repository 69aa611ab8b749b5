//! What a runner fixes at evaluation and only one vm can have.

use std::collections::BTreeSet;
use std::fmt;

use super::{InterfaceKind, Spec};

/// A thing that only one vm can have at a time.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// An interface of the host.
    Interface(String),
    /// A hardware address, in lower case.
    Mac(String),
    /// A vsock context id.
    VsockCid(u32),
}

impl fmt::Display for Claim {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interface(id) => write!(out, "the interface {id}"),
            Self::Mac(mac) => write!(out, "the hardware address {mac}"),
            Self::VsockCid(cid) => write!(out, "the vsock context id {cid}"),
        }
    }
}

impl Spec {
    /// What this vm claims. An interface within the hypervisor has neither a name nor an address that
    /// another vm could meet.
    #[must_use]
    pub fn claims(&self) -> BTreeSet<Claim> {
        let outside = self.interfaces.iter().filter(|interface| interface.kind != InterfaceKind::User);
        let of_interface = outside
            .flat_map(|one| [Claim::Interface(one.id.clone()), Claim::Mac(one.mac.to_ascii_lowercase())]);
        of_interface.chain(self.vsock_cid.map(Claim::VsockCid)).collect()
    }
}
