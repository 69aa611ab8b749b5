//! The flake that is deployed: how people name it, and how Nix locks it.
//!
//! Owns: references and fragments, the stable id of a flake, the calls of Nix that lock it and read its
//! sources. Refuses to
//! know: its outputs; evaluating is the builder's.

mod lock;
mod nix;
mod reference;
mod source;
mod tree;

pub(crate) use nix::{LockedFlake, Nix};
pub(crate) use reference::{FlakeReference, Selection};
pub(crate) use source::LocalInput;
pub(crate) use tree::{local_tree, position_text};
