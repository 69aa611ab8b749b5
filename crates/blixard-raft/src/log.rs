//! The replicated log on disk.
//!
//! Owns the order of writes and when one is durable. [`LogStore`] is what openraft sees; it keeps
//! the newest entries in memory ([`tail`]) and queues every write, votes and truncations included,
//! to one [`writer`] thread, which makes many writes durable with one commit of a [`LogEngine`].
//! Refuses to know what an entry means.

mod disk;
mod engine;
mod extend;
pub mod inspect;
mod segments;
mod store;
mod tail;
mod writer;

pub use disk::LogDisk;
pub(crate) use disk::{DiskError, FileDisk};
pub use engine::EngineError;
#[cfg(test)]
pub(crate) use engine::LogEngine;
pub use extend::ExtendError;
pub use segments::BadSegments;
pub(crate) use segments::{SEGMENT_BYTES, Segments};
pub use store::LogOpenError;
pub(crate) use store::{FoundLog, LogStore};
pub(crate) use tail::Tail;
pub(crate) use writer::WriterHandle;

#[cfg(test)]
mod tests;
