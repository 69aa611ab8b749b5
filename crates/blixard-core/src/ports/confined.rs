//! Programs that run code of strangers: started apart from the daemon, as nobody, within limits.
//!
//! What a flake says is evaluated behind this port. A confined program has a user of its own, a
//! read-only file system without what is Blixard's, no capability, no input, and dies with all its
//! children at any limit, at its end, and when nobody waits for it any more.

use std::collections::BTreeMap;
use std::fmt;

use super::BoxFuture;

/// What a confined program may reach.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Nothing but Unix sockets in the file system.
    None,
    /// What the machine reaches.
    Host,
}

/// How much a confined program may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// How long it may run, in milliseconds; `u64::MAX` for ever.
    pub time_ms: u64,
    /// Its memory and that of its children, in bytes.
    pub memory_max: u64,
    /// Its threads and processes.
    pub tasks_max: u64,
    /// What it may print on standard output, in bytes; all of it is kept.
    pub stdout_max: u64,
    /// What it may print on standard error, in bytes.
    pub stderr_max: u64,
}

/// One run of one program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfinedProgram {
    /// One lower-case word for what it does; in the unit's name.
    pub purpose: &'static str,
    /// The program, absolute, and its arguments, which are taken as they are.
    pub argv: Vec<String>,
    /// Variables to set. What is not here is set by the implementation, never by the daemon's own
    /// environment.
    pub environment: BTreeMap<String, String>,
    /// Groups that it is in besides its own.
    pub groups: Vec<u32>,
    /// What it may reach.
    pub network: Network,
    /// How much it may take.
    pub limits: Limits,
}

/// How a program ended by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgramEnd {
    /// With this exit status.
    Exited(i32),
    /// By this signal.
    Killed(i32),
}

/// A program that has ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfinedOutput {
    /// How.
    pub end: ProgramEnd,
    /// All of its standard output.
    pub stdout: Vec<u8>,
}

/// A limit that ended a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitReached {
    /// It ran for this long, in milliseconds.
    Time(u64),
    /// It needed more than this memory, in bytes.
    Memory(u64),
    /// It printed more than this on one of its streams, in bytes.
    Output(u64),
}

impl fmt::Display for LimitReached {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Time(limit) => write!(out, "it took longer than {} s", limit / 1000),
            Self::Memory(limit) => write!(out, "it needed more than {} MiB of memory", limit >> 20),
            Self::Output(limit) => write!(out, "it printed more than {} MiB", limit >> 20),
        }
    }
}

/// Why a confined program has no end of its own.
#[derive(Debug, thiserror::Error)]
pub enum ConfinedError {
    /// It was stopped at a limit.
    #[error("{0}")]
    Limit(LimitReached),
    /// It could not be started in confinement.
    #[error("{reason}")]
    Start {
        /// Why.
        reason: String,
    },
    /// How it ended, or what it printed, is not known.
    #[error("{reason}")]
    Lost {
        /// Why.
        reason: String,
    },
}

/// Takes standard error as it comes, in pieces of any size.
pub type StderrSink<'a> = &'a mut (dyn FnMut(&[u8]) + Send);

/// Runs programs in confinement.
pub trait Confinement: fmt::Debug + Send + Sync + 'static {
    /// Runs a program to its end. A future that is dropped takes the program with it.
    fn run<'a>(
        &'a self,
        program: ConfinedProgram,
        stderr: StderrSink<'a>,
    ) -> BoxFuture<'a, Result<ConfinedOutput, ConfinedError>>;
}
