//! The one place that starts `mkfs`: on an image that has just been made and that nobody has opened.

use std::os::fd::AsRawFd as _;
use std::process::Stdio;

use blixard_core::ports::volumes::{VolumeError, VolumeImage};
use blixard_types::spec::FileSystem;
use rustix::fd::OwnedFd;

/// Makes the file system that is wanted, if one is. The program gets the open file, not a name that somebody could
/// put something else at.
#[allow(clippy::disallowed_methods, reason = "this is the adapter's one wrapper around processes")]
pub(crate) fn format(wanted: &VolumeImage, file: &OwnedFd) -> Result<(), VolumeError> {
    let Some(fs_type) = wanted.fs_type else { return Ok(()) };
    let program = format!("mkfs.{}", fs_type.name());
    let failed = |reason: String| VolumeError::Format { volume: wanted.name.clone(), reason };
    let file = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
    let mut command = std::process::Command::new(&program);
    command.args(arguments(fs_type, wanted.label.as_deref())).arg(file).stdin(Stdio::null());
    let output = command.output().map_err(|cause| failed(format!("cannot start {program}: {cause}")))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(failed(format!("{program} ended with {}: {last}", output.status)))
}

/// Quiet, without questions, and with a label that is one word.
fn arguments(fs_type: FileSystem, label: Option<&str>) -> Vec<String> {
    let (flags, of_label): (&[&str], _) = match fs_type {
        FileSystem::Ext2 | FileSystem::Ext3 | FileSystem::Ext4 => (&["-q", "-F"], "-L"),
        FileSystem::Xfs | FileSystem::Btrfs => (&["-q", "-f"], "-L"),
        FileSystem::Vfat => (&[], "-n"),
    };
    let label = label.into_iter().flat_map(|label| [of_label.to_owned(), label.to_owned()]);
    flags.iter().map(|&flag| flag.to_owned()).chain(label).collect()
}
