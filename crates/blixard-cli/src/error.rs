//! What can go wrong, as a person and a script see it.
//!
//! Owns: the kinds of failure, their exit codes, and the one place where a chain of errors becomes text.
//! Refuses to know: how each failure came about; modules keep their own errors and map them here.

use std::error::Error;
use std::io::{self, Write};

use blixard_proto::hint::hint_of;
use tonic::{Code, Status};

use crate::output::{lines, one_line};

/// What a script can act on: each kind has its own exit code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ErrorKind {
    /// A fault of this program, or something nobody foresaw.
    Internal,
    /// The daemon cannot be reached, or cannot answer now.
    Unreachable,
    /// The caller may not do this.
    Permission,
    /// There is no such thing.
    NotFound,
    /// The cluster understood, and says no.
    Refused,
    /// The flake could not be locked, evaluated or built.
    Flake,
    /// A vm did not get where it was sent.
    NotThere,
    /// The user has had enough.
    Interrupted,
}

impl ErrorKind {
    /// The exit code; listed in `blixard --help`.
    pub(crate) const fn exit_code(self) -> u8 {
        match self {
            Self::Internal => 1,
            // 2 is clap's, for a command line that cannot be understood.
            Self::Unreachable => 3,
            Self::Permission => 4,
            Self::NotFound => 5,
            Self::Refused => 6,
            Self::Flake => 7,
            Self::NotThere => 8,
            // As a shell has it for a program that SIGINT has ended.
            Self::Interrupted => 130,
        }
    }
}

/// A command that did not do what was asked.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) kind: ErrorKind,
    error: Box<dyn Error>,
    /// Where, as editors read it: `file:line:column`.
    place: Option<String>,
    hints: Vec<String>,
}

impl Failure {
    /// A failure with its chain of causes.
    pub(crate) fn new(kind: ErrorKind, error: impl Into<Box<dyn Error>>) -> Self {
        Self { kind, error: error.into(), place: None, hints: Vec::new() }
    }

    /// Adds what a person can do about it.
    #[must_use]
    pub(crate) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Adds where it is, as `file:line:column`.
    #[must_use]
    pub(crate) fn at(mut self, place: String) -> Self {
        self.place = Some(place);
        self
    }

    /// Whether the reader of our output has gone away.
    pub(crate) fn is_closed_pipe(&self) -> bool {
        let error = self.error.downcast_ref::<OutputError>();
        error.is_some_and(|OutputError(error)| error.kind() == io::ErrorKind::BrokenPipe)
    }

    /// Writes the error, its causes and its hints, a line or more each.
    pub(crate) fn render(&self, err: &mut dyn Write) -> io::Result<()> {
        writeln!(err, "error: {}", printable(self.error.as_ref()))?;
        if let Some(place) = &self.place {
            writeln!(err, "  at {}", one_line(place))?;
        }
        let mut cause = self.error.source();
        while let Some(error) = cause {
            writeln!(err, "caused by: {}", printable(error))?;
            cause = error.source();
        }
        self.hints.iter().try_for_each(|hint| writeln!(err, "hint: {hint}"))
    }
}

/// The text of an error may come from Nix or from a daemon, and have lines.
fn printable(error: &dyn Error) -> String {
    lines(&error.to_string()).collect::<Vec<_>>().join("\n")
}

/// The result is there, and cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("cannot write the result")]
struct OutputError(#[source] io::Error);

/// The connection has ended within a call.
#[derive(Debug, thiserror::Error)]
#[error("lost contact with blixardd")]
struct ContactError(#[source] Box<dyn Error + Send + Sync>);

/// Errors of the output are the only bare ones; what reads or connects maps its own.
impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(ErrorKind::Internal, OutputError(error))
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        match error.io_error_kind() {
            Some(kind) => Self::from(io::Error::from(kind)),
            None => Self::new(ErrorKind::Internal, error),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        // A status with a cause was made here, by the transport.
        if status.source().is_some() {
            let cause = status.message().to_owned().into();
            return Self::new(ErrorKind::Unreachable, ContactError(cause)).hint(DAEMON_LOG);
        }
        let kind = kind_of(status.code());
        let text = match status.message() {
            "" => status.code().description().to_owned(),
            text => text.to_owned(),
        };
        let failure = Self::new(kind, text);
        match (hint_of(&status), own_hint(status.code())) {
            (Some(hint), _) => failure.hint(hint),
            (None, Some(hint)) => failure.hint(hint),
            (None, None) => failure,
        }
    }
}

const fn kind_of(code: Code) -> ErrorKind {
    match code {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unreachable,
        Code::PermissionDenied | Code::Unauthenticated => ErrorKind::Permission,
        Code::NotFound => ErrorKind::NotFound,
        Code::InvalidArgument
        | Code::FailedPrecondition
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::ResourceExhausted => ErrorKind::Refused,
        Code::Ok | Code::Unknown | Code::Unimplemented | Code::Internal | Code::DataLoss => {
            ErrorKind::Internal
        }
    }
}

const DAEMON_LOG: &str = "`journalctl -u blixardd` may tell more";

/// What to say where the daemon said nothing.
const fn own_hint(code: Code) -> Option<&'static str> {
    match code {
        Code::Unimplemented => Some("blixard and blixardd may be of different versions: `blixard status`"),
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Internal => Some(DAEMON_LOG),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use blixard_proto::hint::with_hint;

    use super::*;

    fn rendered(failure: &Failure) -> String {
        let mut text = Vec::new();
        failure.render(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    #[test]
    fn every_status_has_a_kind_and_a_text() {
        for number in -1..20 {
            let failure = Failure::from(Status::new(Code::from_i32(number), ""));
            assert!(rendered(&failure).starts_with("error: "), "{number}");
            assert!((1..=8).contains(&failure.kind.exit_code()), "{number}");
        }
    }

    #[test]
    fn the_daemons_hint_comes_before_our_own() {
        let failure = Failure::from(with_hint(Status::unavailable("no leader"), "wait a moment"));
        insta::assert_snapshot!(rendered(&failure), @"
        error: no leader
        hint: wait a moment
        ");
    }

    #[test]
    fn causes_are_told_once_each() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot open the door")]
        struct Door(#[source] io::Error);
        let failure = Failure::new(ErrorKind::Internal, Door(io::Error::other("it is locked")));
        insta::assert_snapshot!(rendered(&failure.hint("knock").hint("or ring")), @"
        error: cannot open the door
        caused by: it is locked
        hint: knock
        hint: or ring
        ");
    }

    #[test]
    fn a_closed_pipe_is_known_also_behind_json() {
        struct Closed;
        impl Write for Closed {
            fn write(&mut self, _: &[u8]) -> io::Result<usize> {
                Err(io::ErrorKind::BrokenPipe.into())
            }
            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
        let error = serde_json::to_writer(Closed, &1).unwrap_err();
        assert!(Failure::from(error).is_closed_pipe());
        assert!(!Failure::from(io::Error::other("full")).is_closed_pipe());
    }
}
