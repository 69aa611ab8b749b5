//! The host agent: it runs what this node is granted, and nothing else.
//!
//! Owns: observing units, asking core for the next step of each vm, and carrying it out: root, start,
//! stop, check, report; and telling the holder of the host's lease of every grant. Refuses to know: why a vm is placed here, how systemd and Nix are spoken to,
//! and any rule of [`blixard_core::reconcile`].

mod agent;
pub mod console;
mod execute;
mod fetch;
mod files;
mod home;
mod last_words;
mod link;
mod memory;
mod over;
pub mod probe;

use std::sync::Arc;

use blixard_core::ports::closure::ClosureFetcher;
use blixard_core::ports::health::HealthProbe;
use blixard_core::ports::holder::LeaseHolder;
use blixard_core::ports::journal::Journal;
use blixard_core::ports::networks::Networks;
use blixard_core::ports::nix::NixStore;
use blixard_core::ports::units::UnitManager;
use blixard_core::ports::volumes::Volumes;
use blixard_core::ports::wakefulness::Wakefulness;
use blixard_core::ports::{BoxFuture, Clock};
use blixard_core::unit::HostLayout;
use blixard_proto::Hello;
use blixard_proto::v1::host_service_client::HostServiceClient;
use tonic::transport::Channel;

pub use agent::{AgentError, run};
use files::Files;
pub use files::Offload;

/// What a host agent is made of.
#[derive(Clone)]
pub struct Host {
    /// Who it is.
    pub hello: Hello,
    /// Where vms keep their files.
    pub layout: HostLayout,
    /// The servers.
    pub servers: Arc<dyn ServerAccess>,
    /// systemd.
    pub units: Arc<dyn UnitManager>,
    /// What holds its lease.
    pub holder: Arc<dyn LeaseHolder>,
    /// What keeps it from sleeping.
    pub wakefulness: Arc<dyn Wakefulness>,
    /// Its network.
    pub networks: Arc<dyn Networks>,
    /// Its disk.
    pub volumes: Arc<dyn Volumes>,
    /// The local store.
    pub store: Arc<dyn NixStore>,
    /// Closures that other nodes have.
    pub closures: Arc<dyn ClosureFetcher>,
    /// What guests say.
    pub journal: Arc<dyn Journal>,
    /// Checks.
    pub probe: Arc<dyn HealthProbe>,
    /// Time.
    pub clock: Arc<dyn Clock>,
    /// Where work on its files is done.
    pub offload: Offload,
}

impl Host {
    fn files(&self) -> Files<'_> {
        Files { layout: &self.layout, offload: self.offload }
    }
}

/// A server could not be reached.
#[derive(Debug, thiserror::Error)]
#[error("cannot reach a server: {reason}")]
pub struct AccessError {
    /// Why.
    pub reason: String,
}

/// Connects to a server, to any that answers.
pub trait ServerAccess: Send + Sync + 'static {
    /// A client of the host service.
    fn connect(&self) -> BoxFuture<'_, Result<HostServiceClient<Channel>, AccessError>>;
}
