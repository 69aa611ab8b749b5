//! Flakes to deploy on test hosts: no inputs, no nixpkgs, no network.
//!
//! Each is a folder of `checks/fixtures/`; preparing one copies it to the host, and gives it the host's
//! kernel as `vmlinuz`, so that its evaluation stays pure.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::Workspace;
use crate::host::Host;

/// A flake to deploy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fixture {
    /// Two real guests under QEMU, `hello` and `world`; each says one line on its console.
    Guests,
    /// Guests to stop, restart and replace: `steady` obeys, `stubborn` does not, `crasher` only exits.
    /// What `steady` greets with is in `greeting.nix`.
    Lifecycle,
    /// A real guest, `keeper`, that says what it finds on its disks. How large they are is in `sizes.nix`.
    Volumes,
    /// A real guest, `holder`, that says the hashes of the secrets it is handed, and runs as nobody.
    Credentials,
    /// Real guests that are tasks: `once` powers off, `broken` panics, `long` waits to be told.
    Tasks,
    /// This many runners (`sleeper-1` …) that only sleep: placing and starting without guests.
    Sleepers(u32),
    /// One vm, `broken`, whose build fails after it has said `the fixture fails on purpose`.
    FailingBuild,
    /// One vm, `broken`, whose evaluation throws `the fixture throws on purpose`.
    EvaluationError,
    /// Vms that try more than they may, by name, and one called `good`.
    Hostile,
    /// Guests of microvm.nix, which needs what [`crate::beside`] brings.
    PlainMicrovmNix,
    /// Each profile of Blixard, which needs what [`crate::beside`] brings.
    Profiles,
    /// A flake without microVMs.
    Empty,
}

impl Fixture {
    const fn folder(self) -> &'static str {
        match self {
            Self::Guests => "guests",
            Self::Lifecycle => "lifecycle",
            Self::Volumes => "volumes",
            Self::Credentials => "credentials",
            Self::Tasks => "tasks",
            Self::Sleepers(_) => "sleepers",
            Self::FailingBuild => "failing-build",
            Self::EvaluationError => "evaluation-error",
            Self::Hostile => "hostile",
            Self::PlainMicrovmNix => "plain-microvm-nix",
            Self::Profiles => "profiles",
            Self::Empty => "empty",
        }
    }
}

/// Copies the fixture to the host, and returns its path there: `/root/fixtures/<name>`.
///
/// # Errors
/// When it cannot be read here or written there.
pub fn prepare(host: &Host, fixture: Fixture) -> anyhow::Result<String> {
    let here = Workspace::here()?.fixtures().join(fixture.folder());
    let there = format!("/root/fixtures/{}", fixture.folder());
    host.run_ok(&["rm", "-rf", &there])?;
    copy(host, &here, &there)?;
    match fixture {
        Fixture::Guests => {
            host.shell(&format!("cp /boot/vmlinuz-* {there}/vmlinuz"))?;
        }
        Fixture::Lifecycle => guest_of_its_own(host, &there)?,
        Fixture::Volumes => {
            guest_of_its_own(host, &there)?;
            module(host, &there, "virtio_blk")?;
        }
        Fixture::Tasks => {
            guest_of_its_own(host, &there)?;
            module(host, &there, "pvpanic")?;
            module(host, &there, "pvpanic-pci")?;
        }
        Fixture::Credentials => {
            guest_of_its_own(host, &there)?;
            module(host, &there, "qemu_fw_cfg")?;
        }
        Fixture::Sleepers(count) => host.write(&format!("{there}/count.nix"), format!("{count}\n"), 0o644)?,
        Fixture::FailingBuild
        | Fixture::EvaluationError
        | Fixture::Hostile
        | Fixture::PlainMicrovmNix
        | Fixture::Profiles
        | Fixture::Empty => {}
    }
    Ok(there)
}

/// What a flake needs that makes its guests by `guest.nix`.
fn guest_of_its_own(host: &Host, there: &str) -> anyhow::Result<()> {
    let guest = Workspace::here()?.fixtures().join("guests/guest.nix");
    host.copy_in(&guest, &format!("{there}/guest.nix"), 0o644)?;
    host.shell(&format!("cp /boot/vmlinuz-* {there}/vmlinuz")).map(drop)
}

/// A driver of the host's kernel, which is the guests' too.
fn module(host: &Host, there: &str, name: &str) -> anyhow::Result<()> {
    host.shell(&format!("xz -dc $(find /lib/modules -name {name}.ko.xz) > {there}/{name}.ko")).map(drop)
}

fn copy(host: &Host, here: &Path, there: &str) -> anyhow::Result<()> {
    let entries =
        fs::read_dir(here).with_context(|| format!("cannot read the fixture {}", here.display()))?;
    for entry in entries {
        let entry = entry?;
        let to = format!("{there}/{}", entry.file_name().to_string_lossy());
        if entry.file_type()?.is_dir() {
            copy(host, &entry.path(), &to)?;
        } else {
            host.copy_in(&entry.path(), &to, 0o644)?;
        }
    }
    Ok(())
}
