//! What core asks of the outside: narrow traits with boxed futures, one outside thing each.
//!
//! An adapter crate implements one; `blixard-testkit` holds a fake that passes the same contract
//! tests; `blixardd` hands them in. No implementation decides anything.

pub mod clock;
pub mod closure;
pub mod confined;
pub mod consensus;
pub mod health;
pub mod holder;
pub mod journal;
pub mod members;
pub mod networks;
pub mod nix;
pub mod peer;
pub mod signer;
pub mod sources;
pub mod units;
pub mod volumes;
pub mod wakefulness;

pub use clock::{BootMillis, Clock, Entropy, RawMillis, UnixMillis};
pub use futures_core::future::BoxFuture;
pub use futures_core::stream::BoxStream;
