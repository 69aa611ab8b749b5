//! Putting paths into the store: a small process that may, and the daemon's end of the pipe to it.
//!
//! ```text
//!  peers ──▶ daemon: gRPC, NAR parser ── frames ──▶ importer: names, hashes, /nix/store, nix-store
//!                      ▲                               │
//!                      └────────── lines ──────────────┘
//! ```
//! The importer runs as root, without a network, in a mount namespace of its own. It believes nothing
//! that it is told: it checks the records against the closure's digest, every name, every hash.
//! [`frame`] is all that it parses.

pub(crate) mod client;
pub(crate) mod frame;
pub(crate) mod record;
pub(crate) mod root;

use std::fmt;

use crate::nar::pieces::Piece;

/// What the importer answers, a line each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// What the store lacks, and the bytes that are free in it.
    Missing { free: u64, paths: Vec<u32> },
    /// A path is in place, as its record says.
    Landed { lane: u8, path: u32 },
    /// What came was not the path.
    Refused { lane: u8, path: u32, reason: String },
    /// Everything is registered.
    Registered,
    /// The import has failed.
    Failed { reason: String },
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing { free, paths } => {
                write!(out, "missing {free}")?;
                paths.iter().try_for_each(|path| write!(out, " {path}"))
            }
            Self::Landed { lane, path } => write!(out, "landed {lane} {path}"),
            Self::Refused { lane, path, reason } => write!(out, "refused {lane} {path} {}", line(reason)),
            Self::Registered => out.write_str("registered"),
            Self::Failed { reason } => write!(out, "failed {}", line(reason)),
        }
    }
}

/// A text as one line.
fn line(text: &str) -> String {
    text.chars().map(|char| if char.is_control() { ' ' } else { char }).collect()
}

impl Answer {
    /// Reads a line.
    pub(crate) fn parse(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        match word {
            "missing" => {
                let mut numbers = rest.split(' ');
                let free = numbers.next()?.parse().ok()?;
                let paths = numbers.map(|number| number.parse().ok()).collect::<Option<_>>()?;
                Some(Self::Missing { free, paths })
            }
            "landed" => {
                let (lane, path) = rest.split_once(' ')?;
                Some(Self::Landed { lane: lane.parse().ok()?, path: path.parse().ok()? })
            }
            "refused" => {
                let mut parts = rest.splitn(3, ' ');
                let (lane, path) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
                Some(Self::Refused { lane, path, reason: parts.next()?.to_owned() })
            }
            "registered" if rest.is_empty() => Some(Self::Registered),
            "failed" => Some(Self::Failed { reason: rest.to_owned() }),
            _ => None,
        }
    }
}

/// What the daemon tells the importer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order<'a> {
    /// Which closure: the root's path and the digest, as text.
    Closure(&'a [u8]),
    /// A record of it, as text.
    Record(&'a [u8]),
    /// That were all: say what is missing.
    Check,
    /// On this lane the path at this place begins.
    Begin(u32),
    /// A piece of it.
    Piece(Piece<'a>),
    /// It ends.
    End,
    /// It will not come to an end.
    Abort,
    /// Register what has landed, which must be all.
    Register,
}

#[cfg(test)]
mod tests;
