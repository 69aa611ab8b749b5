//! Calls of the Nix command line that lock a flake and read its sources, as the calling user.
//!
//! Owns: the only processes this program starts. Refuses to know: what becomes of the source.

use std::ffi::OsStr;
use std::io;
use std::path::PathBuf;
use std::process::Stdio;

use blixard_proto::v1::FlakeSource;
use blixard_types::{HashError, Sha256Hash, StorePath, StorePathError};
use bytes::{Bytes, BytesMut};
use serde::Deserialize;
use tokio::io::AsyncReadExt as _;

use super::lock::LockFile;
use super::source::{LocalInput, Metadata};
use super::tree::{in_tree, tree_of};
use crate::error::{ErrorKind, Failure};
use crate::output::lines;

/// Bytes of a NAR that are sent at once.
const PIECE: usize = 256 << 10;

/// What is read of the words of a program that has failed.
const WORDS_MAX: u64 = 64 << 10;

/// Works whatever the user's nix.conf says.
const FEATURES: [&str; 2] = ["--extra-experimental-features", "nix-command flakes"];

/// The Nix programs, and the store that they work with.
#[derive(Debug, Clone)]
pub(crate) struct Nix {
    /// Where they are; in PATH if not said.
    folder: Option<PathBuf>,
    /// The root of another store than the machine's.
    store: Option<PathBuf>,
}

/// A flake whose source is in a store.
#[derive(Debug)]
pub(crate) struct LockedFlake {
    pub(crate) source: FlakeSource,
    /// What its lock file would be, if that lacks inputs.
    pub(crate) lock: Option<LockFile>,
    /// What only this machine has of its inputs.
    pub(crate) inputs: Vec<LocalInput>,
    /// What Nix had to say: a dirty tree, a lock file that is out of date.
    pub(crate) warnings: String,
    /// Works with the store that has the source.
    pub(crate) nix: Nix,
}

impl LockedFlake {
    /// Whether its lock file lacks inputs, or is missing.
    pub(crate) fn is_incomplete(&self) -> bool {
        says_incomplete(&self.warnings)
    }
}

fn says_incomplete(stderr: &str) -> bool {
    stderr.contains("not writing modified lock file")
}

/// Why a flake could not be locked, or a source of it not be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("cannot start `{program}`")]
    Start { program: &'static str, source: io::Error },
    #[error("`{command}` failed\n{}", told(stderr))]
    Failed { command: String, stderr: String },
    #[error("`{command}` printed something unexpected")]
    Json { command: &'static str, source: serde_json::Error },
    #[error("`{command}` cannot be read")]
    Read { command: String, source: io::Error },
    #[error("Nix put the flake where it cannot be")]
    Path(#[source] StorePathError),
    #[error("Nix gave a hash that is none")]
    Hash(#[source] HashError),
    #[error("Nix has put a local input of the flake at {found}, not {wanted}")]
    Moved { found: String, wanted: StorePath },
    #[error("the lock file cannot be put into words")]
    Lock(#[source] serde_json::Error),
}

impl From<LockError> for Failure {
    fn from(error: LockError) -> Self {
        let hint = match &error {
            LockError::Start { source, .. } if source.kind() == io::ErrorKind::NotFound => {
                Some("Nix is needed where `blixard deploy` runs; is it in the PATH?")
            }
            LockError::Failed { stderr, .. } => hint_for(stderr),
            LockError::Moved { .. } => Some("`nix flake update` locks its inputs anew"),
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
        return Some(
            "what Nix takes for a flake: a path (`./NAME`, with the `./`), `github:OWNER/REPOSITORY`, `git+ssh://…`",
        );
    }
    if says("flake.nix' does not exist") || says("not find a flake.nix") || says("not part of a flake") {
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

/// Whether Nix says that this user may not reach the daemon, which alone writes to the machine's store.
fn is_barred(error: &LockError) -> bool {
    matches!(error, LockError::Failed { stderr, .. } if stderr.contains("daemon-socket/socket': Permission denied"))
}

impl Nix {
    /// The programs in PATH.
    pub(crate) const fn in_path() -> Self {
        Self { folder: None, store: None }
    }

    /// The programs in a folder.
    #[cfg(test)]
    pub(crate) const fn in_folder(folder: PathBuf) -> Self {
        Self { folder: Some(folder), store: None }
    }

    /// Locks a flake and puts its source into the store; into one of the user's own where the machine's is
    /// for others. Writes no lock file.
    pub(crate) fn lock(&self, flake: &str) -> Result<LockedFlake, LockError> {
        match (self.lock_in_store(flake), own_store()) {
            (Err(error), Some(store)) if is_barred(&error) && self.store.is_none() => {
                Self { folder: self.folder.clone(), store: Some(store) }.lock_in_store(flake)
            }
            (result, _) => result,
        }
    }

    fn lock_in_store(&self, flake: &str) -> Result<LockedFlake, LockError> {
        // Reading a flake is enough to find that it cannot be read.
        let of_user = |error| match (error, tree_of(flake)) {
            (LockError::Failed { command, stderr }, Some(tree)) => {
                LockError::Failed { command, stderr: in_tree(&stderr, &tree) }
            }
            (error, _) => error,
        };
        let [features, which] = FEATURES;
        let words = [features, which, "flake", "metadata", "--json", "--no-write-lock-file", flake];
        let asked = self.run("nix", &words).map_err(of_user)?;
        let metadata: Metadata = parse("nix flake metadata --json", &asked.stdout)?;
        let path: StorePath = metadata.path.parse().map_err(LockError::Path)?;
        let hash = match &metadata.locked.nar_hash {
            Some(hash) => hash.clone(),
            // Nothing that is not locked has one.
            None => self.run("nix-store", &["--query", "--hash", path.as_str()])?.stdout,
        };
        let hash: Sha256Hash = hash.trim().parse().map_err(LockError::Hash)?;
        let inputs = metadata.local_inputs();
        let lock = says_incomplete(&asked.stderr).then(|| LockFile::of(&metadata.locks)).transpose()?;
        let mut source = metadata.into_source(hash);
        source.lock = lock.as_ref().map(|lock| lock.path.to_string());
        Ok(LockedFlake { source, lock, inputs, warnings: asked.stderr, nix: self.clone() })
    }

    /// Puts local inputs into the store, where they are as they were locked.
    pub(crate) fn realise(&self, inputs: &[&LocalInput]) -> Result<(), LockError> {
        if inputs.is_empty() {
            return Ok(());
        }
        let trees: Vec<_> = inputs.iter().map(|input| &input.tree).collect();
        let trees = serde_json::to_string(&trees)
            .map_err(|source| LockError::Json { command: "nix flake metadata --json", source })?;
        let expression = format!(
            "builtins.map (tree: builtins.unsafeDiscardStringContext (builtins.fetchTree tree).outPath) \
             (builtins.fromJSON {})",
            nix_string(&trees)
        );
        let [features, which] = FEATURES;
        let told = self.run("nix", &[features, which, "eval", "--json", "--expr", &expression])?;
        let found: Vec<String> = parse("nix eval --json", &told.stdout)?;
        match found.into_iter().zip(inputs).find(|(found, input)| found != input.path.as_str()) {
            None => Ok(()),
            Some((found, input)) => Err(LockError::Moved { found, wanted: input.path.clone() }),
        }
    }

    /// Begins to print the NAR of a path of the store.
    pub(crate) fn dump(&self, path: &str) -> Result<Dump, LockError> {
        let [features, which] = FEATURES;
        let words = [features, which, "store", "dump-path", path];
        let mut command = tokio::process::Command::from(self.command("nix", &words));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let child = command.spawn().map_err(|source| LockError::Start { program: "nix", source })?;
        Ok(Dump { child, command: shown("nix", &words) })
    }

    /// Empties the user's own store; what is in it has been sent.
    pub(crate) fn forget(&self) {
        if self.store.is_some() {
            // What stays is no harm, and goes the next time.
            let _ = self.run("nix-store", &["--gc"]);
        }
    }

    #[expect(clippy::disallowed_methods, reason = "the one place where this program starts others")]
    fn command(&self, program: &'static str, args: &[&str]) -> std::process::Command {
        let path = self.folder.as_ref().map(|folder| folder.join(program).into_os_string());
        let mut command = std::process::Command::new(path.as_deref().unwrap_or(OsStr::new(program)));
        command.args(args).stdin(Stdio::null());
        if let Some(store) = &self.store {
            command.arg("--store").arg(store);
        }
        command
    }

    fn run(&self, program: &'static str, args: &[&str]) -> Result<Printed, LockError> {
        let output = self.command(program, args).output();
        let output = output.map_err(|source| LockError::Start { program, source })?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let stderr = text(&output.stderr);
        if !output.status.success() {
            return Err(LockError::Failed { command: shown(program, args), stderr });
        }
        Ok(Printed { stdout: text(&output.stdout), stderr })
    }
}

/// A NAR that is being printed.
#[derive(Debug)]
pub(crate) struct Dump {
    child: tokio::process::Child,
    command: String,
}

impl Dump {
    /// The next bytes; `None` at a good end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, LockError> {
        let failed = |source| LockError::Read { command: self.command.clone(), source };
        let mut bytes = BytesMut::with_capacity(PIECE);
        if let Some(stdout) = &mut self.child.stdout {
            while bytes.len() < PIECE && stdout.read_buf(&mut bytes).await.map_err(failed)? > 0 {}
        }
        if !bytes.is_empty() {
            return Ok(Some(bytes.freeze()));
        }
        let status = self.child.wait().await.map_err(failed)?;
        if status.success() {
            return Ok(None);
        }
        let mut stderr = Vec::new();
        if let Some(stream) = self.child.stderr.take() {
            stream.take(WORDS_MAX).read_to_end(&mut stderr).await.map_err(failed)?;
        }
        let stderr = String::from_utf8_lossy(&stderr).into_owned();
        Err(LockError::Failed { command: self.command.clone(), stderr })
    }
}

/// A store of the user's own.
fn own_store() -> Option<PathBuf> {
    let folder = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|folder| folder.is_absolute());
    let cache = folder("XDG_CACHE_HOME").or_else(|| Some(folder("HOME")?.join(".cache")))?;
    Some(cache.join("blixard/store"))
}

/// A command as it is told: without what makes it work whatever the user's nix.conf says.
fn shown(program: &str, args: &[&str]) -> String {
    let words = args.iter().copied().filter(|word| !FEATURES.contains(word));
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// A text as a string of the Nix language.
fn nix_string(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\"").replace('$', "\\$"))
}

struct Printed {
    stdout: String,
    stderr: String,
}

fn parse<'a, T: Deserialize<'a>>(command: &'static str, json: &'a str) -> Result<T, LockError> {
    serde_json::from_str(json).map_err(|source| LockError::Json { command, source })
}
