//! What people type.
//!
//! Owns: commands, options, their help. Names of vms and flake references are checked here, before any
//! call. Refuses to know: what a command does.

pub(crate) mod cluster;
pub(crate) mod volume;

use std::path::PathBuf;

use blixard_types::{TenantName, VmId};
use clap::{Args, Parser, Subcommand};

use self::cluster::WatchArgs;
use self::cluster::{ClusterCommand, DrainArgs, EventsArgs, LostArgs, NodeArg, RebalanceArgs, RemoveArgs};
use self::volume::VolumeCommand;
use crate::flake::FlakeReference;
use crate::output::Format;

const AFTER_HELP: &str = "\
Exit codes:
  0    done
  1    a fault of blixard or of the daemon
  2    the command line cannot be understood
  3    the daemon cannot be reached, or cannot answer now
  4    not permitted
  5    no such vm or node
  6    refused by the cluster
  7    the flake could not be locked, evaluated or built
  8    a vm did not get where it was sent
  130  interrupted

Examples:
  blixard deploy            deploy every microVM of the flake in this directory
  blixard vm list           what runs where
  blixard vm logs -f hello  follow a guest's console";

/// Deploys microVMs that are outputs of a Nix flake, and looks after them.
#[derive(Debug, Parser)]
#[command(name = "blixard", version, after_help = AFTER_HELP)]
pub(crate) struct Cli {
    /// The daemon's Unix socket.
    #[arg(
        long,
        global = true,
        value_name = "PATH",
        env = "BLIXARD_SOCKET",
        hide_env_values = true,
        default_value = "/run/blixard/blixardd.sock"
    )]
    pub(crate) socket: PathBuf,
    /// How results are written to standard output.
    #[arg(short, long, global = true, value_name = "FORMAT", value_enum, default_value_t = Format::Table)]
    pub(crate) output: Format,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Evaluate a flake, build its microVMs, and run them.
    ///
    /// Locks the flake as the calling user, hands it to the daemon, and follows the microVMs until each is
    /// healthy or has failed. Once the cluster has accepted the deployment it goes on by itself, also when
    /// this command is interrupted.
    Deploy(DeployArgs),
    /// Look at microVMs; start, stop, restart and delete them.
    #[command(subcommand)]
    Vm(VmCommand),
    /// Look at the disks that hosts keep for microVMs; delete them, or give them up.
    #[command(subcommand)]
    Volume(VolumeCommand),
    /// Look at the machines of the cluster.
    #[command(subcommand)]
    Node(NodeCommand),
    /// Make this machine a cluster that others can join, and look at its servers.
    #[command(subcommand)]
    Cluster(ClusterCommand),
    /// Move microVMs to where they are better placed now, as few as will do.
    ///
    /// Those whose host is not what they require any more, those that affinities want elsewhere, and those on hosts
    /// that are fuller than others. Each is stopped in good order; the next one follows when it is healthy again.
    #[command(after_help = "Example:\n  blixard rebalance --dry-run")]
    Rebalance(RebalanceArgs),
    /// Print what has happened, the oldest first.
    #[command(after_help = "Example:\n  blixard events --since 120 -o json")]
    Events(EventsArgs),
    /// Print what happens, as it happens, until interrupted.
    #[command(after_help = "Example:\n  blixard watch --since 120")]
    Watch(WatchArgs),
    /// Remove from the nodes' stores what no kept generation needs.
    Gc(GcArgs),
    /// Show how the cluster is.
    #[command(after_help = "Example:\n  blixard status -o json")]
    Status,
    /// Print the script that completes command lines of `blixard` in a shell.
    #[command(after_help = "Example:\n  blixard completions bash > /etc/bash_completion.d/blixard")]
    Completions {
        /// The shell.
        #[arg(value_enum)]
        shell: Shell,
    },
    /// Write the pages of the manual into a folder, for packagers.
    #[command(hide = true, after_help = "Example:\n  blixard man /usr/local/share/man/man1")]
    Man {
        /// The folder; it is made if it is not there.
        #[arg(value_name = "DIR")]
        folder: PathBuf,
    },
}

const GC_HELP: &str = "\
Examples:
  blixard gc --dry-run   what would go, and how much room that would make
  blixard gc --keep 3    forget all but the newest three generations of each vm, then collect
  blixard gc --node n2   collect the store of one node";

#[derive(Debug, Args)]
#[command(after_help = GC_HELP)]
pub(crate) struct GcArgs {
    /// Only show what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Keep so many of the newest generations of each vm, and always the ones that should run and that
    /// run. Without this no generation is forgotten.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub(crate) keep: Option<u64>,
    /// The node whose store is collected; all nodes without it. `--keep` forgets for the whole cluster.
    #[arg(long, value_name = "NAME")]
    pub(crate) node: Option<String>,
}

/// A shell that completes command lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Shell {
    Bash,
    Zsh,
    Fish,
}

const DEPLOY_HELP: &str = "\
Examples:
  blixard deploy                         every microVM of the flake in this directory
  blixard deploy .#hello                 only the microVM `hello`
  blixard deploy --dry-run               what that would do, without doing it
  blixard deploy github:owner/infra -L   a flake elsewhere, with the logs of its builds";

#[derive(Debug, Args)]
#[command(after_help = DEPLOY_HELP)]
pub(crate) struct DeployArgs {
    /// A flake, as Nix writes it, and after `#` the one microVM that is wanted: `REF#NAME`,
    /// `REF#microvms.NAME`, or a guest of microvm.nix, `REF#nixosConfigurations.NAME`. Without `#`: all
    /// that the flake defines.
    #[arg(value_name = "FLAKEREF", default_value = ".")]
    pub(crate) flake: FlakeReference,
    /// Take over microVMs that another flake has defined.
    #[arg(long)]
    pub(crate) take_over: bool,
    /// Only show what would happen: evaluate, and build and change nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Print what the builds print.
    #[arg(short = 'L', long)]
    pub(crate) print_build_logs: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum VmCommand {
    /// List microVMs.
    #[command(after_help = "Example:\n  blixard vm list --tenant shop")]
    List {
        /// Only those of this tenant.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<TenantName>,
        #[command(flatten)]
        stale: StaleArg,
    },
    /// Show all that is known of a microVM.
    #[command(after_help = "Example:\n  blixard vm show hello -o json")]
    Show {
        #[command(flatten)]
        vm: VmArg,
        #[command(flatten)]
        stale: StaleArg,
    },
    /// Show why a microVM is where it is, or on no host: what each host lacks for it, or how good it is.
    ///
    /// Of the hosts that will do the one with the most points is taken; of those with equal points the one with the
    /// most free memory, or with the least that suffices if the flake says `binpack`.
    #[command(after_help = "Example:\n  blixard vm explain shop/web")]
    Explain {
        #[command(flatten)]
        vm: VmArg,
        #[command(flatten)]
        stale: StaleArg,
    },
    /// Start a microVM, and wait until it is healthy.
    #[command(after_help = "Example:\n  blixard vm start shop/web")]
    Start(ChangeArgs),
    /// Stop a microVM, and keep it stopped also when its flake is deployed again.
    #[command(after_help = "Example:\n  blixard vm stop hello --no-wait")]
    Stop(ChangeArgs),
    /// Stop a microVM in good order and start it again, and wait until it is healthy.
    #[command(after_help = "Example:\n  blixard vm restart shop/web")]
    Restart(ChangeArgs),
    /// Show the generations of a microVM, the newest first; ten are kept.
    #[command(after_help = "Example:\n  blixard vm history hello")]
    History {
        #[command(flatten)]
        vm: VmArg,
    },
    /// Stop a microVM and forget it; its volumes and files stay on its host unless told otherwise.
    #[command(after_help = "Example:\n  blixard vm delete hello --volumes --dry-run")]
    Delete(DeleteArgs),
    /// Print a guest's console.
    #[command(after_help = "Example:\n  blixard vm logs -n 50 -f hello")]
    Logs(LogsArgs),
    /// Watch a guest's console, until interrupted. What is typed does not reach the guest.
    #[command(after_help = "Example:\n  blixard vm console hello")]
    Console {
        #[command(flatten)]
        vm: VmArg,
    },
}

#[derive(Debug, Args)]
pub(crate) struct VmArg {
    /// The microVM: `tenant/name`, or `name` in the tenant `default`.
    #[arg(value_name = "VM")]
    pub(crate) vm: VmId,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    #[command(flatten)]
    pub(crate) vm: VmArg,
    /// Only order it; do not wait until it has happened.
    #[arg(long)]
    pub(crate) no_wait: bool,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    pub(crate) change: ChangeArgs,
    /// Its volumes, and all that its guest has left in its directory on its host, go too.
    #[arg(long)]
    pub(crate) volumes: bool,
    /// Only show what would go.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct LogsArgs {
    #[command(flatten)]
    pub(crate) vm: VmArg,
    /// Go on with new lines as they come, until interrupted.
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Begin with the newest N lines instead of the oldest line there is.
    #[arg(short = 'n', long, value_name = "N")]
    pub(crate) lines: Option<u32>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodeCommand {
    /// List the machines of the cluster.
    #[command(after_help = "Example:\n  blixard node list")]
    List {
        #[command(flatten)]
        stale: StaleArg,
    },
    /// Place no new microVMs on a machine; those that are there stay.
    #[command(after_help = "Example:\n  blixard node cordon beta")]
    Cordon(NodeArg),
    /// Place microVMs on a machine again, and end its drain.
    #[command(after_help = "Example:\n  blixard node uncordon beta")]
    Uncordon(NodeArg),
    /// Move all microVMs of a machine to others, and place no new ones there.
    ///
    /// Each is stopped in good order and placed elsewhere; the next one follows when it is healthy. One that no
    /// other host has room for, or whose volume is there, stays until the deadline.
    #[command(after_help = "Example:\n  blixard node drain beta --deadline 30m --max-parallel 2")]
    Drain(DrainArgs),
    /// Say that a machine is off, so that what ran there is placed elsewhere.
    ///
    /// A machine that holds leases is given up by itself when they have run out. This is for what such a lease does
    /// not cover: microVMs that are kept running in a partition, and a machine that held none. If it is not off, they
    /// will run twice.
    #[command(after_help = "Example:\n  blixard node lost beta --confirm")]
    Lost(LostArgs),
    /// Take a machine out of the cluster.
    ///
    /// It must not run microVMs. If it leads, it hands over first. Its certificate is then refused everywhere.
    #[command(after_help = "Example:\n  blixard node remove beta")]
    Remove(RemoveArgs),
}

#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct StaleArg {
    /// Show what this server knows, without asking the others: it may be behind.
    #[arg(long)]
    pub(crate) stale: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definition_holds_together() {
        Cli::command().debug_assert();
    }
}
