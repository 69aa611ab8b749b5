//! The host agent of a simulated node, composed as `blixardd` does it, on the fakes of its machine.

use std::sync::Arc;

use blixard_core::ports::BoxFuture;
use blixard_core::ports::consensus::SharedConsensus;
use blixard_core::ports::health::{CheckFailure, HealthProbe};
use blixard_core::state::{NodeFacts, Terms};
use blixard_host::{AccessError, Host, Offload, ServerAccess};
use blixard_proto::Hello;
use blixard_proto::v1::host_service_client::HostServiceClient;
use blixard_server::Server;
use blixard_testkit::fake::journal::FakeJournal;
use blixard_testkit::fake::wakefulness::FakeWakefulness;
use blixard_types::DaemonId;
use blixard_types::spec::Check;
use tonic::transport::Channel;

use crate::dice::Dice;
use crate::ground::{Closures, Ground, Holder, Systemd};
use crate::people::address_of;
use crate::server::Channels;
use crate::shared::Shared;

/// What a host has: every vm fits on each of them, so that one may be the last.
const CPUS: u32 = 8;
const MEMORY_MIB: u64 = 16 << 10;

/// Makes it.
pub(crate) fn compose(shared: &Shared, server: &Server, ground: &Ground) -> Host {
    let node = server.node;
    let (net, grounds) = (shared.net.clone(), Arc::clone(&shared.grounds));
    let channels = Channels::new(net.clone(), node);
    Host {
        hello: Hello { node, daemon: DaemonId(server.entropy.id()), boot: ground.boot_id(), facts: facts() },
        layout: ground.layout(),
        servers: Arc::new(Leader { log: Arc::clone(&server.log), channels }),
        units: Arc::new(Systemd(ground.clone())),
        holder: Arc::new(Holder(ground.clone())),
        wakefulness: Arc::new(FakeWakefulness::default()),
        networks: Arc::new(ground.networks()),
        volumes: Arc::new(ground.volumes()),
        store: Arc::new(ground.nix()),
        closures: Arc::new(Closures { net, node, grounds }),
        journal: Arc::new(FakeJournal::new()),
        probe: Arc::new(Guests { ground: ground.clone(), dice: shared.dice.fork() }),
        clock: ground.clock(),
        offload: Offload::Inline,
    }
}

fn facts() -> NodeFacts {
    NodeFacts {
        cpus: CPUS,
        memory_mib: MEMORY_MIB,
        system: "x86_64-linux".to_owned(),
        kvm: true,
        kernel: "simulated".to_owned(),
        version: "simulated".to_owned(),
        disk_mib: None,
        hypervisors: [].into(),
        nix_version: String::new(),
        terms: Terms::default(),
        shared: [].into(),
    }
}

/// The way to the leader, whoever that is, this node included.
struct Leader {
    log: SharedConsensus,
    channels: Channels,
}

impl ServerAccess for Leader {
    fn connect(&self) -> BoxFuture<'_, Result<HostServiceClient<Channel>, AccessError>> {
        let leader = self.log.standing().leader;
        let channel = leader.map(|leader| HostServiceClient::new(self.channels.to(leader)));
        let unknown = || AccessError { reason: "no leader is known".to_owned() };
        Box::pin(std::future::ready(channel.ok_or_else(unknown)))
    }
}

/// The guests of a machine: one that runs mostly answers.
struct Guests {
    ground: Ground,
    dice: Dice,
}

impl HealthProbe for Guests {
    fn check(&self, check: Check) -> BoxFuture<'_, Result<(), CheckFailure>> {
        Box::pin(async move {
            tokio::time::sleep(self.dice.millis(1, 200)).await;
            let (Check::Tcp { address } | Check::Http { address, .. }) = &check;
            let runs = self.ground.running().iter().any(|run| address_of(&run.vm) == *address);
            let reason = if runs && !self.dice.chance(100) { return Ok(()) } else { "no answer".to_owned() };
            Err(CheckFailure { check: format!("tcp {address}"), reason })
        })
    }
}
