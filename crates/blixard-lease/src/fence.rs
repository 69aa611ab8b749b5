//! The kill: one write, which the kernel carries out for every process below the cgroup, also for those
//! that are being forked.

use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

/// The cgroup could not be killed.
#[derive(Debug, thiserror::Error)]
#[error("cannot kill {}: {cause}", .group.display())]
pub(crate) struct FenceError {
    group: PathBuf,
    cause: io::Error,
}

/// Kills every process of a cgroup; one that is not there has none. One that has no such file is of a kernel
/// or of a hierarchy that cannot do it: that is an error, not an empty group.
pub(crate) fn kill_all(group: &Path) -> Result<(), FenceError> {
    let killed = OpenOptions::new().write(true).open(group.join("cgroup.kill"));
    match killed.and_then(|mut file| file.write_all(b"1")) {
        Err(cause) if cause.kind() == io::ErrorKind::NotFound && !group.exists() => Ok(()),
        Err(cause) => Err(FenceError { group: group.to_owned(), cause }),
        Ok(()) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_that_is_not_there_has_nothing_to_kill() {
        let folder = tempfile::tempdir().unwrap();
        kill_all(&folder.path().join("gone")).unwrap();
        std::fs::write(folder.path().join("cgroup.kill"), "").unwrap();
        kill_all(folder.path()).unwrap();
        assert_eq!(std::fs::read_to_string(folder.path().join("cgroup.kill")).unwrap(), "1");
    }

    #[test]
    fn a_group_that_cannot_be_killed_is_named() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            kill_all(folder.path()).unwrap_err().to_string().starts_with("cannot kill /"),
            "no such file"
        );
        std::fs::create_dir(folder.path().join("cgroup.kill")).unwrap();
        assert!(kill_all(folder.path()).unwrap_err().to_string().starts_with("cannot kill /"));
    }
}
