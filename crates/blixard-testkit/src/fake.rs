//! In-memory stand-ins for the outside, one for each port.
//!
//! Owns: fakes that pass the same contract tests as what they stand for. Refuses to know: who uses
//! them.

pub mod confined;
pub mod holder;
pub mod journal;
pub mod networks;
pub mod nix;
pub mod peers;
pub mod units;
pub mod volumes;
pub mod wakefulness;
