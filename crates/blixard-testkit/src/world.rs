//! A world: a few hosts on one bridge, in namespaces that end with the process that made them.
//!
//! Owns `target/testhost/worlds/<name>` and the cgroup of the same name. The namespaces are kept by a
//! keeper (`world/keeper.sh`), process 1 of the world's pid namespace, which lives by its standard
//! input:
//!
//! ```text
//! test process ── pipe ──▶ unshare ── parent-death signal ──▶ keeper (pid 1) ──▶ nspawn ──▶ systemd
//! ```
//!
//! The pipe closes when the test process goes, by return, panic, Ctrl-C or SIGKILL; the keeper then
//! kills what is in its namespace and cleans up. If the keeper itself is killed the kernel kills the
//! rest, and the next start sweeps what it left. A detached world (`testhost up`) reads from a FIFO that
//! never ends instead, until it is told to.
//!
//! Refuses to know what the hosts are for.

#![allow(clippy::disallowed_methods, reason = "driving programs of the machine is what the test kit is for")]

mod cgroup;
mod orders;
mod record;
mod sweep;

use std::fs::{self, File, OpenOptions};
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::fs::FlockOperation;

use crate::host::Host;
use crate::image::Image;
use crate::wait::{self, Seen};
use crate::{Workspace, process};

pub(crate) use cgroup::Cgroup;
pub(crate) use orders::Orders;
use record::{HostRecord, Record};

/// How long a world may take to go.
const END_LIMIT: Duration = Duration::from_mins(3);
/// The world that `testhost up` makes.
const DETACHED: &str = "testhost";

/// How long a world lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as this process; dropping the world ends it.
    Attached,
    /// Until [`World::end`] is called on it, by any process; one such world at a time.
    Detached,
}

/// Hosts on one bridge.
#[derive(Debug)]
pub struct World {
    record: Record,
    folder: PathBuf,
    hosts: Vec<Host>,
    orders: Arc<Orders>,
    /// The keeper, of an attached world.
    keeper: Option<Child>,
}

impl World {
    /// Starts a world of `count` hosts, named n1, n2 …, and waits until their systemd is up.
    ///
    /// # Errors
    /// When a host does not come up; nothing is left running then.
    pub fn start(
        workspace: &Workspace,
        image: &Image,
        count: usize,
        lifetime: Lifetime,
    ) -> anyhow::Result<Self> {
        anyhow::ensure!((1..=200).contains(&count), "a world has 1 to 200 hosts, not {count}");
        let worlds = workspace.worlds();
        fs::create_dir_all(&worlds).with_context(|| format!("cannot make {}", worlds.display()))?;
        let base = Cgroup::base(workspace.root())?;
        let world = {
            // Held until the keeper has the world's own lock, so that nobody sweeps a world being made.
            let lock = File::create(worlds.join("lock")).context("cannot make the lock of the worlds")?;
            rustix::fs::flock(&lock, FlockOperation::LockExclusive).context("cannot lock the worlds")?;
            sweep::sweep(&worlds, &base)?;
            Self::make(&worlds, &base, image, count, lifetime)?
        };
        match world.boot() {
            Ok(()) => Ok(world),
            Err(error) => {
                world.end().context("a host did not boot, and then its world did not end")?;
                Err(error)
            }
        }
    }

    /// Boots all hosts at once.
    fn boot(&self) -> anyhow::Result<()> {
        self.hosts.iter().try_for_each(Host::order_boot)?;
        self.hosts.iter().try_for_each(Host::wait_until_up)
    }

    /// The detached world, if there is one.
    ///
    /// # Errors
    /// When there is none, or its record cannot be read.
    pub fn detached(workspace: &Workspace) -> anyhow::Result<Self> {
        let folder = workspace.worlds().join(DETACHED);
        if !sweep::is_alive(&folder)? {
            anyhow::bail!("there is no test host up; `cargo xtask testhost up` makes one");
        }
        let record = Record::read(&folder)?;
        let orders = Arc::new(Orders::fifo(&folder)?);
        Ok(Self::assemble(folder, record, orders, None))
    }

    /// The hosts, in the order of their names.
    #[must_use]
    pub fn hosts(&self) -> &[Host] {
        &self.hosts
    }

    /// The host at this index, from 0.
    ///
    /// # Errors
    /// When the world has fewer.
    pub fn host(&self, index: usize) -> anyhow::Result<&Host> {
        self.hosts
            .get(index)
            .with_context(|| format!("the world {} has {} hosts", self.record.name, self.hosts.len()))
    }

    /// The host of this name.
    ///
    /// # Errors
    /// When there is none, with the names that there are.
    pub fn host_named(&self, name: &str) -> anyhow::Result<&Host> {
        self.hosts.iter().find(|host| host.name() == name).with_context(|| {
            let names: Vec<&str> = self.hosts.iter().map(Host::name).collect();
            format!("there is no host {name:?}; there is {}", names.join(", "))
        })
    }

    /// Pulls the host's wire: it lives on, alone.
    ///
    /// # Errors
    /// When the bridge does not know it.
    pub fn cut(&self, host: &Host) -> anyhow::Result<()> {
        self.on_the_bridge(&["ip", "link", "set", &host.wire(), "down"]).map(drop)
    }

    /// Plugs it in again.
    ///
    /// # Errors
    /// As [`World::cut`].
    pub fn mend(&self, host: &Host) -> anyhow::Result<()> {
        self.on_the_bridge(&["ip", "link", "set", &host.wire(), "up"]).map(drop)
    }

    /// Runs a program of this machine (`ip`, `tc`, `curl` …) in the network of the bridge `br0`.
    ///
    /// # Errors
    /// When it fails.
    pub fn on_the_bridge(&self, argv: &[&str]) -> anyhow::Result<String> {
        let keeper = self.record.keeper.to_string();
        process::run(&[&["nsenter", "--target", keeper.as_str(), "--net", "--"], argv].concat())
    }

    /// Ends the world and everything in it.
    ///
    /// # Errors
    /// When something of it is still there after three minutes: a world may hold gigabytes of files.
    pub fn end(mut self) -> anyhow::Result<()> {
        self.finish()
    }

    fn make(
        worlds: &Path,
        base: &Cgroup,
        image: &Image,
        count: usize,
        lifetime: Lifetime,
    ) -> anyhow::Result<Self> {
        let name = name_for(lifetime);
        let folder = worlds.join(&name);
        if folder.exists() {
            anyhow::bail!("there already is a test host up; `cargo xtask testhost down` ends it");
        }
        let hosts: Vec<HostRecord> = (1..=count).map(HostRecord::numbered).collect();
        record::lay_out(&folder, &hosts)?;
        let cgroup = base.child(&name);
        cgroup.create()?;
        let (mut keeper, orders) = start_keeper(&folder, &cgroup, image, lifetime)?;
        await_ready(&mut keeper, &folder)?;
        let record = Record { name, keeper: keeper.id(), cgroup: cgroup.path().to_owned(), hosts };
        record.write(&folder)?;
        let keeper = (lifetime == Lifetime::Attached).then_some(keeper);
        Ok(Self::assemble(folder, record, Arc::new(orders), keeper))
    }

    fn assemble(folder: PathBuf, record: Record, orders: Arc<Orders>, keeper: Option<Child>) -> Self {
        let cgroup = Cgroup::at(record.cgroup.clone());
        let host = |host: &HostRecord| {
            Host::new(&host.name, &host.address, folder.join(&host.name), cgroup.child(&host.name), &orders)
        };
        let hosts = record.hosts.iter().map(host).collect();
        Self { record, folder, hosts, orders, keeper }
    }

    fn finish(&mut self) -> anyhow::Result<()> {
        // A keeper that is gone already has nothing to be told.
        let told = self.orders.send("end");
        let gone = wait::until("the world to end", END_LIMIT, || {
            Ok(if self.folder.exists() {
                Seen::Instead(format!("{} is still there", self.folder.display()))
            } else {
                Seen::Done(())
            })
        });
        if let Some(mut keeper) = self.keeper.take() {
            // The keeper removes its folder last; this is for one that could not.
            if gone.is_err() {
                keeper.kill().context("cannot kill the keeper")?;
            }
            keeper.wait().context("cannot wait for the keeper")?;
        }
        gone.and(told)
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if self.keeper.is_some()
            && let Err(error) = self.finish()
        {
            tell(&format!("the world {} did not end well: {error:#}", self.record.name));
        }
    }
}

#[allow(clippy::print_stderr, reason = "a drop has nowhere else to put its error")]
fn tell(message: &str) {
    eprintln!("{message}");
}

/// A name that no other world has.
fn name_for(lifetime: Lifetime) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(1);
    match lifetime {
        Lifetime::Detached => DETACHED.to_owned(),
        Lifetime::Attached => {
            format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))
        }
    }
}

/// Starts the keeper in new namespaces and a session of its own (Ctrl-C is not for it).
fn start_keeper(
    folder: &Path,
    cgroup: &Cgroup,
    image: &Image,
    lifetime: Lifetime,
) -> anyhow::Result<(Child, Orders)> {
    let script = folder.join("keeper.sh");
    fs::write(&script, include_str!("world/keeper.sh")).context("cannot write the keeper's script")?;
    let mut command = process::command(&[
        "setsid",
        "unshare",
        "--mount",
        "--net",
        "--pid",
        "--fork",
        "--kill-child",
        "--mount-proc",
        "--propagation=private",
        "bash",
    ])?;
    command
        .arg(script)
        .env("WORLD", folder)
        .env("CGROUPS", cgroup.path())
        .env("IMAGE", image.folder())
        .stdout(Stdio::piped())
        .stderr(File::create(folder.join("keeper.log")).context("cannot make the keeper's log")?);
    match lifetime {
        Lifetime::Attached => {
            let mut child = command.stdin(Stdio::piped()).spawn().context("cannot start the keeper")?;
            let stdin = child.stdin.take().context("a piped child has a standard input")?;
            Ok((child, Orders::pipe(stdin)))
        }
        Lifetime::Detached => {
            let orders = Orders::fifo(folder)?;
            // Open for writing as well, so that it never ends.
            let stdin = OpenOptions::new().read(true).write(true).open(orders::fifo_path(folder))?;
            Ok((command.stdin(stdin).spawn().context("cannot start the keeper")?, orders))
        }
    }
}

fn await_ready(keeper: &mut Child, folder: &Path) -> anyhow::Result<()> {
    let stdout = keeper.stdout.take().context("a piped child has a standard output")?;
    let mut line = String::new();
    BufReader::new(stdout).read_line(&mut line).context("cannot hear the keeper")?;
    if line.trim_end() == "ready" {
        return Ok(());
    }
    let log = fs::read_to_string(folder.join("keeper.log")).unwrap_or_default();
    anyhow::bail!("the keeper of the world did not start: {} {}", line.trim_end(), log.trim_end())
}
