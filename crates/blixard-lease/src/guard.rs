//! Whether a vm may still start, asked by a process that is in its unit and in its cgroup already.
//!
//! A start may be carried out long after it was decided: the daemon or PID 1 may have been stopped in
//! between, and the daemon killed; the lease may have lapsed, and another may be held by now under which the
//! vm belongs elsewhere; or the next daemon has ended the epoch and said so. So the process that becomes the
//! hypervisor looks itself. Either it looks after the kill, and sees that its lease is over, or before it,
//! and then the kill meets it. Either it looks after the mark of its epoch was made, or before it, and then
//! whoever made the mark sees its unit and stops it before anything is said.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::io;
use std::path::{Path, PathBuf};

use blixard_types::holder::{EPOCHS_LEASED, HolderStatus, LeaseName, StartUnder, epoch_over};

use crate::hold::now_ms;

/// Why a program is not executed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum GuardError {
    /// Nobody holds a lease.
    #[error("no lease is held: cannot read {}: {cause}", .status.display())]
    NoStatus {
        /// The holder's file.
        status: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file is not a holder's.
    #[error("no lease is held: {text:?} is no status of a holder")]
    BadStatus {
        /// What it holds.
        text: String,
    },
    /// Another lease is held.
    #[error("lease {wanted:?} is over; lease {held:?} is held now")]
    Another {
        /// The one of the start.
        wanted: String,
        /// The one that is held.
        held: String,
    },
    /// The lease is over.
    #[error("lease {lease:?} is over")]
    Over {
        /// The lease.
        lease: String,
    },
    /// The epoch was ended.
    #[error("epoch {epoch} is over, as is every one up to {over}")]
    EpochOver {
        /// That of the start.
        epoch: u64,
        /// The newest one that is over.
        over: u64,
    },
    /// Which epochs are over is not known.
    #[error("cannot tell which epochs are over from {}: {cause}", .mark.display())]
    NoMark {
        /// The file.
        mark: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The machine is not alone any more.
    #[error("it was to start without a lease, and this machine has held one since")]
    NotAlone,
    /// An argument has a zero byte.
    #[error(transparent)]
    Argument(#[from] NulError),
    /// The program cannot be executed.
    #[error("cannot execute {program}: {cause}")]
    Execute {
        /// The program.
        program: String,
        /// Why.
        cause: nix::errno::Errno,
    },
}

/// A start, as its unit says it.
pub(crate) struct Start<'a> {
    pub(crate) under: StartUnder,
    /// The file with the newest epoch of the vm that is over.
    pub(crate) mark: &'a Path,
    pub(crate) epoch: u64,
}

/// Whether this lease is held now.
pub(crate) fn check(status: &Path, lease: &LeaseName) -> Result<(), GuardError> {
    let text = std::fs::read_to_string(status)
        .map_err(|cause| GuardError::NoStatus { status: status.to_owned(), cause })?;
    let held: HolderStatus = text.parse().map_err(|_| GuardError::BadStatus { text })?;
    if held.lease != lease.0 {
        return Err(GuardError::Another { wanted: lease.0.clone(), held: held.lease });
    }
    if held.until.holds_at(now_ms()) { Ok(()) } else { Err(GuardError::Over { lease: held.lease }) }
}

/// Whether something may still start.
fn may_start(status: &Path, start: &Start<'_>) -> Result<(), GuardError> {
    if let Some(over) = newest_over(start.mark)?.filter(|&over| start.epoch <= over) {
        return Err(GuardError::EpochOver { epoch: start.epoch, over });
    }
    match &start.under {
        StartUnder::Lease(lease) => check(status, lease),
        StartUnder::Kept => Ok(()),
        StartUnder::Alone => alone(&start.mark.with_file_name(EPOCHS_LEASED)),
    }
}

/// The newest epoch that is over, if one is. What cannot be read is not taken for none.
fn newest_over(mark: &Path) -> Result<Option<u64>, GuardError> {
    let unknown = |cause| GuardError::NoMark { mark: mark.to_owned(), cause };
    match std::fs::read_to_string(mark) {
        Ok(text) => match epoch_over(&text) {
            Ok(over) => Ok(Some(over.0)),
            Err(error) => Err(unknown(io::Error::new(io::ErrorKind::InvalidData, error))),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(cause) => Err(unknown(cause)),
    }
}

fn alone(leased: &Path) -> Result<(), GuardError> {
    match leased.try_exists() {
        Ok(false) => Ok(()),
        Ok(true) => Err(GuardError::NotAlone),
        Err(cause) => Err(GuardError::NoMark { mark: leased.to_owned(), cause }),
    }
}

/// Becomes this program, if it may still start.
pub(crate) fn run(
    status: &Path,
    start: &Start<'_>,
    program: &str,
    rest: &[&str],
) -> Result<Infallible, GuardError> {
    let path = CString::new(program)?;
    let rest = rest.iter().map(|argument| CString::new(*argument));
    let arguments = std::iter::once(Ok(path.clone())).chain(rest).collect::<Result<Vec<_>, _>>()?;
    may_start(status, start)?;
    nix::unistd::execv(&path, &arguments)
        .map_err(|cause| GuardError::Execute { program: program.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &str, lease: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), status).unwrap();
        let checked = check(file.path(), &LeaseName(lease.to_owned()));
        checked.map_or_else(|error| error.to_string(), |()| "held".to_owned())
    }

    #[test]
    fn only_the_lease_that_is_held_now_counts() {
        let later = now_ms() + 60_000;
        assert_eq!(said(&format!("7-1 until {later}"), "7-1"), "held");
        assert_eq!(said("7-1 endless", "7-1"), "held");
        assert_eq!(
            said(&format!("8-2 until {later}"), "7-1"),
            r#"lease "7-1" is over; lease "8-2" is held now"#
        );
        assert_eq!(said("7-1 until 1", "7-1"), r#"lease "7-1" is over"#);
        assert_eq!(said("", ""), r#"no lease is held: "" is no status of a holder"#);
    }

    #[test]
    fn a_program_is_not_executed_without_a_holder() {
        let folder = tempfile::tempdir().unwrap();
        let under = StartUnder::Lease(LeaseName("7-1".to_owned()));
        let start = Start { under, mark: &folder.path().join("web"), epoch: 1 };
        let refused = run(Path::new("/nonexistent/status"), &start, "/bin/true", &[]).unwrap_err();
        assert!(matches!(refused, GuardError::NoStatus { .. }), "{refused}");
    }

    #[test]
    fn an_epoch_that_is_over_starts_nothing_whatever_it_is_under() {
        let folder = tempfile::tempdir().unwrap();
        let (mark, status) = (folder.path().join("web"), folder.path().join("status"));
        std::fs::write(&status, "7-1 endless").unwrap();
        for under in [StartUnder::Lease(LeaseName("7-1".to_owned())), StartUnder::Kept, StartUnder::Alone] {
            let start = |epoch| Start { under: under.clone(), mark: &mark, epoch };
            let _ = std::fs::remove_file(&mark);
            assert!(may_start(&status, &start(3)).is_ok());
            std::fs::write(&mark, "3\n").unwrap();
            for epoch in [1, 3] {
                let refused = may_start(&status, &start(epoch)).unwrap_err();
                assert!(matches!(refused, GuardError::EpochOver { over: 3, .. }), "{refused}");
            }
            assert!(may_start(&status, &start(4)).is_ok());
            std::fs::write(&mark, "three").unwrap();
            let refused = may_start(&status, &start(4)).unwrap_err();
            assert!(matches!(refused, GuardError::NoMark { .. }), "{refused}");
        }
    }

    #[test]
    fn what_was_to_start_on_a_machine_that_is_alone_does_not_once_a_lease_was_held() {
        let folder = tempfile::tempdir().unwrap();
        let start = Start { under: StartUnder::Alone, mark: &folder.path().join("web"), epoch: 1 };
        let status = Path::new("/nonexistent/status");
        assert!(may_start(status, &start).is_ok());
        std::fs::write(folder.path().join(EPOCHS_LEASED), "").unwrap();
        assert!(matches!(may_start(status, &start).unwrap_err(), GuardError::NotAlone));
    }
}
