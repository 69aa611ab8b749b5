//! People: a machine of its own that deploys, stops, starts and moves vms, at one server after another.
//!
//! Owns: what is asked for, and that in the end every vm is to run. A call that is not answered is made again with
//! its request id, at another server.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use blixard_pki::JoinToken;
use blixard_proto::v1::cluster_service_client::ClusterServiceClient;
use blixard_proto::v1::deploy_event::Event;
use blixard_proto::v1::deploy_service_client::DeployServiceClient;
use blixard_proto::v1::vm_service_client::VmServiceClient;
use blixard_proto::v1::{Admission, DeployRequest, Desired, FlakeSource};
use blixard_proto::v1::{CreateTokenRequest, InitRequest, RemoveNodeRequest};
use blixard_proto::v1::{DeleteVmRequest, RestartVmRequest, SetAdmissionRequest, SetDesiredRequest};
use blixard_testkit::fake::nix::{FakeFlake, FakeVm};
use blixard_types::{NodeId, VmId};
use bytes::Bytes;
use tonic::{Code, Status};

use crate::dice::Dice;
use crate::server::Channels;
use crate::shared::{Phase, Shared};

/// The machine they sit at, numbered after all nodes and watchers.
pub(crate) const PEOPLE: NodeId = NodeId(201);
/// How many vms there are.
pub(crate) const VMS: u64 = 4;
/// How long one server may take to answer.
const PATIENCE: Duration = Duration::from_millis(2500);
/// Pause between two looks at what has come of it.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How long a token is good for.
const TOKEN_MS: u64 = 3_600_000;
/// How long something is asked for while things go wrong.
const PERSISTENCE: Duration = Duration::from_secs(6);

/// How far they are; clones are the same.
#[derive(Debug, Clone, Default)]
pub(crate) struct Progress(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    begins: AtomicBool,
    deployed: AtomicBool,
    done: AtomicBool,
    granted: AtomicU64,
    token: Mutex<Option<JoinToken>>,
    last: Mutex<String>,
}

impl Progress {
    /// There is a cluster: from now on they ask for something.
    pub(crate) fn begin(&self) {
        self.0.begins.store(true, Ordering::Relaxed);
    }

    /// Whether the first vms are defined.
    pub(crate) fn has_deployed(&self) -> bool {
        self.0.deployed.load(Ordering::Relaxed)
    }

    /// Whether all is asked for that is to be in the end.
    pub(crate) fn is_done(&self) -> bool {
        self.0.done.load(Ordering::Relaxed)
    }

    /// With what a machine joins.
    pub(crate) fn token(&self) -> Option<JoinToken> {
        self.0.token.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// How many of their wishes were accepted.
    pub(crate) fn granted(&self) -> u64 {
        self.0.granted.load(Ordering::Relaxed)
    }

    /// What they were told last that was no consent.
    pub(crate) fn last_refusal(&self) -> String {
        self.0.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Something that somebody wants.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Wish {
    /// New versions of these.
    Deploy(Vec<u64>),
    Restart(u64),
    Stop(u64),
    Run(u64),
    Delete(u64),
    Drain(NodeId),
    Open(NodeId),
    /// A server for good.
    Remove(NodeId),
    /// A token for a machine.
    Token,
}

fn name(vm: u64) -> String {
    format!("vm-{vm}")
}

/// Where a vm answers.
pub(crate) fn address_of(vm: &VmId) -> String {
    format!("10.0.0.{}:80", vm.name().to_string().trim_start_matches("vm-"))
}

struct People {
    lot: u64,
    shared: Shared,
    channels: Channels,
    dice: Dice,
}

/// Wishes until its host ends.
pub(crate) async fn run(shared: Shared, me: NodeId) -> turmoil::Result {
    let (channels, dice) = (Channels::new(shared.net.clone(), me), shared.dice.fork());
    let people = People { lot: dice.number(), shared: shared.clone(), channels, dice };
    while !shared.people.0.begins.load(Ordering::Relaxed) {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    if shared.shape.spare > 0 {
        people.insist(&Wish::Token).await;
    }
    people.insist(&Wish::Deploy((1..=VMS).collect())).await;
    shared.people.0.deployed.store(true, Ordering::Relaxed);
    while shared.phase() < Phase::Healed {
        tokio::time::sleep(people.dice.millis(200, 2500)).await;
        if shared.phase() == Phase::Chaos
            && let Some(wish) = people.draw()
        {
            let outcome = tokio::time::timeout(PERSISTENCE, people.ask(&wish)).await;
            let outcome = match outcome {
                Ok(Ok(())) => "granted".to_owned(),
                Ok(Err(refusal)) => format!("refused: {}", refusal.message()),
                Err(_) => "not answered".to_owned(),
            };
            shared.event(&format!("people: {wish:?}: {outcome}"));
        }
    }
    people.renew().await;
    for node in shared.remaining() {
        people.insist(&Wish::Open(node)).await;
    }
    people.insist(&Wish::Deploy((1..=VMS).collect())).await;
    for vm in 1..=VMS {
        people.insist(&Wish::Run(vm)).await;
    }
    shared.event("people: every vm is to run");
    shared.people.0.done.store(true, Ordering::Relaxed);
    std::future::pending().await
}

impl People {
    fn draw(&self) -> Option<Wish> {
        let (vm, node) = (1 + self.dice.below(VMS), self.dice.pick(&self.shared.remaining())?);
        if let Some(goes) = self.goes().filter(|_| self.shared.chronicle.joined() == self.shared.shape.nodes)
            && self.dice.chance(300)
        {
            return Some(if self.dice.chance(500) { Wish::Drain(goes) } else { Wish::Remove(goes) });
        }
        Some(match self.dice.below(100) {
            0..=29 => Wish::Deploy((1..=VMS).filter(|_| self.dice.chance(500)).collect()),
            30..=44 => Wish::Restart(vm),
            45..=54 => Wish::Stop(vm),
            55..=69 => Wish::Run(vm),
            70..=76 => Wish::Delete(vm),
            77..=84 => Wish::Drain(node),
            _ => Wish::Open(node),
        })
    }

    /// Once the machine that joins is in, another one goes.
    async fn renew(&self) {
        let Some(goes) = self.goes() else { return };
        while self.shared.chronicle.joined() < self.shared.shape.nodes {
            tokio::time::sleep(LOOK_EVERY).await;
        }
        // It may have been asked for before, and be done at any time.
        while !self.shared.chronicle.removed().contains(&goes) {
            for wish in [Wish::Drain(goes), Wish::Remove(goes)] {
                if let Err(refusal) = self.ask(&wish).await {
                    self.heard(&wish, refusal.message());
                }
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// The server that is to go, if one is.
    fn goes(&self) -> Option<NodeId> {
        let servers = self.shared.founders();
        let which = usize::try_from(self.lot % servers.len().max(1) as u64).ok()?;
        servers.get(which).copied().filter(|_| self.shared.shape.spare > 0)
    }

    /// Until it is granted.
    async fn insist(&self, wish: &Wish) {
        while let Err(refusal) = self.ask(wish).await {
            self.heard(wish, refusal.message());
            tokio::time::sleep(self.dice.millis(50, 300)).await;
        }
    }

    fn heard(&self, wish: &Wish, what: &str) {
        let mut last = self.shared.people.0.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = format!("{wish:?}: {what}");
    }

    /// Until it is answered.
    async fn ask(&self, wish: &Wish) -> Result<(), Status> {
        let request = self.request_id();
        let source = match wish {
            Wish::Deploy(vms) => Some(self.flake(vms)),
            _ => None,
        };
        loop {
            let Some(server) = self.dice.pick(&self.shared.remaining()) else { return Ok(()) };
            let asked = tokio::time::timeout(PATIENCE, self.call(server, wish, &request, source.as_ref()));
            match asked.await {
                Ok(Ok(())) => {
                    self.shared.people.0.granted.fetch_add(1, Ordering::Relaxed);
                    return Ok(());
                }
                Ok(Err(status)) if is_final(&status) => return Err(status),
                Ok(Err(status)) => self.heard(wish, &format!("server {server}: {status}")),
                Err(_) => self.heard(wish, &format!("server {server} does not answer")),
            }
            tokio::time::sleep(self.dice.millis(20, 200)).await;
        }
    }

    fn request_id(&self) -> Bytes {
        let halves = [self.dice.number(), self.dice.number()];
        halves.iter().flat_map(|half| half.to_be_bytes()).collect()
    }

    /// A flake that is in every server's store, as if it had been uploaded there.
    fn flake(&self, vms: &[u64]) -> FlakeSource {
        let version = self.shared.fresh_value();
        let flake = vms.iter().map(|vm| {
            let spec = serde_json::json!({
                "schema": 1,
                "resources": { "vcpus": 1, "memoryMib": 512 },
                "health": {
                    "activeForMs": 200,
                    "checks": [{ "kind": "tcp", "address": format!("10.0.0.{vm}:80") }],
                },
            });
            FakeVm::version(&name(*vm), &version.to_string(), spec)
        });
        let flake = FakeFlake::Vms(flake.collect());
        let mut source =
            FlakeSource { id: "git+https://example.org/machines".to_owned(), ..FlakeSource::default() };
        for ground in self.shared.grounds.values() {
            let locked = ground.nix().add_flake(&format!("source-{version}"), flake.clone());
            (source.path, source.nar_hash) = (locked.path.to_string(), locked.nar_hash.to_string());
        }
        source
    }

    async fn call(
        &self,
        server: NodeId,
        wish: &Wish,
        request: &Bytes,
        source: Option<&FlakeSource>,
    ) -> Result<(), Status> {
        let (channel, request_id) = (self.channels.to(server), request.clone());
        let mut vms = VmServiceClient::new(channel.clone());
        let mut cluster = ClusterServiceClient::new(channel.clone());
        let desired = |vm: &u64, desired: Desired| SetDesiredRequest {
            request_id: request.clone(),
            vm: name(*vm),
            desired: desired.into(),
            ..SetDesiredRequest::default()
        };
        let admission = |node: &NodeId, admission: Admission, max_parallel| SetAdmissionRequest {
            request_id: request.clone(),
            node: node.to_string(),
            admission: admission.into(),
            max_parallel,
            ..SetAdmissionRequest::default()
        };
        match wish {
            Wish::Deploy(_) => return self.deploy(server, request_id, source.cloned()).await,
            Wish::Restart(vm) => {
                let asked = RestartVmRequest { request_id, vm: name(*vm), ..RestartVmRequest::default() };
                drop(vms.restart(asked).await?);
            }
            Wish::Stop(vm) => drop(vms.set_desired(desired(vm, Desired::Stopped)).await?),
            Wish::Run(vm) => drop(vms.set_desired(desired(vm, Desired::Running)).await?),
            Wish::Delete(vm) => {
                let asked = DeleteVmRequest { request_id, vm: name(*vm), ..DeleteVmRequest::default() };
                drop(vms.delete(asked).await?);
            }
            Wish::Remove(node) => {
                let asked = RemoveNodeRequest { request_id, node: node.to_string(), wait_ms: 0 };
                drop(cluster.remove_node(asked).await?);
            }
            Wish::Token => return self.make_token(request_id).await,
            Wish::Drain(node) => drop(cluster.set_admission(admission(node, Admission::Draining, 2)).await?),
            Wish::Open(node) => drop(cluster.set_admission(admission(node, Admission::Open, 0)).await?),
        }
        Ok(())
    }

    /// At the first server itself, which has the authority's key from then on: nobody else lets servers in.
    async fn make_token(&self, request_id: Bytes) -> Result<(), Status> {
        let there = Channels::new(self.shared.net.clone(), NodeId(1));
        let mut first = ClusterServiceClient::new(there.to(NodeId(1)));
        first.init(InitRequest {}).await?;
        let asked = CreateTokenRequest { request_id, ttl_ms: TOKEN_MS, ..CreateTokenRequest::default() };
        let token = first.create_token(asked).await?.into_inner().token;
        let token = token.parse().map_err(|error| Status::internal(format!("{error}")))?;
        *self.shared.people.0.token.lock().unwrap_or_else(PoisonError::into_inner) = Some(token);
        Ok(())
    }

    /// Until it is accepted; the deployment then goes on by itself.
    async fn deploy(
        &self,
        server: NodeId,
        request_id: Bytes,
        source: Option<FlakeSource>,
    ) -> Result<(), Status> {
        let mut client = DeployServiceClient::new(self.channels.to(server));
        let asked = DeployRequest { request_id, source, ..DeployRequest::default() };
        let mut events = client.deploy(asked).await?.into_inner();
        while let Some(event) = events.message().await? {
            if matches!(event.event, Some(Event::Accepted(_))) {
                return Ok(());
            }
        }
        Err(Status::unavailable("it has ended before it was accepted"))
    }
}

/// Whether asking again is of no use.
fn is_final(status: &Status) -> bool {
    let codes = [Code::InvalidArgument, Code::NotFound, Code::AlreadyExists, Code::FailedPrecondition];
    codes.contains(&status.code())
}
