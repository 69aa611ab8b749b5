//! A cluster in one thread, and what can go wrong with it.
//!
//! Owns a deterministic simulation of the consensus of `blixard-raft` as it ships: the same log,
//! the same checkpoints, the same openraft, on disks, files, a network, clocks and random numbers that
//! follow from a seed. A run forms a cluster, lets things go wrong, heals all, and then asks for
//! liveness; [`Violation`]s are the promises that it saw broken. Nothing here is part of a shipped
//! binary.
//!
//! | module | owns |
//! |---|---|
//! | [`shape`] | what goes wrong in a run, and how often |
//! | [`world`] | a run from its beginning to its report |
//! | [`net`] | the network |
//! | [`disk`] | the disk of a node, and what a crash leaves of it |
//! | [`audit`] | the promises, looked at all the time |
//! | `server` | the code of a server on a node, its clients, and watchers |
//! | `ground`, `host` | the machine under a node, and the host agent on it |
//! | `join` | a machine that joins |
//! | `people` | who deploys, stops, starts and moves vms |
//! | `chronicle` | all that has happened |
//! | `executions` | that no vm is executed twice |
//! | [`history`], [`linear`] | what clients saw, and whether it is linearizable |

pub mod audit;
mod chronicle;
pub mod dice;
pub mod disk;
mod executions;
mod ground;
pub mod history;
mod host;
mod join;
pub mod linear;
mod mistakes;
pub mod net;
mod node;
mod people;
pub mod registers;
mod server;
pub mod shape;
mod shared;
pub mod world;

pub use audit::Violation;
pub use shape::{BrokenRule, Fault, Program, Shape};
pub use world::{Report, run};
