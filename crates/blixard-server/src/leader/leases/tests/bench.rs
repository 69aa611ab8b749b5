//! A keeper whose log does what a test says: when rounds end, who leads which term, what becomes of proposals.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use blixard_core::apply::Rejection;
use blixard_core::command::{Command, Envelope};
use blixard_core::ports::BoxStream;
use blixard_core::ports::consensus::{Applied, Consensus, ProposeError, ReplicatedMachine, Standing};
use blixard_core::ports::members::{Membership, MembershipError, Progress, StorageUse};
use blixard_core::ports::{Clock, Entropy, RawMillis, UnixMillis};
use blixard_core::rules::RULES;
use blixard_core::state::{NodeFacts, Role, Terms};
use blixard_pki::KeyFiles;
use blixard_proto::{decode_envelope, encode_envelope, encode_outcome};
use blixard_types::{ClusterId, DaemonId, LogPosition, NodeId, RequestId};
use futures_util::FutureExt;
use tokio::task::JoinSet;
use tonic::Status;
use tonic::transport::Channel;

use super::*;
use crate::{Disk, Keyring, PeerChannels, Replica};

/// The server that keeps leases.
pub(crate) const HERE: NodeId = NodeId(1);
/// The first host: it has not said that it holds a lease, so that it is not given up.
pub(crate) const OPEN: u64 = 2;
/// The host of most tests: it has only had grants with a deadline.
pub(crate) const HOST: u64 = 3;

/// How far time goes at once, in milliseconds: a part of every tick and pause of the keeper.
const STEP: u64 = 50;

/// A keeper, and all that it asks.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) log: Arc<Log>,
    /// The log through the leader, wherever that is.
    pub(crate) elsewhere: Arc<Log>,
    pub(crate) clock: Arc<TestClock>,
    pub(crate) members: Arc<Members>,
    _keeper: JoinSet<()>,
    _keys: tempfile::TempDir,
}

/// A heartbeat that has been sent to the keeper.
pub(crate) struct Asked(BoxFuture<'static, Answer>);

impl Bench {
    /// A cluster with two hosts, whose first server leads term 1 and has begun to grant leases.
    pub(crate) async fn leading() -> Self {
        let bench = Self::elected(None);
        bench.log.end_round(Ok(())).await;
        bench
    }

    /// The same before its first round has ended.
    pub(crate) fn elected(times: Option<LeaseTimes>) -> Self {
        let replica = Arc::new(Replica::default());
        let (log, elsewhere) = (Log::new(&replica), Log::new(&Arc::new(Replica::default())));
        log.append(Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest });
        let registered = [(1, Role::Server), (OPEN, Role::Host), (HOST, Role::Host)];
        for (node, role) in registered {
            let (node, name) = (NodeId(node), format!("n{node}").parse().unwrap());
            log.append(Command::RegisterNode { node, name, roles: [role].into() });
            let boot = "boot".to_owned();
            log.append(Command::OpenSession { node, daemon: daemon(node.0), boot, facts: facts() });
        }
        let (leases, asks) = LeaseDesk::new();
        let clock = Arc::new(TestClock { begun: Instant::now(), slewed: AtomicU64::new(0) });
        let (members, keys) = (Arc::<Members>::default(), tempfile::tempdir().unwrap());
        let server = Server {
            node: HERE,
            version: "test",
            replica,
            consensus: elsewhere.clone(),
            log: log.clone(),
            membership: members.clone(),
            peers: Arc::new(Nobody),
            leases,
            keyring: Arc::new(Keyring::open(KeyFiles::below(keys.path())).unwrap()),
            address: None,
            disk: Arc::new(Nobody),
            clock: clock.clone(),
            entropy: Arc::new(Counter::default()),
            builder: None,
        };
        let mut keeper = JoinSet::new();
        keeper.spawn(run(server.clone(), asks, times));
        Self { server, log, elsewhere, clock, members, _keeper: keeper, _keys: keys }
    }

    /// Sends a heartbeat of a host, received now.
    pub(crate) async fn ask(&self, node: u64) -> Asked {
        self.ask_with(heartbeat(node)).await
    }

    pub(crate) async fn ask_with(&self, heartbeat: Heartbeat) -> Asked {
        let (desk, received) = (self.server.leases.clone(), self.clock.boot());
        let mut asked = Asked(Box::pin(async move { desk.ask(heartbeat, received).await }));
        assert!(asked.0.as_mut().now_or_never().is_none(), "an answer before the keeper was asked");
        settle().await;
        asked
    }

    /// Sends a heartbeat and ends the round that serves it.
    pub(crate) async fn granted(&self, node: u64) -> Answer {
        let asked = self.ask(node).await;
        self.log.end_round(Ok(())).await;
        asked.answer().await.expect("an answer once the round is over")
    }

    /// Lets time pass, tick by tick.
    pub(crate) async fn pass(&self, ms: u64) {
        for _ in 0..ms / STEP {
            tokio::time::advance(Duration::from_millis(STEP)).await;
            settle().await;
        }
    }
}

impl Asked {
    /// The answer, if there is one.
    pub(crate) async fn answer(mut self) -> Option<Answer> {
        settle().await;
        self.0.as_mut().now_or_never()
    }

    pub(crate) async fn waits(&mut self) -> bool {
        settle().await;
        self.0.as_mut().now_or_never().is_none()
    }
}

/// Lets everybody do what can be done without time.
pub(crate) async fn settle() {
    for _ in 0..50 {
        tokio::task::yield_now().await;
    }
}

pub(crate) fn daemon(node: u64) -> DaemonId {
    DaemonId(u128::from(node).to_be_bytes())
}

pub(crate) fn heartbeat(node: u64) -> Heartbeat {
    let (holds, fenced_by, running) = (None, None, Vec::new());
    Heartbeat {
        node: NodeId(node),
        boot: "boot".to_owned(),
        daemon: daemon(node),
        n: 1,
        running,
        holds,
        fenced_by,
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        cpus: 4,
        memory_mib: 1000,
        system: "x86_64-linux".to_owned(),
        kvm: false,
        kernel: "6.12".to_owned(),
        version: "0.1.0".to_owned(),
        disk_mib: None,
        hypervisors: [].into(),
        shared: std::collections::BTreeMap::new(),
        nix_version: String::new(),
        terms: Terms::default(),
    }
}

/// What becomes of a proposal. Those that no test speaks of are applied.
pub(crate) enum Fate {
    /// It is applied once the test says so.
    Held(oneshot::Receiver<()>),
    /// It is not in the log, but nobody knows.
    Unknown,
    /// It is in the log, where there is no room for another call.
    NoRoom,
}

/// A log of one server. It leads term 1 until it is told otherwise.
pub(crate) struct Log {
    replica: Arc<Replica>,
    inner: Mutex<Inner>,
}

struct Inner {
    standing: Standing,
    index: u64,
    rounds: VecDeque<oneshot::Sender<Result<(), LinearizeError>>>,
    rounds_begun: usize,
    fates: VecDeque<Fate>,
    proposed: Vec<(RequestId, Command)>,
}

impl Log {
    fn new(replica: &Arc<Replica>) -> Arc<Self> {
        let voters = vec![NodeId(1), NodeId(7)];
        let standing = Standing { node: HERE, term: 1, leader: Some(HERE), voters, ..Standing::default() };
        let inner = Inner {
            standing,
            index: 0,
            rounds: VecDeque::new(),
            rounds_begun: 0,
            fates: VecDeque::new(),
            proposed: Vec::new(),
        };
        Arc::new(Self { replica: Arc::clone(replica), inner: Mutex::new(inner) })
    }

    fn inner<T>(&self, with: impl FnOnce(&mut Inner) -> T) -> T {
        with(&mut self.inner.lock().unwrap())
    }

    /// Commits and applies a command that somebody has proposed.
    pub(crate) fn append(&self, command: Command) {
        let request = RequestId(self.inner(|inner| u128::from(inner.index) | 1 << 100).to_be_bytes());
        let envelope = Envelope { request, at: UnixMillis(1), by: None, command };
        self.commit(&encode_envelope(&envelope).unwrap());
    }

    fn commit(&self, bytes: &[u8]) -> Applied {
        let position = self.inner(|inner| {
            inner.index += 1;
            LogPosition { term: inner.standing.term, index: inner.index }
        });
        Applied { outcome: self.replica.apply(position, bytes).unwrap(), position }
    }

    /// Says who leads from now on, and which term.
    pub(crate) async fn led_by(&self, leader: Option<u64>, term: u64) {
        self.inner(|inner| (inner.standing.leader, inner.standing.term) = (leader.map(NodeId), term));
        settle().await;
    }

    /// Ends the round that has begun first.
    pub(crate) async fn end_round(&self, outcome: Result<(), LinearizeError>) {
        settle().await;
        let round = self.inner(|inner| inner.rounds.pop_front()).expect("a round that has begun");
        round.send(outcome).expect("somebody who waits for it");
        settle().await;
    }

    pub(crate) fn rounds_begun(&self) -> usize {
        self.inner(|inner| inner.rounds_begun)
    }

    pub(crate) fn next_fate(&self, fate: Fate) {
        self.inner(|inner| inner.fates.push_back(fate));
    }

    pub(crate) fn proposed(&self) -> Vec<(RequestId, Command)> {
        self.inner(|inner| inner.proposed.clone())
    }

    /// What was proposed, without who asked.
    pub(crate) fn commands(&self) -> Vec<Command> {
        self.proposed().into_iter().map(|(_, command)| command).collect()
    }
}

impl Consensus for Log {
    fn propose(&self, bytes: Vec<u8>) -> BoxFuture<'_, Result<Applied, ProposeError>> {
        let Envelope { request, command, .. } = decode_envelope(&bytes).unwrap();
        let fate = self.inner(|inner| {
            inner.proposed.push((request, command));
            inner.fates.pop_front()
        });
        Box::pin(async move {
            match fate {
                None => {}
                Some(Fate::Held(until)) => until.await.unwrap(),
                Some(Fate::Unknown) => return Err(ProposeError::OutcomeUnknown),
                Some(Fate::NoRoom) => {
                    let outcome = encode_outcome(&Err(Rejection::TooManyCalls)).unwrap();
                    return Ok(Applied { outcome, position: LogPosition { term: 1, index: 1 } });
                }
            }
            Ok(self.commit(&bytes))
        })
    }

    fn linearize(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        let (end, ended) = oneshot::channel();
        let index = self.inner(|inner| {
            inner.rounds_begun += 1;
            inner.rounds.push_back(end);
            inner.index
        });
        Box::pin(async move { ended.await.unwrap().map(|()| LogPosition { term: 1, index }) })
    }

    fn linearize_by_lease(&self) -> BoxFuture<'_, Result<LogPosition, LinearizeError>> {
        panic!("a lease of the consensus is no quorum round");
    }

    fn standing(&self) -> Standing {
        self.inner(|inner| inner.standing.clone())
    }

    fn standings(&self) -> BoxStream<'static, Standing> {
        Box::pin(futures_util::stream::pending())
    }
}

/// The boot clock is the runtime's; the raw one can be made to lag behind it.
pub(crate) struct TestClock {
    begun: Instant,
    slewed: AtomicU64,
}

impl TestClock {
    /// Makes the boot clock fast by so much, from now on.
    pub(crate) fn slew(&self, ms: u64) {
        self.slewed.fetch_add(ms, Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_millis()).unwrap()
    }
}

impl Clock for TestClock {
    fn wall(&self) -> UnixMillis {
        UnixMillis(1_000_000 + self.elapsed())
    }

    fn boot(&self) -> BootMillis {
        BootMillis(100_000 + self.elapsed() + self.slewed.load(Ordering::Relaxed))
    }

    fn raw(&self) -> RawMillis {
        RawMillis(5000 + self.elapsed())
    }
}

#[derive(Default)]
struct Counter(AtomicU64);

impl Entropy for Counter {
    fn id(&self) -> [u8; 16] {
        u128::from(self.0.fetch_add(1, Ordering::Relaxed)).to_be_bytes()
    }
}

/// Remembers to whom the leadership was handed.
#[derive(Default)]
pub(crate) struct Members(Mutex<Vec<NodeId>>);

impl Members {
    pub(crate) fn handed_to(&self) -> Vec<NodeId> {
        self.0.lock().unwrap().clone()
    }
}

type Changed<'a> = BoxFuture<'a, Result<(), MembershipError>>;

fn done() -> Changed<'static> {
    Box::pin(std::future::ready(Ok(())))
}

impl Membership for Members {
    fn form(&self) -> Changed<'_> {
        done()
    }

    fn add_learner(&self, _: NodeId, _: String, _: String) -> Changed<'_> {
        done()
    }

    fn caught_up(&self, _: NodeId, _: u64) -> Changed<'_> {
        done()
    }

    fn set_voters(&self, _: std::collections::BTreeSet<NodeId>) -> Changed<'_> {
        done()
    }

    fn remove(&self, _: NodeId) -> Changed<'_> {
        done()
    }

    fn transfer_leadership(&self, to: NodeId) -> Changed<'_> {
        self.0.lock().unwrap().push(to);
        done()
    }

    fn progress(&self) -> Option<Vec<Progress>> {
        None
    }

    fn storage(&self) -> BoxFuture<'_, Result<StorageUse, std::io::Error>> {
        Box::pin(std::future::ready(Ok(StorageUse::default())))
    }
}

/// Nobody and nothing is there.
struct Nobody;

impl PeerChannels for Nobody {
    fn channel(&self, _: NodeId) -> BoxFuture<'_, Result<Channel, Status>> {
        Box::pin(std::future::ready(Err(Status::unavailable("nobody"))))
    }
}

impl Disk for Nobody {
    fn free_bytes(&self) -> u64 {
        0
    }
}
