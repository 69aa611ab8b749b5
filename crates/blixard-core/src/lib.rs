//! Decisions: cluster state and `apply`, scheduling, the host's reconcile plan.
//!
//! Owns: every rule of the cluster, as pure functions of state, observations, time and seed, and the
//! ports through which effects come in. Refuses to know: tokio, clocks, randomness, environment, file
//! system, network.
//!
//! The path of a deployment, by module: [`admission`] checks what a flake gave, [`apply`] makes its
//! generations, [`schedule`] picks hosts, [`drain`] empties them, [`assignment`] says what a host is granted, [`reconcile`]
//! what the host does about it, [`mod@unit`] what systemd is told, [`rollout`] how far it has come.

pub mod admission;
pub mod apply;
pub mod assignment;
pub mod command;
pub mod directory;
pub mod drain;
#[cfg(test)]
mod fixture;
pub mod garbage;
pub mod giving_up;
pub mod grant;
pub mod lease;
pub mod membership;
pub mod ports;
pub mod preview;
pub mod principal;
pub mod rebalance;
pub mod reconcile;
pub mod recovery;
pub mod rollout;
pub mod roots;
pub mod rules;
pub mod schedule;
pub mod signature;
pub mod state;
pub mod transfer;
pub mod unit;
pub mod volume;
