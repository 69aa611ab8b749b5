//! A server of the cluster: the gRPC services and what the leader does besides.
//!
//! Owns: turning calls into commands and state into answers; running a deployment from a locked flake
//! to healthy vms; proposing the scheduler's placements while this node leads. Refuses to know: what
//! the log is made of, how Nix is run, what a host does with its grants, and every rule that
//! `blixard-core` decides.

mod asked;
pub mod bootstrap;
mod deploy;
mod forward;
mod keyring;
pub mod leader;
mod proposer;
mod replica;
pub mod roots;
mod service;
mod status;
mod upload;

use std::sync::Arc;

use blixard_core::ports::consensus::SharedConsensus;
use blixard_core::ports::members::Membership;
use blixard_core::ports::nix::{FlakeEvaluator, NixStore};
use blixard_core::ports::signer::Signer;
use blixard_core::ports::sources::SourceInbox;
use blixard_core::ports::{Clock, Entropy};
use blixard_types::{NodeAddress, NodeId};

pub use asked::LocalUser;
pub use forward::{Forwarding, PeerChannels};
pub use keyring::{Keyring, fetch_authority, keep_fresh, keep_fresh_by};
pub use leader::leases::LeaseDesk;
pub use proposer::{ProposeFailure, Proposer};
pub use replica::{Changes, NoMoreChanges, Replica, StateDigest};
pub use service::console::ConsoleAccess;
pub use service::{CallingNode, Services, ShownCertificate, StoreOfHost, StoreService};
pub use service::{services, store_of_host, store_service};

/// What a server is made of.
#[derive(Clone)]
pub struct Server {
    /// This node.
    pub node: NodeId,
    /// The program's version.
    pub version: &'static str,
    /// The state of the cluster.
    pub replica: Arc<Replica>,
    /// The log, through the leader, whoever that is.
    pub consensus: SharedConsensus,
    /// This server's own copy of the log.
    pub log: SharedConsensus,
    /// Who holds a copy of the log.
    pub membership: Arc<dyn Membership>,
    /// The other nodes.
    pub peers: Arc<dyn PeerChannels>,
    /// What the leader grants to hosts.
    pub leases: LeaseDesk,
    /// Keys and certificates.
    pub keyring: Arc<Keyring>,
    /// Where other nodes reach this one; absent if it does not listen.
    pub address: Option<NodeAddress>,
    /// The disk that the log is on.
    pub disk: Arc<dyn Disk>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Random numbers.
    pub entropy: Arc<dyn Entropy>,
    /// Evaluates flakes; absent on a node without the role builder.
    pub builder: Option<Builder>,
}

/// The disk that a server writes to.
pub trait Disk: Send + Sync + 'static {
    /// Bytes that are free for this server; 0 if that cannot be known.
    fn free_bytes(&self) -> u64;
}

/// What a builder needs.
#[derive(Clone)]
pub struct Builder {
    /// Takes what callers send.
    pub inbox: Arc<dyn SourceInbox>,
    /// Evaluates.
    pub evaluator: Arc<dyn FlakeEvaluator>,
    /// Builds, and holds what was built.
    pub store: Arc<dyn NixStore>,
    /// Signs what was built.
    pub signer: Arc<dyn Signer>,
}

impl Server {
    /// A handle that proposes commands.
    #[must_use]
    pub fn proposer(&self) -> Proposer {
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Proposer::new(Arc::clone(&self.consensus), clock, entropy)
    }

    /// A handle that proposes commands here, and nowhere if another node leads.
    pub(crate) fn proposer_here(&self) -> Proposer {
        let (clock, entropy) = (Arc::clone(&self.clock), Arc::clone(&self.entropy));
        Proposer::new(Arc::clone(&self.log), clock, entropy)
    }
}
