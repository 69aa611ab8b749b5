//! Consensus: the port `blixard_core::ports::Consensus`, kept by openraft over a log of its own.
//!
//! Owns how a command becomes durable, agreed and applied: the log on disk, elections, checkpoints
//! of the state machine, and their recovery. Refuses to know what a command means: it sees bytes,
//! and hands them to the [`ReplicatedMachine`](blixard_core::ports::consensus::ReplicatedMachine)
//! it was opened with. openraft is not visible outside this crate. Through [`LogDisk`] and [`Files`] a
//! simulation takes the disk away.
//!
//! ```text
//! propose ─► openraft ─► LogStore ─► writer thread ─► LogEngine (one file, one write and sync per batch)
//!               │                                          │
//!               ├─► Machine ─► ReplicatedMachine ◄─ acknowledged
//!               │      └─► CheckpointStore (one checksummed file)
//!               └─► PeerNetwork ─► PeerTransport ~~~ PeerEndpoint (another RaftNode)
//! ```

mod alive;
mod checkpoint;
mod files;
mod home;
mod log;
mod machine;
mod members;
mod network;
mod no_peers;
mod node;
mod offload;
mod options;
mod record;
mod runtime;
mod serving;
mod standing;
mod stop;
mod types;
mod watched;
mod wire;

#[cfg(test)]
mod testing;

pub use checkpoint::CheckpointError;
pub use files::{Files, NewFile, RealFiles, SharedFiles};
pub use home::Place;
pub use log::{BadSegments, EngineError, ExtendError, LogDisk, LogOpenError, inspect};
pub use node::{AloneError, NodeStopped, OpenError, RaftNode};
pub use offload::{Offload, Pace};
pub use options::{ElectionTiming, MAX_COMMAND_BYTES, RaftOptions};
pub use record::BadRecord;
pub use runtime::draw_from_seed;
pub use types::Peer;
