//! `nix run .#deploy`: from the flake's app to a booted guest, under a daemon whose unit the module has made.

use anyhow::ensure;

use super::guest::Guest;
use super::{Context, Needs, Scenario};
use crate::Workspace;
use crate::beside::{self, FOLDER};
use crate::host::install::with_programs_of_debian;
use crate::host::{Binaries, Host};

pub(super) const SCENARIO: Scenario = Scenario {
    name: "flake_app_deploys",
    shows: "`nix run .#deploy` reaches a daemon in the module's own unit, and the flake's microVM boots",
    needs: Needs::Blixard,
    run,
};

const CONFIGURATION: &str = "checks/offline/snapshots/blixardd.toml";

fn run(context: &mut Context) -> anyhow::Result<()> {
    let lib = context.beside("BLIXARD_NIXPKGS_LIB", "nix-community/nixpkgs.lib")?;
    let microvm = context.beside("BLIXARD_MICROVM_NIX", "microvm-nix/microvm.nix")?;
    let host = &context.host()?;
    beside::make_account(host)?;
    start_as_the_module_does(host, &context.binaries()?)?;
    beside::prepare(host, &lib, &microvm)?;
    beside::prepare_ours(host)?;
    beside::settle_inputs(host)?;

    host.shell(&format!("cd {FOLDER}/blixard && nix run .#deploy -- --dry-run"))?;
    host.shell(&format!("cd {FOLDER}/blixard && nix run .#deploy"))?;
    let hello = Guest { host, name: "hello" };
    hello.await_boot_after(0)?;
    hello.healthy()?;
    ensure!(hello.property("User")? == "microvm", "the guest runs as {}", hello.property("User")?);
    host.shell(&format!("cd {FOLDER}/blixard && nix run .#deploy"))?;
    host.run_ok(&["blixard", "vm", "stop", "hello"])?;
    ensure!(hello.shutdowns()? == 1, "the guest was not asked to shut down: {}", hello.console()?);
    host.run_ok(&["blixard", "vm", "delete", "hello"]).map(drop)
}

/// The unit and the configuration of the module, with the programs of this host.
fn start_as_the_module_does(host: &Host, binaries: &Binaries) -> anyhow::Result<()> {
    let file = Workspace::here()?.root().join(CONFIGURATION);
    host.install_blixard_with(binaries, &with_programs_of_debian(&std::fs::read_to_string(file)?))?;
    host.run_ok(&["systemd-analyze", "verify", "blixardd.service"]).map(drop)
}
