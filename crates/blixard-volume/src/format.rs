//! The one place that starts `mkfs`: on an image that has just been made and that nobody has opened. Owns: how long
//! that may take.

use std::io::Read as _;
use std::os::fd::AsRawFd as _;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use blixard_core::ports::volumes::{VolumeError, VolumeImage};
use blixard_types::spec::FileSystem;
use rustix::fd::OwnedFd;

/// How long a file system may take to be made: a sparse image has one within a second, whatever its size. A disk
/// that hangs holds up its own vm, and that no longer than this.
const LIMIT: Duration = Duration::from_mins(1);

/// How long a program that was killed may take to go. One that the kernel does not let go is left.
const KILL_LIMIT: Duration = Duration::from_secs(2);

const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(50);

/// How file systems are made.
#[derive(Debug, Clone)]
pub(crate) struct Formatter {
    /// Where the programs are; in `PATH` without.
    folder: Option<PathBuf>,
    limit: Duration,
}

impl Default for Formatter {
    fn default() -> Self {
        Self { folder: None, limit: LIMIT }
    }
}

impl Formatter {
    pub(crate) fn new(folder: PathBuf, limit: Duration) -> Self {
        Self { folder: Some(folder), limit }
    }

    /// Makes the file system that is wanted, if one is. The program gets the open file, not a name that somebody
    /// could put something else at.
    #[allow(clippy::disallowed_methods, reason = "this is the adapter's one wrapper around processes")]
    pub(crate) fn format(&self, wanted: &VolumeImage, file: &OwnedFd) -> Result<(), VolumeError> {
        let Some(fs_type) = wanted.fs_type else { return Ok(()) };
        let program = format!("mkfs.{}", fs_type.name());
        let failed = |reason: String| VolumeError::Format { volume: wanted.name.clone(), reason };
        let file = format!("/proc/{}/fd/{}", std::process::id(), file.as_raw_fd());
        let mut command = match &self.folder {
            Some(folder) => Command::new(folder.join(&program)),
            None => Command::new(&program),
        };
        command.args(arguments(fs_type, wanted.label.as_deref())).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        let cannot = |what: &str, cause| failed(format!("cannot {what} {program}: {cause}"));
        let mut child = command.spawn().map_err(|cause| cannot("start", cause))?;
        let Some(status) = ended(&mut child, self.limit).map_err(|cause| cannot("wait for", cause))? else {
            let _ = child.kill();
            let gone = ended(&mut child, KILL_LIMIT).is_ok_and(|status| status.is_some());
            let left = if gone { "" } else { ", and cannot be ended" };
            return Err(failed(format!(
                "{program} has not ended within {} ms{left}",
                self.limit.as_millis()
            )));
        };
        if status.success() {
            return Ok(());
        }
        let mut said = String::new();
        if let Some(mut stderr) = child.stderr.take() {
            let _ = stderr.read_to_string(&mut said);
        }
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
        Err(failed(format!("{program} ended with {status}: {last}")))
    }
}

/// How a program has ended; none if it has not within so long. Runs on a thread that may wait.
fn ended(child: &mut Child, within: Duration) -> std::io::Result<Option<ExitStatus>> {
    let (mut waited, mut pause) = (Duration::ZERO, FIRST_PAUSE);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if waited >= within {
            return Ok(None);
        }
        std::thread::sleep(pause);
        waited += pause;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
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
