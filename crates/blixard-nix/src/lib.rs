//! The Nix command line behind the ports: sources, evaluation, builds, closures, roots.
//!
//! Owns: how `nix` and `nix-store` are called, what they print, and our folder of garbage collector
//! roots. Refuses to know: what a spec means, which generation is kept, who asks and why.

mod batches;
mod build;
mod cli;
mod closure;
mod command;
mod dump_db;
mod evaluate;
mod garbage;
mod hold;
mod inbox;
mod inputs;
mod internal_json;
mod outputs;
mod query;
mod reference;
mod root_name;
mod roots;

pub use cli::{BuildLimits, DEFAULT_ROOTS, EvaluationLimits, NixCli, NixCliOptions, SourceLimits};
