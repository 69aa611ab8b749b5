//! Takes sources that callers send: each is kept in a folder until its hash is known, and then handed to
//! Nix as a binary cache of one path.
//!
//! Owns: the folder, and the order of checking and registering. Refuses to know: who sends what, and
//! what a NAR is made of; Nix unpacks it, checks it once more, and registers it by its content.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use blixard_core::ports::BoxFuture;
use blixard_core::ports::nix::NixCommandError;
use blixard_core::ports::sources::{ContentSource, IncomingSource, TakeError};
use blixard_types::Sha256Hash;
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::sync::OnceCell;

use crate::command::NixCommand;
use crate::internal_json::Interpreter;

/// The NAR's name in the folder of its source. Nix makes a folder `nar` there.
const NAR: &str = "source.nar";

/// Where sources are kept until they are whole.
#[derive(Debug)]
pub(crate) struct Inbox {
    nix: PathBuf,
    folder: PathBuf,
    bytes_max: u64,
    taken: AtomicU64,
    /// What a daemon before this one has left is gone.
    swept: OnceCell<()>,
}

impl Inbox {
    pub(crate) fn new(nix: PathBuf, folder: PathBuf, bytes_max: u64) -> Arc<Self> {
        Arc::new(Self { nix, folder, bytes_max, taken: AtomicU64::new(0), swept: OnceCell::new() })
    }

    pub(crate) async fn take(
        self: &Arc<Self>,
        source: ContentSource,
    ) -> Result<Box<dyn IncomingSource>, TakeError> {
        let failed = |cause| self.failed(&source, cause);
        self.swept.get_or_try_init(|| async { remove(&self.folder) }).await.map_err(failed)?;
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let spool = Spool::make(self.folder.join(number.to_string())).map_err(failed)?;
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(spool.0.join(NAR));
        let file = tokio::fs::File::from_std(file.map_err(failed)?);
        let inbox = Arc::clone(self);
        Ok(Box::new(Incoming { inbox, source, spool, file, hasher: Sha256::new(), bytes: 0 }))
    }

    fn failed(&self, source: &ContentSource, cause: io::Error) -> TakeError {
        let folder = self.folder.display().to_string();
        TakeError::Spool { path: source.path().clone(), folder, cause }
    }

    /// Has Nix copy the path from its folder.
    async fn register(&self, source: &ContentSource, spool: &Path) -> Result<(), NixCommandError> {
        let cache = format!("file://{}", spool.display());
        let command = NixCommand::new(&self.nix, "copy")
            .args(["copy", "--from", &cache, source.path().as_str()])
            .args(["--extra-experimental-features", "nix-command"])
            .args(["--log-format", "internal-json"]);
        let mut said = Interpreter::default();
        let finished = command
            .run(|line| {
                said.line(line);
            })
            .await?;
        if finished.status.success() {
            return Ok(());
        }
        Err(command.failed(format!("{}: {}", finished.status, said.last_words())))
    }
}

/// A folder that goes with this.
#[derive(Debug)]
struct Spool(PathBuf);

impl Spool {
    fn make(folder: PathBuf) -> io::Result<Self> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
        Ok(Self(folder))
    }
}

impl Drop for Spool {
    fn drop(&mut self) {
        if let Err(error) = remove(&self.0) {
            tracing::warn!(folder = %self.0.display(), %error, "what is left of an upload stays until the next start");
        }
    }
}

fn remove(folder: &Path) -> io::Result<()> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

struct Incoming {
    inbox: Arc<Inbox>,
    source: ContentSource,
    spool: Spool,
    file: tokio::fs::File,
    hasher: Sha256,
    bytes: u64,
}

impl Incoming {
    async fn add(&mut self, bytes: &[u8]) -> Result<(), TakeError> {
        self.bytes = self.bytes.saturating_add(bytes.len() as u64);
        if self.bytes > self.inbox.bytes_max {
            let mib = self.inbox.bytes_max >> 20;
            return Err(TakeError::TooLarge { path: self.source.path().clone(), mib });
        }
        self.hasher.update(bytes);
        self.file.write_all(bytes).await.map_err(|cause| self.inbox.failed(&self.source, cause))
    }

    async fn complete(self) -> Result<(), TakeError> {
        let Self { inbox, source, spool, mut file, hasher, bytes } = self;
        let (wanted, found) = (source.nar_hash(), Sha256Hash(hasher.finalize().into()));
        if found != wanted {
            return Err(TakeError::WrongHash { path: source.path().clone(), wanted, found });
        }
        let failed = |cause| inbox.failed(&source, cause);
        file.flush().await.map_err(failed)?;
        drop(file);
        describe(&spool.0, &source, bytes).map_err(failed)?;
        Ok(inbox.register(&source, &spool.0).await?)
    }
}

impl IncomingSource for Incoming {
    fn piece<'a>(&'a mut self, bytes: &'a [u8]) -> BoxFuture<'a, Result<(), TakeError>> {
        Box::pin(self.add(bytes))
    }

    fn finish(self: Box<Self>) -> BoxFuture<'static, Result<(), TakeError>> {
        Box::pin(self.complete())
    }
}

/// Writes what makes the folder a binary cache. With `CA`, Nix needs no signature: it computes the path.
fn describe(folder: &Path, source: &ContentSource, nar_size: u64) -> io::Result<()> {
    let path = source.path();
    let digest = path.basename().split('-').next().unwrap_or_default();
    let hash = nix_derivation::nixbase32::encode(&source.nar_hash().0);
    let narinfo = format!(
        "StorePath: {path}\nURL: {NAR}\nCompression: none\nNarHash: sha256:{hash}\nNarSize: {nar_size}\n\
         References: \nCA: fixed:r:sha256:{hash}\n"
    );
    fs::write(folder.join("nix-cache-info"), format!("StoreDir: {}\n", blixard_types::STORE_DIR))?;
    fs::write(folder.join(format!("{digest}.narinfo")), narinfo)
}

#[cfg(test)]
mod tests;
