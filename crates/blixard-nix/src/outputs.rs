//! Looks into derivations and outputs that are in the store.
//!
//! Owns: reading them without being led out of the store. Refuses to know: what they are for.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Component, Path};

use blixard_core::ports::nix::{EvaluateError, EvaluatedVm, ProgramError};
use blixard_types::{STORE_DIR, StorePath};
use nix_derivation::Derivation;

/// The largest derivation that is read. One with a million inputs would be smaller.
const DERIVATION_MAX: u64 = 64 * 1024 * 1024;

/// Checks that a vm's runner is an output of its derivation. A flake can claim any two paths; without
/// this, one could have the cluster take whatever else is in the builder's store for its own.
pub(crate) async fn check_made_by(vm: &EvaluatedVm) -> Result<(), EvaluateError> {
    let refused = |reason: String| EvaluateError::Malformed {
        reason: format!("`microvms.{}`: {reason}", vm.attribute),
    };
    let derivation = read_derivation(&vm.drv).await.map_err(&refused)?;
    let outputs = derivation.resolved_outputs().map_err(|cause| refused(cause.to_string()))?;
    let made = outputs.values().filter_map(|output| output.path.as_ref());
    if made.map(nix_derivation::StorePath::to_absolute_path).any(|path| path == vm.out.as_str()) {
        return Ok(());
    }
    Err(refused(format!("{} is not an output of {}", vm.out, vm.drv)))
}

async fn read_derivation(drv: &StorePath) -> Result<Derivation, String> {
    let unreadable = |cause: std::io::Error| format!("cannot read {drv}: {cause}");
    // Not through a symbolic link: a builder can make one that is called like a derivation.
    let metadata = tokio::fs::symlink_metadata(drv.as_path()).await.map_err(unreadable)?;
    if !metadata.is_file() || metadata.len() > DERIVATION_MAX {
        return Err(format!("{drv} is not a derivation"));
    }
    let bytes = tokio::fs::read(drv.as_path()).await.map_err(unreadable)?;
    let name = drv.basename().split_once('-').map_or("", |(_, name)| name);
    Derivation::from_aterm_bytes(&bytes, name.strip_suffix(".drv").unwrap_or(name))
        .map_err(|cause| format!("{drv} is not a derivation: {cause}"))
}

/// Whether there is a program at `below` in a store path, possibly through symbolic links within the
/// store. What leads elsewhere is none: on another machine it would be something else.
pub(crate) async fn check_program(path: &StorePath, below: &str) -> Result<(), ProgramError> {
    let below = Path::new(below);
    if !below.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err(ProgramError::Elsewhere);
    }
    let resolved = tokio::fs::canonicalize(path.as_path().join(below)).await;
    let resolved = resolved.map_err(|_| ProgramError::Missing)?;
    let metadata = tokio::fs::symlink_metadata(&resolved).await.map_err(|_| ProgramError::Missing)?;
    if !resolved.starts_with(STORE_DIR) {
        Err(ProgramError::Elsewhere)
    } else if !metadata.is_file() {
        Err(ProgramError::NoFile)
    } else if metadata.permissions().mode() & 0o111 == 0 {
        Err(ProgramError::NotExecutable)
    } else {
        Ok(())
    }
}
