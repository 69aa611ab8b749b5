//! Closures between hosts, by the workbench: the daemon's own server, fetcher and importer, peers by
//! address. Each scenario of it is a file below.

pub(super) mod corrupt_peer;
pub(super) mod daemon_killed_mid_import;
pub(super) mod gc_during_fetch;
pub(super) mod peer_dies_mid_transfer;
pub(super) mod remote_host_fetches;
pub(super) mod store_full;
pub(super) mod transfer_limits;

use std::time::Duration;

use anyhow::{Context as _, ensure};

use super::Context;
use crate::host::Host;
use crate::process::Output;
use crate::wait::{self, Seen};

const LAB: &str = "/usr/local/bin/blixard-closure-lab";
const ROOT: &str = "/nix/var/nix/gcroots/blixard/vms/default/lab/1";
const SERVES_LIMIT: Duration = Duration::from_secs(20);

/// Hosts with the workbench, and a closure that the first has.
struct Lab {
    hosts: Vec<Host>,
    /// The closure's root and its reference.
    root: String,
    reference: String,
}

/// The closure of a scenario.
struct Made {
    paths: u32,
    bytes: u64,
}

impl Lab {
    /// So many hosts; all but the last have the closure.
    fn start(context: &mut Context, hosts: usize, made: &Made) -> anyhow::Result<Self> {
        let binaries = context.binaries()?;
        let hosts = context.world(hosts)?.hosts().to_vec();
        let (_, sources) = hosts.split_last().context("a lab has hosts")?;
        for host in &hosts {
            host.copy_in(&binaries.closure_lab, LAB, 0o755)?;
        }
        let mut root = String::new();
        for host in sources {
            let Made { paths, bytes } = made;
            let make = format!("{LAB} make --name lab --paths {paths} --bytes {bytes} --root {ROOT}");
            host.shell(&make)?.trim().clone_into(&mut root);
        }
        let first = sources.first().context("somebody has the closure")?;
        let reference = first.run_ok(&[LAB, "reference", &root])?.trim().to_owned();
        Ok(Self { hosts, root, reference })
    }

    fn source(&self, index: usize) -> anyhow::Result<&Host> {
        self.hosts.get(index).context("no such host")
    }

    /// The host that has nothing.
    fn target(&self) -> anyhow::Result<&Host> {
        self.hosts.last().context("a lab has hosts")
    }

    /// Serves in the background, as a unit of this name; gives the address.
    fn serve(host: &Host, port: u16, options: &str) -> anyhow::Result<String> {
        let address = format!("{}:{port}", host.address());
        let unit = format!("lab-{port}");
        host.shell(&format!(
            "systemd-run --quiet --collect --unit={unit} {LAB} serve --listen {address} {options}"
        ))?;
        wait::until(&format!("{unit} to listen"), SERVES_LIMIT, || {
            let listening = host.shell("ss --listening --tcp --numeric --no-header")?;
            Ok(if listening.contains(&address) { Seen::Done(()) } else { Seen::Instead(listening) })
        })?;
        Ok(address)
    }

    /// The command that fetches from these peers.
    fn fetch_command(&self, peers: &[&str], options: &str) -> String {
        let peers: Vec<String> = peers.iter().map(|peer| format!("--peer {peer}")).collect();
        format!("{LAB} fetch --closure '{}' {} {options}", self.reference, peers.join(" "))
    }

    fn fetch(&self, peers: &[&str], options: &str) -> anyhow::Result<Output> {
        self.target()?.run(&["bash", "-c", &self.fetch_command(peers, options)])
    }

    /// Begins a fetch as the unit `fetch`, whose progress is in its journal.
    fn fetch_beside(&self, peers: &[&str], options: &str) -> anyhow::Result<()> {
        let command = self.fetch_command(peers, &format!("--progress {options}"));
        let run = format!("systemd-run --quiet --unit=fetch --property=RemainAfterExit=yes {command}");
        self.target()?.shell(&run).map(drop)
    }

    /// Waits until so many paths have landed.
    fn wait_for_paths(&self, paths: u32) -> anyhow::Result<()> {
        let target = self.target()?;
        wait::until(&format!("{paths} paths to land"), Duration::from_mins(1), || {
            let said = target.run_ok(&["journalctl", "--unit=fetch", "--output=cat", "--no-pager"])?;
            let landed = said.lines().filter_map(|line| line.split_once(" of ")?.0.parse::<u32>().ok()).max();
            Ok(match landed {
                Some(landed) if landed >= paths => Seen::Done(()),
                _ => Seen::Instead(said),
            })
        })
    }

    /// Waits for the fetch that was begun; what it said.
    fn fetched(&self) -> anyhow::Result<String> {
        let target = self.target()?;
        let said = || target.run_ok(&["journalctl", "--unit=fetch", "--output=cat", "--no-pager"]);
        wait::until("the fetch to end", Duration::from_mins(2), || {
            let said = said()?;
            let ended =
                said.lines().any(|line| line.starts_with("fetched") || line.starts_with("not fetched"));
            Ok(if ended { Seen::Done(()) } else { Seen::Instead(said) })
        })?;
        said()
    }

    /// The whole closure is valid on the target, with the right bytes.
    fn is_whole(&self) -> anyhow::Result<()> {
        let target = self.target()?;
        target.run_ok(&["nix-store", "--query", "--requisites", &self.root])?;
        let reference = target.run_ok(&[LAB, "reference", &self.root])?;
        ensure!(reference.trim() == self.reference, "another closure arrived: {reference}");
        self.is_clean()
    }

    /// Nothing of the closure is registered.
    fn is_absent(&self) -> anyhow::Result<()> {
        let valid = self.target()?.shell("nix-store --dump-db | grep -c -- '-lab' || true")?;
        ensure!(valid.trim() == "0", "{} lines of the database speak of the closure", valid.trim());
        self.is_clean()
    }

    /// What is registered is there as it was registered, and no tree is left half made.
    fn is_clean(&self) -> anyhow::Result<()> {
        let target = self.target()?;
        let verified = target.run(&["nix-store", "--verify", "--check-contents"])?;
        ensure!(verified.status.success(), "{}", verified.unexpected("the store is not as it says"));
        let unfinished = target.shell("ls /nix/store | grep -F .tmp- || true")?;
        ensure!(unfinished.is_empty(), "unfinished trees are left: {unfinished}");
        Ok(())
    }

    /// Makes the target forget the closure, and what is left of it.
    fn forget(&self) -> anyhow::Result<()> {
        self.target()?.shell(&format!("rm -f {ROOT}; nix-store --gc >/dev/null 2>&1")).map(drop)
    }
}
