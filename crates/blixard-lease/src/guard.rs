//! Whether a lease is held now, asked by a process that is in the fenced cgroup already.
//!
//! A start may be carried out long after it was decided: the daemon or PID 1 may have been stopped in
//! between, the lease may have lapsed, and another may be held by now under which the vm belongs elsewhere.
//! So the process that becomes the hypervisor looks itself. Either it looks after the kill, and sees that
//! its lease is over, or before it, and then the kill meets it.

use std::convert::Infallible;
use std::ffi::{CString, NulError};
use std::io;
use std::path::{Path, PathBuf};

use blixard_types::holder::HolderStatus;

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

/// Whether this lease is held now.
pub(crate) fn check(status: &Path, lease: &str) -> Result<(), GuardError> {
    let text = std::fs::read_to_string(status)
        .map_err(|cause| GuardError::NoStatus { status: status.to_owned(), cause })?;
    let held: HolderStatus = text.parse().map_err(|_| GuardError::BadStatus { text })?;
    if held.lease != lease {
        return Err(GuardError::Another { wanted: lease.to_owned(), held: held.lease });
    }
    if held.until.holds_at(now_ms()) { Ok(()) } else { Err(GuardError::Over { lease: held.lease }) }
}

/// Becomes this program, if the lease is held now.
pub(crate) fn run(
    status: &Path,
    lease: &str,
    program: &str,
    rest: &[&str],
) -> Result<Infallible, GuardError> {
    let path = CString::new(program)?;
    let rest = rest.iter().map(|argument| CString::new(*argument));
    let arguments = std::iter::once(Ok(path.clone())).chain(rest).collect::<Result<Vec<_>, _>>()?;
    check(status, lease)?;
    nix::unistd::execv(&path, &arguments)
        .map_err(|cause| GuardError::Execute { program: program.to_owned(), cause })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(status: &str, lease: &str) -> String {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), status).unwrap();
        check(file.path(), lease).map_or_else(|error| error.to_string(), |()| "held".to_owned())
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
        let refused = run(Path::new("/nonexistent/status"), "7-1", "/bin/true", &[]).unwrap_err();
        assert!(matches!(refused, GuardError::NoStatus { .. }), "{refused}");
    }
}
