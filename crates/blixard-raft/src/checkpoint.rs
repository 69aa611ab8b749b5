//! Checkpoints of the state machine: one file each, whole or not there.
//!
//! Owns the files in `checkpoints/`. Files rather than a database: a checkpoint is one blob that is written
//! once and read whole. A temporary file, fsync, rename and fsync of the directory make it atomic;
//! a checksum over all of it tells damage; it needs no space besides its own, is sent to a peer as it
//! is, and writing it neither locks nor grows the log's database. Refuses to know what a state is.
//!
//! Layout, integers big endian:
//!
//! ```text
//! magic (8) │ version (1) │ header length (4) │ state length (8) │ SHA-256 (32) │ header │ state
//! ```
//!
//! The header is JSON: the last log id and the membership that the state covers. The digest is over
//! everything but itself.

mod body;
mod file;
mod incoming;
mod store;

pub(crate) use body::CheckpointBody;
pub use file::CheckpointError;
pub(crate) use incoming::receive;
pub(crate) use store::CheckpointStore;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::encoded;
