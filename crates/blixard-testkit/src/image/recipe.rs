//! The recipe of an image: Debian packages and a few files, and the hash that names the result.
//!
//! Everything that goes into an image is in this file, so that a change of it makes another image.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

/// Where the packages come from.
pub(super) const MIRROR: &str = "http://deb.debian.org/debian";

const SUITE: &str = "trixie";

const PACKAGES: [&str; 21] = [
    "systemd",
    "systemd-sysv",
    "dbus",
    "udev",
    // Nix with its daemon and the build users.
    "nix-bin",
    "nix-setup-systemd",
    "ca-certificates",
    "git",
    "iproute2",
    "iputils-ping",
    "nftables",
    "kmod",
    "procps",
    "curl",
    // What the file systems of volumes are made with.
    "e2fsprogs",
    // What microvm.nix asks a guest of QEMU with.
    "socat",
    // What a guest is made of.
    "busybox-static",
    "bash-static",
    "cpio",
    "qemu-system-x86",
    "linux-image-cloud-amd64",
];

/// Files of the image, besides those of the packages.
const FILES: [(&str, &str); 3] = [
    ("etc/nix/nix.conf", NIX_CONF),
    ("etc/systemd/system/testhost-network.service", NETWORK_UNIT),
    ("etc/machine-id", ""),
];

/// No substituters: there is no network. The tools of derivations are the host's own.
const NIX_CONF: &str = "\
experimental-features = nix-command flakes
substituters =
flake-registry =
sandbox = true
sandbox-paths = /usr /bin /lib /lib64
";

/// Gives the host the address that its world wrote to `/etc/testhost-address`.
const NETWORK_UNIT: &str = "\
[Unit]
Description=The address of this test host
DefaultDependencies=no
Before=network.target
Wants=network.target

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/sh -euc 'ip address replace \"$(cat /etc/testhost-address)\" dev host0; ip link set host0 up'
";

/// Symbolic links: a unit that is wanted, and timers that only disturb.
const LINKS: [(&str, &str); 5] = [
    ("etc/systemd/system/sysinit.target.wants/testhost-network.service", "../testhost-network.service"),
    ("etc/systemd/system/apt-daily.timer", "/dev/null"),
    ("etc/systemd/system/apt-daily-upgrade.timer", "/dev/null"),
    ("etc/systemd/system/dpkg-db-backup.timer", "/dev/null"),
    ("etc/systemd/system/console-getty.service", "/dev/null"),
];

/// Programs run on the image's root (`$1`) when its packages are in.
const HOOKS: [&str; 1] = ["chroot \"$1\" groupadd --system blixard"];

/// The command that makes the image, but for its last arguments: folder and mirror.
pub(super) fn mmdebstrap() -> Vec<String> {
    let mut argv = vec![
        "mmdebstrap".to_owned(),
        "--variant=minbase".to_owned(),
        format!("--include={}", PACKAGES.join(",")),
    ];
    argv.extend(HOOKS.iter().map(|hook| format!("--customize-hook={hook}")));
    argv.push(SUITE.to_owned());
    argv
}

/// Adds the files to an image that has its packages.
pub(super) fn finish(root: &Path) -> anyhow::Result<()> {
    for (path, text) in FILES {
        fs::write(root.join(path), text).with_context(|| format!("cannot write {path} of the image"))?;
    }
    for (path, target) in LINKS {
        let path = root.join(path);
        if let Some(folder) = path.parent() {
            fs::create_dir_all(folder)?;
        }
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error.into()),
            _ => symlink(target, &path).with_context(|| format!("cannot link {}", path.display()))?,
        }
    }
    Ok(())
}

/// What names the image: sixteen hex digits of the hash of all of the above.
pub(super) fn digest() -> String {
    let recipe = format!("{MIRROR} {:?} {FILES:?} {LINKS:?}", mmdebstrap());
    let mut name = data_encoding::HEXLOWER.encode(&Sha256::digest(recipe));
    name.truncate(16);
    name
}
