//! What test hosts need of the machine they run on: root, Debian, a few packages.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::process;

/// Programs that are needed, and the Debian packages that bring them.
const PROGRAMS: [(&str, &str); 6] = [
    ("mmdebstrap", "mmdebstrap"),
    ("systemd-nspawn", "systemd-container"),
    ("ip", "iproute2"),
    ("unshare", "util-linux"),
    ("nsenter", "util-linux"),
    ("flock", "util-linux"),
];

/// Refuses, in words, a machine that cannot have test hosts.
pub(super) fn require() -> anyhow::Result<()> {
    if !rustix::process::geteuid().is_root() {
        anyhow::bail!("test hosts need root, for namespaces and mounts: run this as root");
    }
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    if !is_debian(&release) {
        anyhow::bail!(
            "test hosts are made from Debian packages, and /etc/os-release names no Debian 12 or newer"
        );
    }
    Ok(())
}

fn is_debian(release: &str) -> bool {
    let field = |key: &str| {
        release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    // Testing and sid have no VERSION_ID.
    let version = field("VERSION_ID").map_or(Some(u32::MAX), |text| text.parse().ok());
    field("ID") == Some("debian") && version.is_some_and(|version| version >= 12)
}

/// Installs the packages of the programs that are not there.
pub(super) fn install_missing(say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let mut missing: Vec<&str> =
        PROGRAMS.iter().filter(|(program, _)| !is_installed(program)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    say(&format!("installing Debian packages: {}", missing.join(" ")));
    let install = [
        &["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes", "--no-install-recommends"],
        &*missing,
    ]
    .concat();
    if process::run(&install).is_err() {
        // A fresh machine has no package lists, or old ones.
        process::run(&["apt-get", "update"]).context("cannot fetch Debian's package lists")?;
        process::run(&install).context("cannot install what test hosts need")?;
    }
    Ok(())
}

fn is_installed(program: &str) -> bool {
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"]
        .iter()
        .any(|folder| Path::new(folder).join(program).exists())
}

#[cfg(test)]
mod tests {
    use super::is_debian;

    #[test]
    fn only_a_recent_debian_will_do() {
        for (release, expected) in [
            ("ID=debian\nVERSION_ID=\"12\"\n", true),
            ("ID=debian\nVERSION_ID=\"13\"\n", true),
            ("PRETTY_NAME=\"Debian GNU/Linux forky/sid\"\nID=debian\n", true),
            ("ID=debian\nVERSION_ID=\"11\"\n", false),
            ("ID=ubuntu\nID_LIKE=debian\nVERSION_ID=\"24.04\"\n", false),
            ("", false),
        ] {
            assert_eq!(is_debian(release), expected, "{release:?}");
        }
    }
}
