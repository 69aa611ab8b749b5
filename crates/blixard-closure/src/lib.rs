//! Closures between nodes and into the store: NARs, transfer, import, binary cache.
//!
//! Owns: the formats in which closures travel and the processes that put them into the store. Refuses
//! to know: which closure is needed, which peers have it, what may be served and what fits; core decides
//! that. The paths are Nix's: a path is in the store when Nix has it registered, and not before.

mod cache;
mod fetch;
#[cfg(feature = "fuzzing")]
pub mod fuzzing;
mod import;
mod key;
mod limits;
mod nar;
mod serve;

pub use cache::{Cache, CacheOptions};
pub use fetch::{Fetcher, PeerAccess};
pub use import::client::ImporterCommand;
pub use import::root::{ImporterError, ImporterOptions, isolate, run as run_importer};
pub use key::{FileSigner, SignerError};
pub use limits::{FetchLimits, ServeLimits};
pub use serve::{Caller, ClosureServer, Parts};
