//! `testhost up | enter | down`: hosts that outlive the command, to try things on.

use std::process::ExitCode;

use anyhow::Context as _;
use blixard_testkit::Workspace;
use blixard_testkit::image::Image;
use blixard_testkit::world::{Lifetime, World};

use crate::step;

#[derive(clap::Subcommand)]
pub(crate) enum Command {
    /// Boot hosts named n1, n2 …, without Blixard
    Up {
        /// How many
        #[arg(default_value_t = 1)]
        count: usize,
    },
    /// A shell on a host, or one command
    Enter {
        /// Its name
        #[arg(default_value = "n1")]
        host: String,
        /// The command
        #[arg(last = true)]
        command: Vec<String>,
    },
    /// End them
    Down,
}

pub(crate) fn run(command: Command) -> anyhow::Result<ExitCode> {
    let workspace = Workspace::here()?;
    match command {
        Command::Up { count } => up(&workspace, count),
        Command::Enter { host, command } => enter(&workspace, &host, &command),
        Command::Down => {
            World::detached(&workspace)?.end()?;
            step::say("the test hosts are gone");
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn up(workspace: &Workspace, count: usize) -> anyhow::Result<ExitCode> {
    let image = Image::ready(workspace, &mut step::say)?;
    let world =
        step::step("booting test hosts", || World::start(workspace, &image, count, Lifetime::Detached))?;
    for host in world.hosts() {
        println!("{}  {}", host.name(), host.address());
    }
    explain();
    Ok(ExitCode::SUCCESS)
}

/// Says how to go on with hosts that stay up.
pub(crate) fn explain() {
    println!("enter a host:  cargo xtask testhost enter n1 [-- COMMAND…]");
    println!("end them all:  cargo xtask testhost down");
}

fn enter(workspace: &Workspace, host: &str, command: &[String]) -> anyhow::Result<ExitCode> {
    let world = World::detached(workspace)?;
    let argv: Vec<&str> = if command.is_empty() {
        vec!["bash", "--login"]
    } else {
        command.iter().map(String::as_str).collect()
    };
    let status = world.host_named(host)?.attach(&argv)?;
    let code = status.code().context("the command was killed")?;
    Ok(ExitCode::from(u8::try_from(code).unwrap_or(u8::MAX)))
}
