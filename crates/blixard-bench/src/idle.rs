//! A leader that many hosts attend while nothing happens, and what that costs it.
//!
//! Owns: the composition of a real server, consensus on disk, leases and placement among it, behind plain gRPC; a
//! caller says which node it is, where the daemon asks its certificate. The figures are of this process, as the
//! kernel counts them. The hosts are another one ([`crate::attend`]).

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use blixard_core::command::{Command, Deploy, TakeOver, VmDefinition};
use blixard_core::ports::consensus::Consensus as _;
use blixard_core::ports::{BootMillis, Clock, Entropy, RawMillis, UnixMillis};
use blixard_core::rules::RULES;
use blixard_core::state::{ClusterState, Role};
use blixard_pki::KeyFiles;
use blixard_proto::v1::console_service_client::ConsoleServiceClient;
use blixard_raft::{Place, RaftNode, RaftOptions};
use blixard_server::roots::BuildsInFlight;
use blixard_server::{CallingNode, ConsoleAccess, Disk, Keyring, LeaseDesk, PeerChannels, Replica, Server};
use blixard_server::{leader, services};
use blixard_types::{ClosureRef, ClusterId, DeploymentId, NodeId, Sha256Hash, Spec, StorePath};
use clap::Args;
use futures_util::future::BoxFuture;
use serde::Serialize;
use tokio::net::TcpListener;
use tonic::transport::Channel;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Status};

/// Says which node calls.
pub(crate) const NODE: &str = "x-bench-node";

/// The server itself runs no vms.
const HERE: NodeId = NodeId(1);
/// The number of the first host.
pub(crate) const FIRST_HOST: u64 = 2;
/// Vms of one command.
const PER_COMMAND: u64 = 50;
const PAUSE: Duration = Duration::from_millis(200);
/// What was begun by the last placement is over by then.
const SETTLED_AFTER: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(crate) struct Arguments {
    /// Where it keeps its log
    #[arg(long)]
    dir: PathBuf,
    /// Where hosts reach it
    #[arg(long)]
    listen: SocketAddr,
    /// How many hosts there are
    #[arg(long)]
    hosts: u64,
    /// How many vms they run
    #[arg(long)]
    vms: u64,
    /// For how long it is looked at, in seconds
    #[arg(long, default_value_t = 20)]
    seconds: u32,
}

/// What it took.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Figures {
    /// Processor time of a second, in milliseconds.
    cpu_ms: f64,
    /// The same while there are no vms yet.
    cpu_ms_without_vms: f64,
    /// Memory, in MiB.
    memory_mib: f64,
    /// Entries that were appended meanwhile.
    entries: u64,
    /// From when on, and until when, vms were deployed and placed, in milliseconds since 1970.
    placing: (u64, u64),
}

pub(crate) async fn run(arguments: Arguments) -> anyhow::Result<()> {
    let listener = TcpListener::bind(arguments.listen).await.context("cannot listen for hosts")?;
    let replica = Arc::new(Replica::default());
    let mut options = RaftOptions::new(HERE, &arguments.dir);
    options.place = Place::OwnThread;
    let node = RaftNode::open(options, replica.clone()).await?;
    node.initialize_single().await?;
    while !node.standing().leads() {
        tokio::time::sleep(PAUSE).await;
    }
    let (desk, asks) = LeaseDesk::new();
    let server = server(&node, replica, desk, &arguments.dir)?;
    prepare(&server, arguments.hosts).await?;
    let made = services(&server, BuildsInFlight::default(), Arc::new(Outside));
    let host = tonic::service::interceptor::InterceptedService::new(made.host, named);
    let serving = tonic::transport::Server::builder()
        .add_service(host)
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)));
    // Each is a task, as in the daemon.
    let mut duties = tokio::task::JoinSet::new();
    duties.spawn(leader::leases::run(server.clone(), asks, None));
    duties.spawn(leader::run(server.clone()));
    let measured = measure(&server, &arguments);
    tokio::select! {
        served = serving => served.context("the server has ended"),
        _ = duties.join_next() => anyhow::bail!("a duty of the leader has ended"),
        figures = measured => {
            println!("{}", serde_json::to_string(&figures?)?);
            Ok(())
        }
    }
}

/// What a certificate says for real.
fn named(mut request: Request<()>) -> Result<Request<()>, Status> {
    let node = request.metadata().get(NODE).and_then(|node| node.to_str().ok()?.parse().ok());
    let node = node.ok_or_else(|| Status::unauthenticated("who calls?"))?;
    request.extensions_mut().insert(CallingNode(NodeId(node)));
    Ok(request)
}

fn server(node: &RaftNode, replica: Arc<Replica>, leases: LeaseDesk, dir: &Path) -> anyhow::Result<Server> {
    let log = Arc::new(node.clone());
    let outside = Arc::new(Outside);
    Ok(Server {
        node: HERE,
        version: "bench",
        replica,
        consensus: log.clone(),
        log: log.clone(),
        membership: log,
        peers: outside.clone(),
        leases,
        keyring: Arc::new(Keyring::open(KeyFiles::below(dir)).context("cannot open the keyring")?),
        address: None,
        disk: outside.clone(),
        clock: outside.clone(),
        entropy: outside,
        builder: None,
    })
}

async fn prepare(server: &Server, hosts: u64) -> anyhow::Result<()> {
    propose(server, Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest }).await?;
    for number in HERE.0..FIRST_HOST + hosts {
        let role = if number == HERE.0 { Role::Server } else { Role::Host };
        let (node, name) = (NodeId(number), format!("n{number}").parse()?);
        propose(server, Command::RegisterNode { node, name, roles: [role].into() }).await?;
    }
    Ok(())
}

async fn propose(server: &Server, command: Command) -> anyhow::Result<()> {
    let proposer = server.proposer();
    proposer.propose(proposer.fresh_request(), command).await.map(drop).context("a command is refused")
}

async fn measure(server: &Server, arguments: &Arguments) -> anyhow::Result<Figures> {
    let hosts = arguments.hosts;
    let attend = |state: &ClusterState| {
        let attending = state.nodes.values().filter(|node| node.session.is_some()).count() as u64;
        attending == hosts && state.unfenced().next().is_none()
    };
    until(server, attend).await;
    let (cpu_ms_without_vms, _) = look(server, arguments.seconds).await?;
    let begun = server.clock.wall().0;
    for first in (0..arguments.vms).step_by(usize::try_from(PER_COMMAND)?) {
        let last = (first + PER_COMMAND).min(arguments.vms);
        let vms = (first..last).map(definition).collect::<anyhow::Result<_>>()?;
        let (deployment, source) = (DeploymentId([7; 16]), "git+https://example.org/machines".parse()?);
        let deploy = Deploy { deployment, source, take_over: TakeOver::Refuse, vms, builder: None };
        propose(server, Command::Deploy(deploy)).await?;
    }
    until(server, |state| state.vms.values().all(|vm| vm.run.host().is_some())).await;
    let placing = (begun, server.clock.wall().0);
    let (cpu_ms, entries) = look(server, arguments.seconds).await?;
    Ok(Figures { cpu_ms, cpu_ms_without_vms, memory_mib: memory_mib()?, entries, placing })
}

/// Processor time of a second while nothing happens, in milliseconds, and how many entries were appended.
async fn look(server: &Server, seconds: u32) -> anyhow::Result<(f64, u64)> {
    let last = || server.log.standing().last_log.map_or(0, |position| position.index);
    tokio::time::sleep(SETTLED_AFTER).await;
    let (entries, before) = (last(), cpu_ms()?);
    tokio::time::sleep(Duration::from_secs(u64::from(seconds))).await;
    Ok(((cpu_ms()? - before) / f64::from(seconds), last() - entries))
}

async fn until(server: &Server, holds: impl Fn(&ClusterState) -> bool) {
    while !server.replica.read(&holds) {
        tokio::time::sleep(PAUSE).await;
    }
}

fn definition(number: u64) -> anyhow::Result<VmDefinition> {
    let root: StorePath = format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-app-{number}").parse()?;
    let hash = Sha256Hash::of(root.to_string().as_bytes());
    let closure =
        ClosureRef { root: root.clone(), nar_hash: hash, closure_digest: hash, path_count: 1, nar_size: 1 };
    let (vm, spec) = (format!("app-{number}").parse()?, Spec::minimal(1, 256));
    Ok(VmDefinition { vm, drv: root, system: "x86_64-linux".to_owned(), closure, spec })
}

/// Processor time of this process, as `/proc/self/stat` has it in hundredths of a second.
fn cpu_ms() -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("no name")?.split_whitespace();
    let ticks = fields.skip(11).take(2).map(str::parse::<u32>).sum::<Result<u32, _>>()?;
    Ok(f64::from(ticks) * 10.0)
}

fn memory_mib() -> anyhow::Result<f64> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let kib: u32 = line.trim().trim_end_matches(" kB").parse()?;
    Ok(f64::from(kib) / 1024.0)
}

/// The machine, and nobody else.
struct Outside;

fn millis_since_boot() -> u64 {
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
    let seconds: f64 = uptime.split(' ').next().and_then(|text| text.parse().ok()).unwrap_or_default();
    u64::try_from(Duration::from_secs_f64(seconds).as_millis()).unwrap_or(u64::MAX)
}

impl Clock for Outside {
    fn wall(&self) -> UnixMillis {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        UnixMillis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn boot(&self) -> BootMillis {
        BootMillis(millis_since_boot())
    }

    fn raw(&self) -> RawMillis {
        RawMillis(millis_since_boot())
    }
}

impl Entropy for Outside {
    fn id(&self) -> [u8; 16] {
        use std::sync::atomic::{AtomicU64, Ordering};
        static DRAWN: AtomicU64 = AtomicU64::new(1);
        u128::from(DRAWN.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}

impl Disk for Outside {
    fn free_bytes(&self) -> u64 {
        1 << 40
    }
}

impl PeerChannels for Outside {
    fn channel(&self, _: NodeId) -> BoxFuture<'_, Result<Channel, Status>> {
        Box::pin(std::future::ready(Err(Status::unavailable("there is nobody else"))))
    }
}

impl ConsoleAccess for Outside {
    fn of(&self, _: NodeId) -> BoxFuture<'_, Result<ConsoleServiceClient<Channel>, Status>> {
        Box::pin(std::future::ready(Err(Status::unavailable("there are no consoles"))))
    }
}
