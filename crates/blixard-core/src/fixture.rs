//! Builders shared by the tests of this crate: small words for vms, hosts and commands.

use blixard_types::spec::{Volume, VolumeKind};
use blixard_types::{
    ClosureRef, ClusterId, DaemonId, DeploymentId, Epoch, GenerationNumber, Incarnation, LogPosition,
};
use blixard_types::{Manifest, NodeId, PathRecord, RequestId, Sha256Hash, Spec, StorePath, VmId};

use crate::apply::Rejection;
use crate::command::{
    Command, Deploy, Envelope, FenceCommand, Outcome, TakeOver, VmDefinition, VolumeCommand,
};
use crate::ports::UnixMillis;
use crate::principal::Principal;
use crate::rules::RULES;
use crate::state::{Authority, ClusterState, Desired, Files, HealthStatus, NodeFacts, Role, Terms, VmReport};

/// The platform of every host and vm that says nothing else.
pub(crate) const SYSTEM: &str = "x86_64-linux";
/// The source of every vm that says nothing else.
pub(crate) const SOURCE: &str = "git+https://example.org/machines";

pub(crate) fn vm(text: &str) -> VmId {
    text.parse().unwrap()
}

pub(crate) fn store_path(name: &str) -> StorePath {
    format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{name}").parse().unwrap()
}

/// A closure of one path, different for each name.
pub(crate) fn closure(name: &str) -> ClosureRef {
    let path = store_path(name);
    let record = PathRecord {
        path: path.clone(),
        nar_hash: Sha256Hash::of(name.as_bytes()),
        nar_size: 1,
        references: [].into(),
    };
    Manifest::new(path, vec![record]).unwrap().closure_ref().unwrap()
}

/// A spec that takes exactly this much memory of a host, and one vcpu.
pub(crate) fn spec(memory_mib: u64) -> Spec {
    let mut spec = Spec::minimal(1, memory_mib);
    spec.resources.overhead_mib = 0;
    spec
}

pub(crate) fn facts(memory_mib: u64) -> NodeFacts {
    NodeFacts {
        cpus: 4,
        memory_mib,
        system: SYSTEM.to_owned(),
        kvm: true,
        kernel: "6.12".to_owned(),
        version: "0.1.0".to_owned(),
        disk_mib: None,
        hypervisors: [].into(),
        nix_version: String::new(),
        terms: Terms::default(),
        shared: [].into(),
    }
}

/// The daemon of a node that was started as its `start`-th.
pub(crate) fn daemon(node: u64, start: u64) -> DaemonId {
    DaemonId((u128::from(node) << 64 | u128::from(start)).to_be_bytes())
}

pub(crate) fn definition(name: &str, runner: &str, spec: Spec) -> VmDefinition {
    VmDefinition {
        vm: vm(name),
        drv: store_path(&format!("{runner}.drv")),
        system: SYSTEM.to_owned(),
        closure: closure(runner),
        spec,
    }
}

pub(crate) fn deploy(vms: Vec<VmDefinition>) -> Command {
    Command::Deploy(Deploy {
        deployment: DeploymentId([7; 16]),
        source: SOURCE.parse().unwrap(),
        take_over: TakeOver::Refuse,
        vms,
        builder: None,
    })
}

pub(crate) fn place(name: &str, node: u64, epoch: u64) -> Command {
    Command::Place { vm: vm(name), node: NodeId(node), epoch: Epoch(epoch) }
}

/// A report of the first daemon of a node.
pub(crate) fn report(node: u64, name: &str, epoch: u64, report: VmReport) -> Command {
    report_of(node, daemon(node, 1), name, epoch, report)
}

pub(crate) fn report_of(node: u64, daemon: DaemonId, name: &str, epoch: u64, report: VmReport) -> Command {
    Command::Report {
        node: NodeId(node),
        daemon,
        sequence: next(),
        vm: vm(name),
        epoch: Epoch(epoch),
        report,
    }
}

/// Counts the reports of a test, as a daemon does its own.
fn next() -> u64 {
    thread_local!(static SENT: std::cell::Cell<u64> = const { std::cell::Cell::new(0) });
    SENT.with(|sent| {
        sent.set(sent.get() + 1);
        sent.get()
    })
}

pub(crate) fn starting(generation: u64) -> VmReport {
    VmReport::Starting { generation: GenerationNumber(generation) }
}

pub(crate) fn running(generation: u64, health: HealthStatus) -> VmReport {
    VmReport::Running { generation: GenerationNumber(generation), health }
}

pub(crate) fn failed(generation: u64, reason: &str) -> VmReport {
    VmReport::Failed { generation: GenerationNumber(generation), reason: reason.to_owned() }
}

pub(crate) fn desired(name: &str, desired: Desired) -> Command {
    Command::SetDesired { vm: vm(name), desired }
}

pub(crate) fn delete(name: &str) -> Command {
    Command::DeleteVm { vm: vm(name), files: Files::Keep }
}

pub(crate) fn discard(name: &str) -> Command {
    Command::DeleteVm { vm: vm(name), files: Files::Discard }
}

pub(crate) fn volume(name: &str, size_mib: u64, kind: VolumeKind) -> Volume {
    let image = format!("{name}.img");
    Volume { name: name.to_owned(), image, size_mib, kind, fs_type: None, label: None }
}

pub(crate) fn delete_volume(volume: &str) -> Command {
    Command::Volume(VolumeCommand::Delete { volume: volume.parse().unwrap(), life: None })
}

pub(crate) fn forget_volumes(name: &str, volume: Option<&str>) -> Command {
    let volume = volume.map(|name| name.parse().unwrap());
    Command::Volume(VolumeCommand::Forget { vm: vm(name), volume })
}

/// The first daemon of a node says that it has removed a volume.
pub(crate) fn volume_gone(node: u64, name: &str, volume: &str, life: u64) -> Command {
    report(node, name, life, VmReport::VolumeGone { volume: volume.parse().unwrap() })
}

const AUTHORITY: Authority = Authority { incarnation: Incarnation(1), term: 1 };

/// A host is given up.
pub(crate) fn lost(node: u64) -> Command {
    Command::Fence(FenceCommand::NodeLost { node: NodeId(node), authority: AUTHORITY })
}

/// A host that was given up is back.
pub(crate) fn back(node: u64) -> Command {
    Command::Fence(FenceCommand::NodeBack { node: NodeId(node), authority: AUTHORITY })
}

pub(crate) fn restart(name: &str) -> Command {
    Command::RestartVm { vm: vm(name) }
}

pub(crate) fn register(node: u64, roles: &[Role]) -> Command {
    Command::RegisterNode {
        node: NodeId(node),
        name: format!("n{node}").parse().unwrap(),
        roles: roles.iter().copied().collect(),
    }
}

pub(crate) fn session(node: u64, start: u64, facts: NodeFacts) -> Command {
    Command::OpenSession { node: NodeId(node), daemon: daemon(node, start), boot: "boot".to_owned(), facts }
}

/// A state, and the log that makes it: every command gets the next position and a request id of its own.
#[derive(Debug, Clone, Default)]
pub(crate) struct Cluster {
    pub(crate) state: ClusterState,
    pub(crate) index: u64,
    /// The time stamped on the next commands.
    pub(crate) at: UnixMillis,
    /// Who asks for the next commands.
    pub(crate) by: Option<Principal>,
}

impl Cluster {
    /// An initialised cluster with these hosts, each with its memory and its first daemon.
    pub(crate) fn with_hosts(hosts: &[(u64, u64)]) -> Self {
        let mut cluster = Self::default();
        cluster.ok(Command::InitCluster { cluster: ClusterId([1; 16]), rules: RULES.newest });
        for &(node, memory_mib) in hosts {
            cluster.ok(register(node, &[Role::Host]));
            cluster.ok(session(node, 1, facts(memory_mib)));
        }
        cluster.arm();
        cluster
    }

    /// Every host says that it holds a lease, if leases are required.
    pub(crate) fn arm(&mut self) {
        let Some(held) = self.state.fencing.since else { return };
        let open: Vec<_> = self.state.unfenced().collect();
        for node in open {
            let Some(daemon) = self.state.nodes[&node].session.as_ref().map(|open| open.daemon) else {
                continue;
            };
            self.ok(Command::Fence(FenceCommand::FenceArmed { node, daemon, held }));
        }
    }

    pub(crate) fn apply(&mut self, command: Command) -> Result<Outcome, Rejection> {
        let request = RequestId(u128::from(self.index + 1).to_be_bytes());
        self.apply_as(request, command)
    }

    pub(crate) fn apply_as(&mut self, request: RequestId, command: Command) -> Result<Outcome, Rejection> {
        self.index += 1;
        let position = LogPosition { term: 1, index: self.index };
        let envelope = Envelope { request, at: self.at, by: self.by, command };
        self.state.apply(&envelope, position)
    }

    /// Applies a command that must be accepted.
    #[track_caller]
    pub(crate) fn ok(&mut self, command: Command) -> Outcome {
        self.apply(command).unwrap_or_else(|refused| panic!("refused: {refused}"))
    }

    /// Deploys one vm with this runner and spec.
    #[track_caller]
    pub(crate) fn deploy(&mut self, name: &str, runner: &str, spec: Spec) -> Outcome {
        self.ok(deploy(vec![definition(name, runner, spec)]))
    }

    #[track_caller]
    pub(crate) fn vm(&self, name: &str) -> &crate::state::Vm {
        &self.state.vms[&vm(name)]
    }
}
