//! What core asks of the outside: narrow traits with boxed futures, one outside thing each.
//!
//! An adapter crate implements one; `blixard-testkit` holds a fake of each that passes the same
//! contract tests; `blixardd` hands them in. No trait here decides anything.

pub mod consensus;

pub use futures_core::future::BoxFuture;
pub use futures_core::stream::BoxStream;
