//! Calls of the Nix command line that lock a flake, as the calling user.
//!
//! Owns: the only processes this program starts. Refuses to know: what becomes of the source.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;

use blixard_proto::v1::FlakeSource;
use blixard_types::{HashError, Sha256Hash, StorePath, StorePathError};
use serde::Deserialize;

use super::source::Metadata;
use super::tree::{in_tree, tree_of};
use crate::error::{ErrorKind, Failure};
use crate::output::lines;

/// Works whatever the user's nix.conf says.
const FEATURES: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];

/// The Nix programs.
#[derive(Debug, Clone)]
pub(crate) struct Nix {
    /// Where they are; in PATH if not said.
    folder: Option<PathBuf>,
}

/// A flake whose source and inputs are in the store.
#[derive(Debug)]
pub(crate) struct LockedFlake {
    pub(crate) source: FlakeSource,
    /// What Nix had to say: a dirty tree, a lock file that is out of date.
    pub(crate) warnings: String,
}

impl LockedFlake {
    /// Whether its lock file lacks inputs, or is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        self.warnings.contains("not writing modified lock file")
    }
}

/// Why a flake could not be locked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("cannot start `{program}`")]
    Start { program: &'static str, source: io::Error },
    #[error("`{command}` failed\n{}", told(stderr))]
    Failed { command: String, stderr: String },
    #[error("`{command}` printed something unexpected")]
    Json { command: &'static str, source: serde_json::Error },
    #[error("Nix put the flake where it cannot be")]
    Path(#[source] StorePathError),
    #[error("Nix gave a hash that is none")]
    Hash(#[source] HashError),
    #[error("the flake changed while it was being locked")]
    Changed,
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let hint = match &error {
            LockError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("Nix is needed where `blixard deploy` runs; is it in the PATH?")
            }
            LockError::Failed { stderr, .. } => hint_for(stderr),
            LockError::Changed => Some("run it again"),
            _ => None,
        };
        let failure = Self::new(ErrorKind::Flake, error);
        match hint {
            Some(hint) => failure.hint(hint),
            None => failure,
        }
    }
}

/// What to do about words of Nix that many people meet.
fn hint_for(stderr: &str) -> Option<&'static str> {
    let says = |text: &str| stderr.contains(text);
    if says("daemon-socket/socket': Permission denied") {
        return Some("you may not use Nix here; on Debian the members of the group `nix-users` may");
    }
    if says("getting status of ") {
        return Some("is there a flake.nix? The path is not there, or not yours to read");
    }
    if says("' is unsupported") || says("is not a valid URL") || says("in the flake registries") {
        return Some("what Nix takes for a flake: a path, `github:OWNER/REPOSITORY`, `git+ssh://…`");
    }
    if says("flake.nix' does not exist") || says("not find a flake.nix") {
        return Some("is there a flake.nix? In a git repository it must be tracked: `git add flake.nix`");
    }
    if says("not owned by current user") {
        return Some("run it as the owner of the flake; a member of the group `blixard` need not be root");
    }
    if says("cannot connect to socket") {
        return Some("is the Nix daemon running? `systemctl status nix-daemon.socket`");
    }
    None
}

/// Nix's words within ours: there is one error, and it begins above.
fn told(stderr: &str) -> String {
    let lines = lines(stderr).map(|line| match line.strip_prefix("error: ") {
        Some(words) => format!("  {words}"),
        None => format!("  {line}"),
    });
    lines.collect::<Vec<_>>().join("\n").trim_end().to_owned()
}

#[derive(Deserialize)]
struct Archived {
    path: String,
}

impl Nix {
    /// The programs in PATH.
    pub(crate) const fn in_path() -> Self {
        Self { folder: None }
    }

    /// The programs in a folder.
    #[cfg(test)]
    pub(crate) const fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder) }
    }

    /// Locks a flake and puts it and its inputs into the store. Writes no lock file.
    pub(crate) fn lock(&self, flake: &str) -> Result<LockedFlake, LockError> {
        // Reading a flake is enough to find that it cannot be read.
        let of_user = |error| match (error, tree_of(flake)) {
            (LockError::Failed { command, stderr }, Some(tree)) => {
                LockError::Failed { command, stderr: in_tree(&stderr, &tree) }
            }
            (error, _) => error,
        };
        let asked = self.flake("metadata", flake).map_err(of_user)?;
        let metadata: Metadata = parse("nix flake metadata --json", &asked.stdout)?;
        let archived: Archived = parse("nix flake archive --json", &self.flake("archive", flake)?.stdout)?;
        let path: StorePath = archived.path.parse().map_err(LockError::Path)?;
        // The hash of what is in the store, in a form that has not changed in fifteen years.
        let hash = self.run("nix-store", ["--query", "--hash", path.as_str()])?.stdout;
        let hash: Sha256Hash = hash.trim().parse().map_err(LockError::Hash)?;
        let promised = metadata.locked.nar_hash.as_deref().map(str::parse::<Sha256Hash>);
        if promised.transpose().map_err(LockError::Hash)?.is_some_and(|promised| promised != hash) {
            return Err(LockError::Changed);
        }
        let source = metadata.into_source(path.to_string(), hash.to_string());
        Ok(LockedFlake { source, warnings: asked.stderr })
    }

    fn flake(&self, verb: &str, flake: &str) -> Result<Printed, LockError> {
        let [features, which] = FEATURES;
        self.run("nix", [features, which, "flake", verb, "--json", "--no-write-lock-file", flake])
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where this program starts others")]
    fn run<const N: usize>(&self, program: &'static str, args: [&str; N]) -> Result<Printed, LockError> {
        let path = self.folder.as_ref().map(|folder| folder.join(program).into_os_string());
        let mut command = std::process::Command::new(path.as_deref().unwrap_or(OsStr::new(program)));
        let output = command.args(args).stdin(std::process::Stdio::null()).output();
        let output = output.map_err(|source| LockError::Start { program, source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stderr = text(&output.stderr);
        if !output.status.success() {
            let words = args.into_iter().filter(|word| !FEATURES.contains(word));
            let command = std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ");
            return Err(LockError::Failed { command, stderr });
        }
        Ok(Printed { stdout: text(&output.stdout), stderr })
    }
}

struct Printed {
    stdout: String,
    stderr: String,
}

fn parse<'a, T: Deserialize<'a>>(command: &'static str, json: &'a str) -> Result<T, LockError> {
    serde_json::from_str(json).map_err(|source| LockError::Json { command, source })
}
