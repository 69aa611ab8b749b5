//! Decisions: cluster state and `apply`, scheduling, the host's reconcile plan.
//!
//! Owns: every rule of the cluster, as pure functions of state, observations, time and seed, and the
//! ports through which effects come in. Refuses to know: tokio, clocks, randomness, environment, file
//! system, network.

pub mod ports;
