//! Leases: at most one host runs a vm, whatever partitions, pauses, crashes and clocks do.
//!
//! Owns: how long a lease lasts and how long a silent host is waited for ([`times`]), what a leader may
//! grant and when it may give a host up ([`leader`]), what a host may start while its holder keeps the
//! deadline ([`host`]), and whether a clock may be trusted ([`clock`]). Which grants a host takes is
//! [`crate::grant`]'s, what the log says is [`crate::state::Fencing`]. Refuses to know: how a
//! host is made to stop (a process of its own does that), and every clock: instants come in.
//!
//! ```text
//!  host                                     leader
//!  s = now ── heartbeat n ────────────────▶ r = now
//!                                           one quorum round, begun after r
//!  D = max(D, s + L) ◀── grant n, L, set ── unless lost, declared lost, or Lost is being proposed
//!  at D: everything is killed, within G     r is over by more than W: NodeLost
//! ```
//! s comes before r and the lease runs from s, so everything has ended before W after r is over, if
//! W ≥ (L + G)(1 + ρ)/(1 − ρ) + tick.

pub mod clock;
pub mod host;
pub mod leader;
#[cfg(test)]
mod model;
pub mod times;

pub use host::{Footing, HostLease};
pub use leader::{Duty, LeaderLeases, Withheld};
pub use times::{LeaseTimes, Profile, TimesError};
