//! What the tests of Blixard stand on: real hosts, a fixture flake, end-to-end scenarios.
//!
//! A test host is systemd as process 1 in a container of its own, with D-Bus, Nix and QEMU, on a Debian
//! machine and as root; a world is a few of them on one bridge. Nothing here is part of a shipped
//! binary, and a check keeps it so (`cargo xtask tidy`).
//!
//! | module | owns |
//! |---|---|
//! | [`image`] | the root file system of a host: its recipe and its cache |
//! | [`world`] | hosts on one bridge, in namespaces that die with the test |
//! | [`host`] | what one can do to a host: run, write, read its journal, crash it, install Blixard |
//! | [`fixture`] | flakes whose microVMs need neither nixpkgs nor a network |
//! | [`beside`] | repositories of others on a host, and what stands in for nixpkgs |
//! | [`scenario`] | the end-to-end scenarios and their runner |
//!
//! Everything blocks: a scenario reads from top to bottom, and waits by polling with a deadline.

pub mod beside;
pub mod fake;
pub mod fixture;
pub mod host;
pub mod image;
mod process;
pub mod scenario;
pub mod wait;
mod workspace;
pub mod world;

pub use process::Output;
pub use workspace::Workspace;
