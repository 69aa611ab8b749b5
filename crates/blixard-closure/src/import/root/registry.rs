//! Nix's database, by `nix-store`: what is valid, and making paths valid.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::{self, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use blixard_types::{PathRecord, Sha256Hash, StorePath};

/// Paths on one command line: far below what the kernel takes.
const BATCH: usize = 1000;

/// A program of Nix, on the local store whatever the environment says.
#[allow(clippy::disallowed_methods, reason = "the importer is the adapter around these processes")]
pub(super) fn nix(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.env_remove("NIX_REMOTE").stdin(Stdio::null()).stderr(Stdio::inherit());
    command
}

/// Those of the paths that are not valid, in their order.
pub(super) fn missing<'a>(nix_store: &Path, paths: &[&'a StorePath]) -> io::Result<Vec<&'a StorePath>> {
    let mut invalid = BTreeSet::new();
    for batch in paths.chunks(BATCH) {
        let arguments = batch.iter().map(|path| path.as_str());
        let output = nix(nix_store).args(["--check-validity", "--print-invalid"]).args(arguments).output()?;
        if !output.status.success() {
            return Err(io::Error::other(format!("nix-store --check-validity: {}", output.status)));
        }
        let text = String::from_utf8_lossy(&output.stdout);
        invalid.extend(text.lines().map(str::to_owned));
    }
    Ok(paths.iter().copied().filter(|path| invalid.contains(path.as_str())).collect())
}

/// Registers paths in one transaction.
pub(super) fn load(nix_store: &Path, records: &[&PathRecord]) -> io::Result<()> {
    if records.is_empty() {
        return Ok(());
    }
    let mut child = nix(nix_store).arg("--load-db").stdin(Stdio::piped()).stdout(Stdio::null()).spawn()?;
    let written = match child.stdin.take() {
        Some(mut stdin) => stdin.write_all(text(records).as_bytes()),
        None => Ok(()),
    };
    let status = child.wait()?;
    written?;
    if status.success() { Ok(()) } else { Err(io::Error::other(format!("nix-store --load-db: {status}"))) }
}

/// What `--load-db` reads: the form of `--dump-db`, without derivers.
fn text(records: &[&PathRecord]) -> String {
    let mut text = String::new();
    for PathRecord { path, nar_hash, nar_size, references } in records {
        let _ = write!(text, "{path}\n{}\n{nar_size}\n\n{}\n", base16(nar_hash), references.len());
        for reference in references {
            let _ = writeln!(text, "{reference}");
        }
    }
    text
}

fn base16(hash: &Sha256Hash) -> String {
    hash.0.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_written_as_load_db_reads_them() {
        let path: StorePath = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a".parse().unwrap();
        let record = PathRecord {
            path: path.clone(),
            nar_hash: Sha256Hash([0xab; 32]),
            nar_size: 7,
            references: [path].into(),
        };
        let hash = "ab".repeat(32);
        let base = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-a";
        assert_eq!(text(&[&record]), format!("{base}\n{hash}\n7\n\n1\n{base}\n"));
    }
}
