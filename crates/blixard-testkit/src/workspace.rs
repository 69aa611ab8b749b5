//! Where things lie: the checkout, cargo's target folder, and the test hosts' corner of it.
//!
//! Owns the paths only; who makes and removes what is in them is said where it is done.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// A checkout of the project.
#[derive(Debug, Clone)]
pub struct Workspace {
    root: PathBuf,
    target: PathBuf,
}

impl Workspace {
    /// The checkout that this program was built from.
    ///
    /// # Errors
    /// When that folder is gone.
    pub fn here() -> anyhow::Result<Self> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let root = root
            .canonicalize()
            .with_context(|| format!("this program was built from {}, which is gone", root.display()))?;
        let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), PathBuf::from);
        Ok(Self { root, target })
    }

    /// The folder with the workspace's `Cargo.toml`.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Where cargo puts what it builds.
    #[must_use]
    pub fn target(&self) -> &Path {
        &self.target
    }

    /// Images and worlds of test hosts.
    pub(crate) fn testhost(&self) -> PathBuf {
        self.target.join("testhost")
    }

    /// One folder for each world.
    pub(crate) fn worlds(&self) -> PathBuf {
        self.testhost().join("worlds")
    }

    /// The flakes that scenarios deploy.
    pub(crate) fn fixtures(&self) -> PathBuf {
        self.root.join("checks/fixtures")
    }
}
