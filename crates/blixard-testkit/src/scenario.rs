//! End-to-end scenarios: what a user does, on real hosts, from top to bottom.
//!
//! One file each under `scenario/`, named in [`ALL`]. A scenario gets its hosts from its [`Context`],
//! fails by returning an error (or by a panic), and cleans nothing up: its worlds go with the context.

mod bad_input;
mod closures;
mod cluster;
mod daemon_restart_adopts;
pub mod failover;
mod flake_app_deploys;
mod garbage;
mod gc;
mod gc_all_nodes;
mod guest;
mod hostile_evaluation;
mod local_flake_upload;
mod nix_evaluates;
mod nixos_tests;
mod no_capacity;
mod orphan_cleanup;
mod plain_microvm_nix;
mod profiles_boot;
mod runner;
mod second_deploy_is_free;
mod services_gone;
mod single_host_deploy;
mod stock_nix_client;
mod systemd_adapter;
mod testhost_boots;
mod vm_lifecycle;

use std::path::PathBuf;

use anyhow::Context as _;

use crate::Workspace;
use crate::host::{Binaries, Host};
use crate::image::Image;
use crate::world::{Lifetime, World};

pub use runner::{Skipped, Tally, run};

/// A named scenario.
#[derive(Debug, Clone, Copy)]
pub struct Scenario {
    /// As in `cargo xtask e2e NAME`.
    pub name: &'static str,
    /// What it shows, in one line.
    pub shows: &'static str,
    /// Whether it needs the programs of Blixard, or only test hosts.
    pub needs: Needs,
    /// The scenario itself.
    pub run: fn(&mut Context) -> anyhow::Result<()>,
}

/// What must be there before a scenario can run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Needs {
    /// The image of the test hosts.
    TestHosts,
    /// That, and the programs of Blixard, built.
    Blixard,
    /// That, and the tests of the adapter of systemd.
    AdapterTests,
}

/// Every scenario, cheapest first.
pub const ALL: &[Scenario] = &[
    testhost_boots::SCENARIO,
    single_host_deploy::SCENARIO,
    second_deploy_is_free::SCENARIO,
    daemon_restart_adopts::SCENARIO,
    vm_lifecycle::SCENARIO,
    no_capacity::SCENARIO,
    orphan_cleanup::SCENARIO,
    hostile_evaluation::SCENARIO,
    bad_input::SCENARIO,
    nix_evaluates::SCENARIO,
    plain_microvm_nix::SCENARIO,
    flake_app_deploys::SCENARIO,
    profiles_boot::SCENARIO,
    nixos_tests::SCENARIO,
    garbage::SCENARIO,
    local_flake_upload::SCENARIO,
    services_gone::SCENARIO,
    gc::SCENARIO,
    gc_all_nodes::SCENARIO,
    stock_nix_client::SCENARIO,
    systemd_adapter::SCENARIO,
    closures::remote_host_fetches::SCENARIO,
    closures::corrupt_peer::SCENARIO,
    closures::daemon_killed_mid_import::SCENARIO,
    closures::gc_during_fetch::SCENARIO,
    closures::peer_dies_mid_transfer::SCENARIO,
    closures::store_full::SCENARIO,
    closures::transfer_limits::SCENARIO,
    cluster::SCENARIOS[0],
    cluster::SCENARIOS[1],
    cluster::SCENARIOS[2],
    cluster::SCENARIOS[3],
    cluster::SCENARIOS[4],
    cluster::SCENARIOS[5],
    cluster::SCENARIOS[6],
    failover::SCENARIOS[0],
    failover::SCENARIOS[1],
    failover::SCENARIOS[2],
    failover::SCENARIOS[3],
    failover::SCENARIOS[4],
    failover::SCENARIOS[5],
    failover::SCENARIOS[6],
    failover::SCENARIOS[7],
    failover::SCENARIOS[8],
    failover::SCENARIOS[9],
    failover::SCENARIOS[10],
    failover::SCENARIOS[11],
    failover::SCENARIOS[12],
    failover::SCENARIOS[13],
    failover::SCENARIOS[14],
    failover::SCENARIOS[15],
];

/// The scenarios of these names; all of them if there are no names.
///
/// # Errors
/// When a name is unknown, with those that there are.
pub fn select(names: &[String]) -> anyhow::Result<Vec<Scenario>> {
    if names.is_empty() {
        return Ok(ALL.to_vec());
    }
    let find = |name: &String| ALL.iter().find(|scenario| scenario.name == name).copied();
    names
        .iter()
        .map(|name| {
            find(name).with_context(|| {
                let known: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
                format!("there is no scenario {name:?}; there is {}", known.join(", "))
            })
        })
        .collect()
}

/// What a scenario works with.
#[derive(Debug)]
pub struct Context {
    workspace: Workspace,
    image: Image,
    worlds: Vec<World>,
    built: Built,
}

/// Which programs are installed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Built {
    /// Those that are being worked on.
    ToTest,
    /// Those that ship.
    ToShip,
}

impl Context {
    fn new(workspace: &Workspace, image: &Image) -> Self {
        Self { workspace: workspace.clone(), image: image.clone(), worlds: Vec::new(), built: Built::ToTest }
    }

    /// For a benchmark, which measures what ships.
    #[must_use]
    pub fn released(workspace: &Workspace, image: &Image) -> Self {
        Self { built: Built::ToShip, ..Self::new(workspace, image) }
    }

    /// A new world of this many hosts, which are up.
    ///
    /// # Errors
    /// When one does not boot.
    pub fn world(&mut self, hosts: usize) -> anyhow::Result<&World> {
        let world = World::start(&self.workspace, &self.image, hosts, Lifetime::Attached)?;
        self.worlds.push(world);
        self.worlds.last().context("a world was just made")
    }

    /// The world that was made last.
    ///
    /// # Errors
    /// When none was made.
    pub fn last_world(&self) -> anyhow::Result<&World> {
        self.worlds.last().context("no world was made")
    }

    /// A new world of one host.
    ///
    /// # Errors
    /// As [`Context::world`].
    pub fn host(&mut self) -> anyhow::Result<Host> {
        Ok(self.world(1)?.host(0)?.clone())
    }

    /// Ends all worlds made so far.
    ///
    /// # Errors
    /// When one does not end.
    pub fn end_worlds(&mut self) -> anyhow::Result<()> {
        self.worlds.drain(..).try_for_each(World::end)
    }

    /// The folder with this checkout of somebody else's repository. It stands beside ours and never in it,
    /// and a variable says where.
    ///
    /// # Errors
    /// [`Skipped`] when the variable is not set; another error when it names no folder.
    pub fn beside(&self, variable: &str, repository: &str) -> anyhow::Result<PathBuf> {
        let Some(folder) = std::env::var_os(variable).filter(|value| !value.is_empty()) else {
            let why = format!("needs a checkout of {repository}; {variable} says where it is");
            return Err(Skipped(why).into());
        };
        let folder = PathBuf::from(folder);
        anyhow::ensure!(folder.is_dir(), "{variable} is {}, which is no folder", folder.display());
        Ok(folder)
    }

    /// The programs to install.
    ///
    /// # Errors
    /// When they are not built.
    pub fn binaries(&self) -> anyhow::Result<Binaries> {
        match self.built {
            Built::ToTest => Binaries::built(&self.workspace),
            Built::ToShip => Binaries::released(&self.workspace),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenarios_have_names_of_their_own() {
        let mut names: Vec<&str> = ALL.iter().map(|scenario| scenario.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn an_unknown_scenario_is_refused_with_those_that_there_are() {
        let error = select(&["nothing".to_owned()]).unwrap_err().to_string();
        assert!(error.starts_with("there is no scenario \"nothing\"; there is testhost_boots, "), "{error}");
    }
}
