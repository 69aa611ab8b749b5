//! One module per noun; this one hands each command what it needs.
//!
//! Owns: the dispatch, and what all commands share. Refuses to know: clap, exit codes.

mod cluster;
mod deploy;
mod events;
mod explain;
mod gc;
mod logs;
mod node;
mod notes;
mod packaging;
mod placement;
mod status;
mod vm;
mod volume;

use std::fs::File;
use std::io::{Read as _, Write};
use std::time::Duration;

use tonic::transport::Channel;

use crate::args::cluster::{ClusterCommand, TokenCommand};
use crate::args::volume::VolumeCommand;
use crate::args::{Cli, Command, NodeCommand, VmCommand};
use crate::connect::connect;
use crate::error::{ErrorKind, Failure};
use crate::output::Format;
use crate::run::World;
use notes::Notes;

pub(crate) use notes::Columns;

/// Room for the answer to `vm list`: with ten generations and a spec, a vm has some 10 KiB.
const ANSWER_MAX: usize = 64 << 20;

/// How long the daemon may take for an answer, beside what a call waits for.
const PATIENCE: Duration = Duration::from_secs(30);

/// What a command works with.
struct Session<'a> {
    channel: Channel,
    format: Format,
    out: &'a mut dyn Write,
    notes: Notes<'a>,
}

/// Runs one command.
pub(crate) async fn run(cli: Cli, world: &mut World<'_>) -> Result<(), Failure> {
    match cli.command {
        Command::Completions { shell } => return packaging::completions(shell, world.out),
        Command::Man { folder } => return packaging::manual(&folder),
        _ => {}
    }
    // Before anything else that takes time: without a daemon nothing else is worth doing.
    let channel = connect(&cli.socket).await?;
    let World { out, err, terminal, nix, interrupt } = world;
    let notes = Notes::new(&mut **err, *terminal);
    let mut session = Session { channel, format: cli.output, out: &mut **out, notes };
    match cli.command {
        Command::Deploy(args) => deploy::run(&mut session, args, nix, interrupt.as_mut()).await,
        Command::Vm(VmCommand::List { tenant, stale }) => vm::list(&mut session, tenant, stale.stale).await,
        Command::Vm(VmCommand::Show { vm, stale }) => vm::show(&mut session, &vm.vm, stale.stale).await,
        Command::Vm(VmCommand::Explain { vm, stale }) => {
            explain::run(&mut session, &vm.vm, stale.stale).await
        }
        Command::Vm(VmCommand::Start(args)) => vm::start(&mut session, &args).await,
        Command::Vm(VmCommand::Stop(args)) => vm::stop(&mut session, &args).await,
        Command::Vm(VmCommand::Restart(args)) => vm::restart(&mut session, &args).await,
        Command::Vm(VmCommand::History { vm }) => vm::history(&mut session, &vm.vm).await,
        Command::Vm(VmCommand::Delete(args)) if args.dry_run => vm::would_delete(&mut session, &args).await,
        Command::Vm(VmCommand::Delete(args)) => vm::delete(&mut session, &args).await,
        Command::Vm(VmCommand::Logs(args)) => logs::run(&mut session, &args).await,
        Command::Vm(VmCommand::Console { vm }) => logs::console(&mut session, vm).await,
        Command::Volume(VolumeCommand::List { tenant, stale }) => {
            volume::list(&mut session, tenant, stale.stale).await
        }
        Command::Volume(VolumeCommand::Delete(args)) => volume::delete(&mut session, &args).await,
        Command::Volume(VolumeCommand::Forget(args)) => volume::forget(&mut session, &args).await,
        Command::Node(NodeCommand::List { stale }) => node::list(&mut session, stale.stale).await,
        Command::Node(NodeCommand::Cordon(args)) => node::cordon(&mut session, args).await,
        Command::Node(NodeCommand::Uncordon(args)) => node::uncordon(&mut session, args).await,
        Command::Node(NodeCommand::Drain(args)) => node::drain(&mut session, args).await,
        Command::Node(NodeCommand::Lost(args)) => node::lost(&mut session, args).await,
        Command::Node(NodeCommand::Remove(args)) => cluster::remove(&mut session, &args).await,
        Command::Cluster(ClusterCommand::Init) => cluster::init(&mut session).await,
        Command::Cluster(ClusterCommand::Token(TokenCommand::Create { ttl, roles })) => {
            cluster::create_token(&mut session, ttl, &roles).await
        }
        Command::Cluster(ClusterCommand::Status { digest }) => cluster::status(&mut session, digest).await,
        Command::Cluster(ClusterCommand::Preemption { to }) => placement::preempt(&mut session, to).await,
        Command::Rebalance(args) => placement::rebalance(&mut session, &args).await,
        Command::Events(args) => events::known(&mut session, args.since).await,
        Command::Watch(args) => events::watch(&mut session, args.since).await,
        Command::Gc(args) => gc::run(&mut session, &args).await,
        Command::Status => status::run(&mut session).await,
        // Done above, without a daemon.
        Command::Completions { .. } | Command::Man { .. } => Ok(()),
    }
}

/// A call that is answered at once.
fn call<T>(message: T) -> tonic::Request<T> {
    waiting_call(message, Duration::ZERO)
}

/// A call that is answered within this time.
fn waiting_call<T>(message: T, wait: Duration) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.set_timeout(wait.saturating_add(PATIENCE));
    request
}

/// Draws the id by which the cluster knows a mutating call when it comes twice.
fn request_id() -> Result<[u8; 16], Failure> {
    let mut id = [0; 16];
    let drawn = File::open("/dev/urandom").and_then(|mut random| random.read_exact(&mut id));
    drawn.map_err(|error| Failure::new(ErrorKind::Internal, error))?;
    Ok(id)
}
