//! Peers over gRPC on this machine's loopback.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "helpers of tests")]

mod contract;
mod ground;
mod nodes;
