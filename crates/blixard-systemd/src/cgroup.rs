//! Whether any process of a unit is left, by the kernel's word.
//!
//! Owns: `cgroup.events` of cgroup v2. Refuses to know: units and their states, which may say
//! "stopped" while a process is still stuck in the kernel.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

const ROOT: &str = "/sys/fs/cgroup";

/// Processes die of SIGKILL in milliseconds; a guest's memory is given back at about 5 GiB/s.
const FIRST_PAUSE: Duration = Duration::from_millis(2);
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// A graceful stop takes a second or more, so nobody notices this.
const LEFT_PAUSE: Duration = Duration::from_millis(25);

/// `ENODEV`: the cgroup went away while its file was open.
const NO_DEVICE: i32 = 19;

/// The directory of a control group, which systemd names below the root of the hierarchy.
pub(crate) fn directory(control_group: &str) -> PathBuf {
    Path::new(ROOT).join(control_group.trim_start_matches('/'))
}

/// Waits until no process is left in a cgroup or below it. Has no deadline of its own.
pub(crate) async fn emptied(directory: &Path) {
    let mut pause = FIRST_PAUSE;
    while is_populated(directory).await {
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// Waits until a process has left a cgroup, which it does by ending. Has no deadline of its own. Asks often
/// enough to see it although another process of the same unit follows a second later.
pub(crate) async fn left(directory: &Path, process: u32) {
    while has_process(directory, process).await {
        tokio::time::sleep(LEFT_PAUSE).await;
    }
}

async fn has_process(directory: &Path, process: u32) -> bool {
    match tokio::fs::read_to_string(directory.join("cgroup.procs")).await {
        Ok(processes) => processes.lines().any(|line| line.parse() == Ok(process)),
        Err(error) => !is_gone(&error),
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound || error.raw_os_error() == Some(NO_DEVICE)
}

/// A file that cannot be read for another reason than its absence counts as populated.
pub(crate) async fn is_populated(directory: &Path) -> bool {
    match tokio::fs::read_to_string(directory.join("cgroup.events")).await {
        Ok(events) => !events.lines().any(|line| line == "populated 0"),
        Err(error) => !is_gone(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn populated_says(events: &str) -> bool {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("cgroup.events"), events).unwrap();
        is_populated(group.path()).await
    }

    #[tokio::test]
    async fn a_group_is_empty_when_the_kernel_says_so() {
        assert!(!populated_says("populated 0\nfrozen 0\n").await);
        assert!(populated_says("populated 1\nfrozen 0\n").await);
        assert!(populated_says("").await);
    }

    #[tokio::test]
    async fn a_group_that_is_gone_is_empty() {
        let group = tempfile::tempdir().unwrap();
        emptied(&group.path().join("gone")).await;
    }

    #[tokio::test]
    async fn a_group_that_cannot_be_read_is_not_taken_for_empty() {
        let group = tempfile::tempdir().unwrap();
        std::fs::create_dir(group.path().join("cgroup.events")).unwrap();
        assert!(is_populated(group.path()).await);
    }

    #[tokio::test]
    async fn a_process_has_left_a_group_when_the_kernel_no_longer_lists_it() {
        let group = tempfile::tempdir().unwrap();
        std::fs::write(group.path().join("cgroup.procs"), "12\n345\n").unwrap();
        assert!(has_process(group.path(), 345).await);
        assert!(!has_process(group.path(), 34).await);
        left(group.path(), 34).await;
        left(&group.path().join("gone"), 345).await;
    }

    #[test]
    fn a_control_group_is_named_below_the_root() {
        let group = directory(r"/blixard.slice/blixard-vm-a-b\x2dc-run.service");
        assert_eq!(group, Path::new(r"/sys/fs/cgroup/blixard.slice/blixard-vm-a-b\x2dc-run.service"));
    }
}
