//! The processes of the benchmarks, and the writers of end-to-end scenarios. Not shipped; started by
//! `cargo xtask`.
//!
//! Owns: a node made of the production crates that answers the part of etcd's API that the load uses,
//! and the load, which is the same program for both; callers of a real daemon that count what it has
//! acknowledged; and what is in a log file. Refuses to know how many of each are run: that is xtask's.

#![allow(
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a tool that measures time and prints what it saw"
)]

mod attend;
mod failover;
mod idle;
mod load;
mod logged;
mod node;
mod table;
mod writers;

use clap::{Parser, Subcommand};

/// Generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
mod etcd {
    tonic::include_proto!("etcdserverpb");
}

/// Generated from `proto/`.
#[allow(missing_docs, unreachable_pub, clippy::all, clippy::pedantic, reason = "generated code")]
mod control {
    tonic::include_proto!("blixardbench");
}

#[derive(Parser)]
#[command(name = "blixard-bench", about = "The processes of the benchmarks")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// A consensus node
    Node(node::Arguments),
    /// Writes from many callers; prints what came of it as JSON
    Load(load::Arguments),
    /// Prints the position of the leader among these endpoints
    Leader { endpoints: Vec<String> },
    /// Waits for a line on standard input, then prints after how many microseconds a write succeeded
    Failover { endpoints: Vec<String> },
    /// Has the node at this endpoint form a cluster
    Form { endpoint: String },
    /// Has the leader at this endpoint add a member, and waits until it has caught up
    Add { endpoint: String, node: u64, address: String },
    /// Has the leader at this endpoint make these nodes the voters
    Voters { endpoint: String, nodes: Vec<u64> },
    /// Starts and stops vms through a daemon, and counts what was acknowledged
    Writers(writers::Arguments),
    /// Prints the index and the digest of each entry of a log that no daemon has open
    Log { file: std::path::PathBuf },
    /// A leader that hosts attend; prints what it took once nothing happened for a while, as JSON
    Attended(idle::Arguments),
    /// Hosts that attend it; prints how long they waited, as JSON
    Attend(attend::Arguments),
    /// Prints the counters of our node as JSON
    Counters { endpoint: String },
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run(arguments.command))
}

async fn run(command: Command) -> anyhow::Result<()> {
    match command {
        Command::Node(arguments) => node::run(arguments).await,
        Command::Load(arguments) => load::run(arguments).await,
        Command::Leader { endpoints } => load::leader(&endpoints).await,
        Command::Failover { endpoints } => failover::run(&endpoints).await,
        Command::Form { endpoint } => node::form(endpoint).await,
        Command::Add { endpoint, node, address } => node::add(endpoint, node, address).await,
        Command::Voters { endpoint, nodes } => node::voters(endpoint, nodes).await,
        Command::Writers(arguments) => writers::run(arguments).await,
        Command::Log { file } => logged::print(&file),
        Command::Attended(arguments) => idle::run(arguments).await,
        Command::Attend(arguments) => attend::run(arguments).await,
        Command::Counters { endpoint } => node::counters(endpoint).await,
    }
}
