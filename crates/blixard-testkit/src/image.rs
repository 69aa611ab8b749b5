//! The root file system that every test host boots from: built once, cached by its recipe.
//!
//! Owns `target/testhost/image-<hash>`. An image is built under another name and renamed when it is
//! whole, under a lock, so that there is never half of one and never two builders. Hosts see it as the
//! read-only lower layer of an overlay.

mod machine;
mod recipe;

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use rustix::fs::FlockOperation;

use crate::{Workspace, process, wait};

/// A built image.
#[derive(Debug, Clone)]
pub struct Image {
    folder: PathBuf,
}

impl Image {
    /// The image of the present recipe; built if there is none yet, which takes about 40 s and a Debian
    /// mirror. Installs the Debian packages that this machine lacks for it, and says so through `say`.
    ///
    /// # Errors
    /// When this machine cannot have test hosts (not root, not Debian), or when the build fails.
    pub fn ready(workspace: &Workspace, say: &mut dyn FnMut(&str)) -> anyhow::Result<Self> {
        machine::require()?;
        machine::install_missing(say)?;
        let testhost = workspace.testhost();
        fs::create_dir_all(&testhost).with_context(|| format!("cannot make {}", testhost.display()))?;
        let lock = File::create(testhost.join("image.lock")).context("cannot make the image lock")?;
        rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("cannot lock the image")?;
        let folder = testhost.join(format!("image-{}", recipe::digest()));
        if !folder.exists() {
            remove_others(&testhost)?;
            build(&folder, say)?;
        }
        Ok(Self { folder })
    }

    /// Where it lies.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }
}

fn build(folder: &Path, say: &mut dyn FnMut(&str)) -> anyhow::Result<()> {
    let unfinished = folder.with_extension("unfinished");
    let log = folder.with_extension("log");
    say(&format!("building the test host image (about 40 s; log: {})", log.display()));
    let (built, elapsed) = wait::timed(|| {
        let mut argv = recipe::mmdebstrap();
        argv.push(unfinished.display().to_string());
        argv.push(recipe::MIRROR.to_owned());
        let output = process::capture(&argv, "mmdebstrap", &[])?;
        fs::write(&log, format!("{}{}", output.stdout, output.stderr))?;
        output
            .ok()
            .with_context(|| format!("the image cannot be built; is {} within reach?", recipe::MIRROR))?;
        recipe::finish(&unfinished)
    });
    built?;
    fs::rename(&unfinished, folder).context("cannot put the finished image in its place")?;
    say(&format!("built the image in {:.0} s", elapsed.as_secs_f64()));
    Ok(())
}

/// Removes images of other recipes, and unfinished ones, unless a world may stand on them.
fn remove_others(testhost: &Path) -> anyhow::Result<()> {
    let worlds = testhost.join("worlds");
    let in_use = worlds.exists() && fs::read_dir(&worlds)?.flatten().any(|entry| entry.path().is_dir());
    for entry in fs::read_dir(testhost)?.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let unfinished = name.ends_with(".unfinished");
        if name.starts_with("image-") && entry.path().is_dir() && (unfinished || !in_use) {
            fs::remove_dir_all(entry.path()).with_context(|| format!("cannot remove the old {name}"))?;
        }
    }
    Ok(())
}
