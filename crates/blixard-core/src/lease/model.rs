//! A cluster in true time: the lease rules against everything that may go wrong, with an oracle that sees
//! all machines at once.
//!
//! Owns: machines with clocks that run up to 1 % fast or slow, suspend and reboot; daemons that pause
//! anywhere, crash and are started anew; a network that delays, loses, repeats and reorders; elections,
//! membership, and clusters restored from an old state. The state, `apply`, the scheduler, the grants and
//! the rules of [`super::leader`] are the real ones. The oracle: at every instant at most one machine
//! executes a vm that stops in a partition. Afterwards everything heals, and each vm runs exactly once.
//!
//! `BLIXARD_LEASE_SEEDS=1000 cargo nextest run -p blixard-core lease::model` runs more seeds; a failure
//! prints its seed, `BLIXARD_LEASE_SEED=N` runs that one alone, and with `BLIXARD_LEASE_TRACE=1` it tells.

mod agent;
mod event;
mod fault;
mod machine;
mod raft;
mod rng;
mod server;
mod tests;
mod world;

/// A rule that is broken on purpose, to see that the oracle finds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flaw {
    /// The holder is told "for L from now" instead of an instant.
    RelativeFeed,
    /// Grants are given without a quorum round.
    LeaderLease,
    /// A new leader counts silence from before it was the leader.
    NoGraceAtElection,
    /// A leader grants, and counts silence, as soon as it is elected, from what it has applied by then.
    GrantBeforeFirstEntry,
    /// A leader grants to a host that it has proposed to give up.
    GrantWhileGivingUp,
    /// Giving a host up counts in whatever term it is applied.
    LostInAnyTerm,
    /// Servers push assignments outside of grants.
    Pushed,
    /// "Stopped" is said when the stop is done, not when no process is left.
    StoppedFromUnitState,
    /// Hosts use a clock that stands still while they are suspended.
    Monotonic,
    /// A restored cluster goes on where its backup was, with the epochs of then.
    SameIncarnation,
    /// A start that was decided under one lease is carried out under the next.
    StartAcrossLeases,
    /// A start that was asked for at an epoch is carried out after that epoch was ended.
    EpochsStayOpen,
}
