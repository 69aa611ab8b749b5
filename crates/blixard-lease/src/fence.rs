//! The kill: one write, which the kernel carries out for every process below the cgroup, also for those
//! that are being forked.

use std::io;
use std::path::{Path, PathBuf};

/// The cgroup could not be killed.
#[derive(Debug, thiserror::Error)]
#[error("cannot kill {}: {cause}", .group.display())]
pub(crate) struct FenceError {
    group: PathBuf,
    cause: io::Error,
}

/// Kills every process of a cgroup; one that is not there has none.
pub(crate) fn kill_all(group: &Path) -> Result<(), FenceError> {
    match std::fs::write(group.join("cgroup.kill"), "1") {
        Err(cause) if cause.kind() != io::ErrorKind::NotFound => {
            Err(FenceError { group: group.to_owned(), cause })
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_there_has_nothing_to_kill() {
        let folder = tempfile::tempdir().unwrap();
        kill_all(&folder.path().join("gone")).unwrap();
        kill_all(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn a_group_that_cannot_be_killed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("cgroup.kill")).unwrap();
        assert!(kill_all(folder.path()).unwrap_err().to_string().starts_with("cannot kill /"));
    }
}
