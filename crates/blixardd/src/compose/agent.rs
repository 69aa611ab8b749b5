//! The host agent, the same on every node with the role host.

use std::ffi::OsString;
use std::sync::Arc;

use blixard_closure::{Fetcher, ImporterCommand};
use blixard_core::ports::{Clock, Entropy as _};
use blixard_core::unit::HostLayout;
use blixard_host::probe::NetworkProbe;
use blixard_host::{Host, Offload, ServerAccess};
use blixard_network::IpNetworks;
use blixard_nix::NixCli;
use blixard_proto::Hello;
use blixard_systemd::{Journalctl, Logind, Systemd, SystemdHolder};
use blixard_types::holder::EPOCHS_DIR;
use blixard_types::{DaemonId, NodeId};
use blixard_volume::DiskVolumes;

use super::RunError;
use crate::cluster::{ClosureAccess, Mesh};
use crate::config::Config;
use crate::facts;
use crate::system::KernelEntropy;

/// What an agent is made of that depends on the kind of its node.
pub(super) struct Surroundings {
    pub(super) node: NodeId,
    /// How it reaches the leader.
    pub(super) servers: Arc<dyn ServerAccess>,
    /// How it reaches those that have closures.
    pub(super) mesh: Mesh,
    pub(super) systemd: Arc<Systemd>,
    pub(super) nix: Arc<NixCli>,
    pub(super) clock: Arc<dyn Clock>,
}

/// Makes it.
pub(super) fn agent(config: &Config, surroundings: Surroundings) -> Result<Host, RunError> {
    let closures = fetcher(config, &surroundings)?;
    let Surroundings { node, servers, systemd, nix, clock, .. } = surroundings;
    let daemon = DaemonId(KernelEntropy.id());
    Ok(Host {
        hello: Hello { node, daemon, boot: facts::boot_id()?, facts: facts::facts(config) },
        layout: HostLayout {
            state_dir: config.host.state_dir.display().to_string(),
            runtime_dir: config.host.runtime_dir.display().to_string(),
            bridge: config.host.bridge.clone(),
            lease_program: lease_program(config)?,
            epochs_dir: EPOCHS_DIR.to_owned(),
            shared: config.host.shared_paths(),
            credentials_dir: config.host.credentials_dir.display().to_string(),
        },
        servers,
        holder: Arc::new(SystemdHolder::new(&systemd)),
        wakefulness: Arc::new(Logind::new(&systemd)),
        units: systemd,
        networks: Arc::new(IpNetworks::new(&config.host.ip_command)),
        volumes: Arc::new(DiskVolumes::new(&config.host.state_dir)),
        store: nix,
        closures,
        journal: Arc::new(Journalctl::new("journalctl")),
        probe: Arc::new(NetworkProbe),
        clock,
        offload: Offload::Threads,
    })
}

/// What executes every vm's program, if that may still start: it is installed beside this program.
fn lease_program(config: &Config) -> std::io::Result<String> {
    if let Some(program) = &config.host.lease_command {
        return Ok(program.display().to_string());
    }
    let beside = std::env::current_exe()?.with_file_name("blixard-lease");
    Ok(beside.display().to_string())
}

/// Where this node gets closures that others have.
fn fetcher(config: &Config, surroundings: &Surroundings) -> std::io::Result<Arc<Fetcher>> {
    let own: OsString = std::env::current_exe()?.into();
    let store: OsString = config.nix.store_command.clone().into();
    let importer = ImporterCommand(vec![own, "import".into(), "--nix-store".into(), store]);
    let limits = config.transfer.fetch();
    let peers = Arc::new(ClosureAccess::new(surroundings.node, surroundings.mesh.clone(), limits));
    Ok(Arc::new(Fetcher::new(peers, importer, Arc::clone(&surroundings.clock), limits)))
}
