//! Nix of this node.

use std::path::Path;
use std::sync::Arc;

use blixard_core::ports::confined::Confinement;
use blixard_nix::{NixCli, NixCliOptions};
use blixard_systemd::{ConfinementOptions, Systemd, SystemdConfinement};

use crate::config::Config;

/// Its command line, and with it the store.
pub(super) fn nix(config: &Config, systemd: &Systemd) -> Arc<NixCli> {
    let confinement: Arc<dyn Confinement> = Arc::new(confinement(config, systemd));
    Arc::new(NixCli::new(options(config), &confinement))
}

fn options(config: &Config) -> NixCliOptions {
    NixCliOptions {
        nix: config.nix.command.clone(),
        nix_store: config.nix.store_command.clone(),
        roots: config.nix.gc_roots.clone(),
        uploads: config.storage.data_dir.join("uploads"),
        sources: config.sources.limits(),
        evaluation: config.evaluation.limits(),
        builds: config.builder.limits(),
    }
}

/// Where flakes are evaluated: out of reach of everything that is the daemon's or the vms'.
fn confinement(config: &Config, systemd: &Systemd) -> SystemdConfinement {
    let socket_folder = config.api.socket.parent().map(ToOwned::to_owned);
    let mut hidden =
        vec![config.storage.data_dir.clone(), config.host.state_dir.clone(), config.host.runtime_dir.clone()];
    hidden.push(config.host.credentials_dir.clone());
    // A socket right below /run is hidden by itself.
    hidden.push(
        socket_folder.filter(|folder| folder != Path::new("/run")).unwrap_or(config.api.socket.clone()),
    );
    SystemdConfinement::new(systemd, ConfinementOptions { user: config.evaluation.user.clone(), hidden })
}
