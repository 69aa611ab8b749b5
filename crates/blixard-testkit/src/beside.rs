//! Repositories of others, brought to a test host: nixpkgs' library with what stands in for the rest of it,
//! and microvm.nix, unmodified.
//!
//! Owns: how they lie on the host (`/root/beside`). Refuses to know: where they come from; the scenario says.

use std::path::Path;

use anyhow::Context as _;

use crate::Workspace;
use crate::host::Host;
use crate::process;

/// Where they are on the host.
pub const FOLDER: &str = "/root/beside";

/// Modules of the kernel that the guests of the stand-in load.
const MODULES: [&str; 4] = ["failover", "net_failover", "virtio_net", "virtio_blk"];

/// Brings both repositories to the host: `nixpkgs` and `microvm.nix` in [`FOLDER`].
///
/// # Errors
/// When one cannot be read, or is not what it should be.
pub fn prepare(host: &Host, nixpkgs_lib: &Path, microvm_nix: &Path) -> anyhow::Result<()> {
    let lib = nixpkgs_lib.join("lib");
    for (file, what) in
        [(lib.join("default.nix"), "nixpkgs.lib"), (microvm_nix.join("flake.nix"), "microvm.nix")]
    {
        anyhow::ensure!(file.exists(), "{} is not there: this is no checkout of {what}", file.display());
    }
    host.run_ok(&["rm", "-rf", &format!("{FOLDER}/nixpkgs"), &format!("{FOLDER}/microvm.nix")])?;
    host.run_ok(&["mkdir", "-p", FOLDER])?;
    let standin = Workspace::here()?.root().join("checks/offline/nixpkgs");
    copy_tree(host, &standin, &format!("{FOLDER}/nixpkgs"))?;
    copy_tree(host, &lib, &format!("{FOLDER}/nixpkgs/lib"))?;
    copy_tree(host, microvm_nix, &format!("{FOLDER}/microvm.nix"))?;
    host.shell(&format!(
        "mkdir -p {FOLDER}/nixpkgs/boot; cp /boot/vmlinuz-* {FOLDER}/nixpkgs/boot/vmlinuz; \
         for module in {}; do \
           xz -dc $(find /lib/modules -name $module.ko.xz) > {FOLDER}/nixpkgs/boot/$module.ko; done",
        MODULES.join(" ")
    ))?;
    Ok(())
}

/// What of our own checkout is part of the flake.
const OURS: [&str; 17] = [
    ".cargo",
    "Cargo.lock",
    "Cargo.toml",
    "CHANGELOG.md",
    "LICENSE",
    "README.md",
    "checks",
    "clippy.toml",
    "crates",
    "docs",
    "flake.lock",
    "flake.nix",
    "modules",
    "nix",
    "proto",
    "templates",
    "vm-profiles",
];

/// Brings our own flake to the host: `blixard` in [`FOLDER`].
///
/// # Errors
/// When it cannot be read.
pub fn prepare_ours(host: &Host) -> anyhow::Result<()> {
    let (workspace, there) = (Workspace::here()?, format!("{FOLDER}/blixard"));
    host.run_ok(&["rm", "-rf", &there])?;
    host.run_ok(&["mkdir", "-p", &there])?;
    OURS.iter().try_for_each(|name| copy_tree(host, &workspace.root().join(name), &format!("{there}/{name}")))
}

/// Brings the flake of the cases: `cases` in [`FOLDER`].
///
/// # Errors
/// When it cannot be read.
pub fn prepare_cases(host: &Host) -> anyhow::Result<()> {
    let there = format!("{FOLDER}/cases");
    host.run_ok(&["rm", "-rf", &there])?;
    copy_tree(host, &Workspace::here()?.root().join("checks/offline"), &there)?;
    // The stand-in lies beside it, with what belongs to it.
    host.run_ok(&["rm", "-rf", &format!("{there}/nixpkgs"), &format!("{there}/snapshots")]).map(drop)
}

/// The words that give our flake the inputs that are beside it, for this one command.
#[must_use]
pub fn overridden() -> Vec<String> {
    let inputs = [("nixpkgs", "nixpkgs"), ("microvm", "microvm.nix"), ("microvm/spectrum", "nixpkgs")];
    let words = |(input, folder): &(&str, &str)| {
        ["--override-input".to_owned(), (*input).to_owned(), format!("path:{FOLDER}/{folder}")]
    };
    inputs.iter().flat_map(words).collect()
}

/// Gives our flake on the host those inputs for good, and locks them.
///
/// # Errors
/// When it cannot be locked.
pub fn settle_inputs(host: &Host) -> anyhow::Result<()> {
    host.shell(&format!(
        "cd {FOLDER}/blixard; \
         sed -i -e 's,github:nixos/nixpkgs/nixos-unstable,path:{FOLDER}/nixpkgs,' \
           -e 's,github:microvm-nix/microvm.nix,path:{FOLDER}/microvm.nix,' \
           -e 's,microvm.inputs.nixpkgs.follows = \"nixpkgs\";,& microvm.inputs.spectrum.follows = \"nixpkgs\";,' flake.nix; \
         rm flake.lock; nix flake lock path:$PWD"
    ))
    .map(drop)
}

/// The account that guests of microvm.nix run under, and what it may open: as the modules do it.
///
/// # Errors
/// When it cannot be made.
pub fn make_account(host: &Host) -> anyhow::Result<()> {
    host.shell(
        "getent group kvm >/dev/null || groupadd --system kvm; \
         getent passwd microvm >/dev/null || useradd --system --gid kvm --no-create-home microvm; \
         chmod 666 /dev/net/tun",
    )
    .map(drop)
}

/// Copies a folder or file of this machine to a host, as root's, without what git keeps for itself.
///
/// # Errors
/// When it cannot be read or written.
pub fn copy_tree(host: &Host, from: &Path, to: &str) -> anyhow::Result<()> {
    let to = host.see(to)?;
    let (from, to) = (from.display().to_string(), to.display().to_string());
    let copy = ["cp", "-a", "--no-preserve=ownership", &from, &to];
    process::run(&copy).with_context(|| format!("cannot copy {from} to {}", host.name()))?;
    process::run(&["rm", "-rf", &format!("{to}/.git")]).map(drop)
}
