//! Identifiers: every one its own type, so that an epoch is never passed for a generation.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Declares a counter: a `u64` with a meaning, ordered, shown as the number.
macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(
            Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
        )]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(out)
            }
        }
    };
}

counter!(
    /// A member of the cluster, numbered from 1; never used again after the node is removed.
    NodeId
);
counter!(
    /// How often a vm has been placed anew. Two hosts never run the same vm at the same epoch.
    Epoch
);
counter!(
    /// One (closure reference, spec) of a vm, numbered from 1.
    GenerationNumber
);
counter!(
    /// The index of the log entry that made a change; watchers resume from one.
    Revision
);
counter!(
    /// A certificate of a node, counted over the whole cluster from 1: what is missing in the middle is
    /// revoked, what is past the end is newer than who looks.
    CertificateSerial
);
counter!(
    /// Grows when a cluster is recovered or restored, so that messages from before are refused.
    Incarnation
);

/// Declares a 128-bit random identifier, shown as 32 lower-case hex digits.
macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(out, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(out, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, out: S) -> Result<S::Ok, S::Error> {
                out.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(input: D) -> Result<Self, D::Error> {
                String::deserialize(input)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

random_id!(
    /// A cluster, drawn when it is initialised.
    ClusterId
);
random_id!(
    /// One run of `deploy`.
    DeploymentId
);
random_id!(
    /// One mutating call; the same id applied twice changes the state once.
    RequestId
);
random_id!(
    /// One call that uploads sources.
    UploadId
);
random_id!(
    /// One start of a daemon process; a report of an earlier one is refused.
    DaemonId
);

/// A text that is not 32 lower-case hex digits.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected 32 lower-case hex digits, got {0:?}")]
pub struct IdError(String);

fn parse_hex(text: &str) -> Result<[u8; 16], IdError> {
    let mut id = [0; 16];
    let decoded = data_encoding::HEXLOWER.decode_len(text.len()) == Ok(id.len())
        && data_encoding::HEXLOWER.decode_mut(text.as_bytes(), &mut id).is_ok();
    if decoded { Ok(id) } else { Err(IdError(text.to_owned())) }
}

/// Where an entry stands in the replicated log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct LogPosition {
    /// The term of the leader that proposed it.
    pub term: u64,
    /// Its index, from 0.
    pub index: u64,
}

impl LogPosition {
    /// The revision of a change made by the entry at this position.
    #[must_use]
    pub const fn revision(self) -> Revision {
        Revision(self.index)
    }
}

impl fmt::Display for LogPosition {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}.{}", self.term, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_id_reads_back_what_it_shows() {
        let id = RequestId([0xab; 16]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(serde_json::from_str::<RequestId>(&serde_json::to_string(&id).unwrap()).unwrap(), id);
    }

    #[test]
    fn a_random_id_refuses_other_lengths_and_digits() {
        for text in ["", "ab", &"ab".repeat(17), &"AB".repeat(16), &"zz".repeat(16), &"é".repeat(16)] {
            assert!(text.parse::<RequestId>().is_err(), "{text:?}");
        }
    }
}
