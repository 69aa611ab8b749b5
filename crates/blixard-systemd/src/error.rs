//! What a D-Bus call to systemd may end with, sorted by what the caller does about it.
//!
//! Owns: the names of D-Bus errors. Refuses to know: which operation the call was part of.

use blixard_core::ports::units::UnitError;

const NO_SUCH_UNIT: &str = "org.freedesktop.systemd1.NoSuchUnit";
const NO_SUCH_JOB: &str = "org.freedesktop.systemd1.NoSuchJob";
const UNIT_EXISTS: &str = "org.freedesktop.systemd1.UnitExists";
const ALREADY_SUBSCRIBED: &str = "org.freedesktop.systemd1.AlreadySubscribed";

/// Errors that the bus, not systemd, answers with: nobody has heard the call, or nobody answers.
const NOBODY_ANSWERS: [&str; 7] = [
    "org.freedesktop.DBus.Error.Disconnected",
    "org.freedesktop.DBus.Error.NameHasNoOwner",
    "org.freedesktop.DBus.Error.NoReply",
    "org.freedesktop.DBus.Error.NoServer",
    "org.freedesktop.DBus.Error.ServiceUnknown",
    "org.freedesktop.DBus.Error.TimedOut",
    "org.freedesktop.DBus.Error.Timeout",
];

/// Why a call has no result.
#[derive(Debug)]
pub(crate) enum CallError {
    /// No unit of that name is loaded.
    NoSuchUnit,
    /// The job has ended.
    NoSuchJob,
    /// A unit of that name is loaded.
    UnitExists { reason: String },
    /// This connection gets signals already.
    AlreadySubscribed,
    /// Nobody answers.
    Unreachable { reason: String },
    /// systemd does not do it.
    Refused { reason: String },
}

impl CallError {
    /// The error of the operation that the call was part of.
    pub(crate) fn during(self, action: &'static str, unit: &str) -> UnitError {
        match self {
            Self::Unreachable { reason } => UnitError::Unreachable { reason },
            other => UnitError::Refused { action, unit: unit.to_owned(), reason: other.words() },
        }
    }

    /// What went wrong, without what for.
    pub(crate) fn words(self) -> String {
        match self {
            Self::NoSuchUnit => "it is not loaded".to_owned(),
            Self::NoSuchJob => "its job has ended".to_owned(),
            Self::AlreadySubscribed => "this connection is subscribed already".to_owned(),
            Self::Unreachable { reason } | Self::UnitExists { reason } | Self::Refused { reason } => reason,
        }
    }

    fn named(name: &str, reason: String) -> Self {
        match name {
            NO_SUCH_UNIT => Self::NoSuchUnit,
            NO_SUCH_JOB => Self::NoSuchJob,
            UNIT_EXISTS => Self::UnitExists { reason },
            ALREADY_SUBSCRIBED => Self::AlreadySubscribed,
            name if NOBODY_ANSWERS.contains(&name) => Self::Unreachable { reason },
            _ => Self::Refused { reason },
        }
    }
}

impl From<zbus::Error> for CallError {
    fn from(error: zbus::Error) -> Self {
        match error {
            zbus::Error::MethodError(name, detail, _) => {
                let reason = detail.unwrap_or_else(|| name.to_string());
                Self::named(name.as_str(), reason)
            }
            // A value that cannot be written to or read from the wire: the connection is well.
            zbus::Error::Variant(cause) => Self::Refused { reason: cause.to_string() },
            other => Self::Unreachable { reason: other.to_string() },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(name: &str) -> UnitError {
        CallError::named(name, "because".to_owned()).during("start", "a.service")
    }

    #[test]
    fn an_error_of_the_bus_means_that_systemd_is_unreachable() {
        for name in NOBODY_ANSWERS {
            assert!(matches!(answered(name), UnitError::Unreachable { .. }), "{name}");
        }
    }

    #[test]
    fn an_error_of_systemd_is_a_refusal_with_its_words() {
        for name in [UNIT_EXISTS, "org.freedesktop.DBus.Error.InvalidArgs"] {
            assert_eq!(answered(name).to_string(), "systemd refused to start a.service: because");
        }
    }

    #[test]
    fn a_broken_connection_means_that_systemd_is_unreachable() {
        let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let error = CallError::from(zbus::Error::InputOutput(broken.into()));
        assert!(matches!(error, CallError::Unreachable { .. }));
    }
}
