//! The words that every layer shares: ids, names, spec, closure references, unit names.
//!
//! Owns: plain data, its validation, and its one textual form. Refuses to know: I/O, async, time,
//! randomness, and what anybody does with the data.

mod ids;

pub use ids::{ClusterId, DaemonId, DeploymentId, Epoch, GenerationNumber, Incarnation, LogPosition};
pub use ids::{NodeId, RequestId, Revision};
