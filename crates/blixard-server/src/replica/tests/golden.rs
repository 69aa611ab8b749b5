//! What `apply` makes of a log is as it was, for every version of the rules.
//!
//! When this fails after a change of `apply`, or of what is in the state, then servers with the change and servers
//! without it have different states: do not accept the new digests. Count `RULES.newest` up, ask `state.rules` where
//! the change is made, let these digests be as they are, and add the same log by the new rules (docs/ARCHITECTURE.md).
//! Before the first release nobody has a log to keep: until then a change that is meant renews the digests of rules 1.

use std::fmt::Write as _;

use blixard_core::command::{
    AdmitNode, Deploy, FenceCommand, MembershipCommand, PlacementCommand, RememberEvaluation, TakeOver,
    VmDefinition, VolumeCommand,
};
use blixard_core::lease::Profile;
use blixard_core::principal::Principal;
use blixard_core::state::{
    Admission, Authority, Desired, EvaluationKey, HealthStatus, NodeFacts, Preemption, RememberedVm, Role,
    Terms, VmReport,
};
use blixard_types::spec::{OnPartition, VmKind, Volume, VolumeKind};
use blixard_types::{
    ClosureRef, DaemonId, DeploymentId, Epoch, GenerationNumber, Incarnation, NodeId, Sha256Hash, Spec,
    StorePath,
};

use super::*;

fn store_path(name: &str) -> StorePath {
    format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{name}").parse().unwrap()
}

fn daemon(node: u64) -> DaemonId {
    DaemonId([u8::try_from(node).unwrap(); 16])
}

fn facts() -> NodeFacts {
    NodeFacts {
        cpus: 4,
        memory_mib: 4096,
        system: "x86_64-linux".to_owned(),
        kvm: true,
        kernel: "6.12".to_owned(),
        version: "0.1.0".to_owned(),
        disk_mib: Some(10_000),
        hypervisors: [].into(),
        nix_version: "2.26".to_owned(),
        terms: Terms::default(),
        shared: [].into(),
    }
}

fn deploy(vm: &str, runner: &str, change: impl FnOnce(&mut Spec)) -> Command {
    let mut spec = Spec::minimal(1, 512);
    change(&mut spec);
    let hash = Sha256Hash::of(runner.as_bytes());
    let closure = ClosureRef {
        root: store_path(runner),
        nar_hash: hash,
        closure_digest: hash,
        path_count: 3,
        nar_size: 9,
    };
    let (drv, system) = (store_path(&format!("{runner}.drv")), "x86_64-linux".to_owned());
    Command::Deploy(Deploy {
        deployment: DeploymentId([7; 16]),
        source: "git+https://example.org/machines".parse().unwrap(),
        take_over: TakeOver::Refuse,
        vms: vec![VmDefinition { vm: vm.parse().unwrap(), drv, system, closure, spec }],
        builder: None,
    })
}

fn place(vm: &str, node: u64, epoch: u64) -> Command {
    Command::Place { vm: vm.parse().unwrap(), node: NodeId(node), epoch: Epoch(epoch) }
}

fn report(node: u64, sequence: u64, vm: &str, epoch: u64, report: VmReport) -> Command {
    let (daemon, vm) = (daemon(node), vm.parse().unwrap());
    Command::Report { node: NodeId(node), daemon, sequence, vm, epoch: Epoch(epoch), report }
}

fn admission(node: u64, admission: Admission) -> Command {
    Command::Fence(FenceCommand::SetAdmission { node: NodeId(node), admission })
}

/// Two servers that are hosts, and one node that comes with a token and goes.
fn members() -> Vec<Command> {
    let mut log = vec![Command::InitCluster { cluster: ClusterId([1; 16]), rules: Rules(1) }];
    for node in 1..=2 {
        let (node, name, boot) = (NodeId(node), format!("n{node}").parse().unwrap(), "boot".to_owned());
        log.push(Command::RegisterNode { node, name, roles: [Role::Server, Role::Host].into() });
        log.push(Command::KnowRules { node, newest: Rules(1) });
        log.push(Command::OpenSession { node, daemon: daemon(node.0), boot, facts: facts() });
    }
    let held = Revision(6);
    log.extend([1, 2].map(|node| {
        Command::Fence(FenceCommand::FenceArmed { node: NodeId(node), daemon: daemon(node), held })
    }));
    let (token, key) = (Sha256Hash::of(b"token"), Sha256Hash::of(b"key"));
    let (roles, address) = ([Role::Builder].into(), None);
    let admit = AdmitNode { token, key, name: "n3".parse().unwrap(), roles, address };
    let membership = [
        MembershipCommand::AdoptAuthority { fingerprint: Sha256Hash::of(b"ca") },
        MembershipCommand::SetAddress { node: NodeId(1), address: "n1:7440".parse().unwrap() },
        MembershipCommand::CreateToken { token, roles: [Role::Builder].into(), ttl_ms: 60_000 },
        MembershipCommand::AdmitNode(admit.clone()),
        MembershipCommand::AdmitNode(admit),
        MembershipCommand::CertifyNode { node: NodeId(2), shown: None },
        MembershipCommand::RemoveNode { node: NodeId(3) },
        MembershipCommand::ForgetNode { node: NodeId(3) },
    ];
    log.extend(membership.map(Command::Membership));
    log
}

/// What vms go through: a service, one with a volume, one that is kept in a partition, a task.
fn lives() -> Vec<Command> {
    let (generation, vm) = (GenerationNumber(1), |vm: &str| vm.parse().unwrap());
    let failed = |reason: &str| VmReport::Failed { generation, reason: reason.to_owned() };
    let running = |health| VmReport::Running { generation, health };
    let (name, image) = ("data".to_owned(), "data.img".to_owned());
    let data = Volume { name, image, size_mib: 100, kind: VolumeKind::Local, fs_type: None, label: None };
    let keep = |spec: &mut Spec| spec.placement.on_partition = OnPartition::Keep;
    vec![
        deploy("web", "web-1", |_| {}),
        deploy("db", "db-1", |spec| spec.volumes = vec![data]),
        deploy("kept", "kept-1", keep),
        deploy("job", "job-1", |spec| spec.kind = VmKind::Task),
        place("web", 1, 1),
        place("db", 1, 1),
        place("kept", 2, 1),
        place("job", 2, 1),
        place("web", 2, 2),
        report(1, 1, "web", 1, VmReport::Starting { generation }),
        report(1, 2, "web", 1, running(HealthStatus::Pending)),
        report(1, 3, "web", 1, running(HealthStatus::Healthy)),
        report(1, 2, "web", 1, VmReport::Stopped),
        report(2, 1, "job", 1, failed("exit status 1")),
        place("job", 1, 2),
        report(1, 4, "job", 2, running(HealthStatus::Healthy)),
        report(1, 5, "job", 2, VmReport::Succeeded { generation }),
        report(1, 6, "web", 1, failed("panic")),
        place("web", 2, 2),
        deploy("web", "web-2", keep),
        deploy("web", "web-2", keep),
        Command::RestartVm { vm: vm("web") },
        report(2, 2, "web", 2, VmReport::Stopped),
        place("web", 1, 3),
        Command::SetDesired { vm: vm("db"), desired: Desired::Stopped },
        report(1, 7, "db", 1, VmReport::Stopped),
        Command::DeleteVm { vm: vm("db"), files: Files::Discard },
        report(1, 8, "db", 1, VmReport::FilesGone),
        Command::Volume(VolumeCommand::Forget { vm: vm("db"), volume: None }),
        Command::ForgetGenerations { keep: 1 },
        Command::RememberEvaluation(RememberEvaluation {
            key: EvaluationKey(Sha256Hash::of(b"key")),
            vms: vec![RememberedVm {
                attribute: "web".to_owned(),
                drv: store_path("web-1.drv"),
                out: store_path("web-1"),
                system: "x86_64-linux".to_owned(),
                spec: Spec::minimal(1, 512).digest().unwrap(),
            }],
        }),
    ]
}

fn unhealthy(generation: u64) -> VmReport {
    let health = HealthStatus::Unhealthy { reason: "no answer".to_owned() };
    VmReport::Running { generation: GenerationNumber(generation), health }
}

/// Drains, losses, changes of times, a recovery.
fn troubles() -> Vec<Command> {
    let authority = |incarnation| Authority { incarnation: Incarnation(incarnation), term: 1 };
    let (incarnation, node, times) = (Incarnation(2), NodeId(1), Profile::Relaxed.times());
    let (generation, health) = (GenerationNumber(1), HealthStatus::Healthy);
    let fence = [
        FenceCommand::SetLeaseTimes { times },
        FenceCommand::NodeLost { node, authority: authority(1) },
        FenceCommand::NodeBack { node, authority: authority(1) },
        FenceCommand::DeclareLost { node },
        FenceCommand::NodeLost { node, authority: authority(1) },
        FenceCommand::NodeBack { node, authority: authority(1) },
        FenceCommand::BeginIncarnation { incarnation, survivor: Some(NodeId(2)) },
        FenceCommand::EndQuarantine { authority: authority(2) },
    ];
    let moves = vec![("web".parse().unwrap(), Epoch(4))];
    let mut log = vec![
        admission(1, Admission::Draining { max_parallel: 1, deadline: Some(UnixMillis(90)) }),
        Command::MoveVm { vm: "web".parse().unwrap(), epoch: Epoch(3) },
        report(1, 9, "web", 3, VmReport::Stopped),
        place("web", 2, 4),
        admission(1, Admission::Open),
        Command::Placement(PlacementCommand::SetPreemption { preemption: Preemption::On }),
        Command::Placement(PlacementCommand::Rebalance { moves, max_parallel: 1 }),
        Command::MoveVm { vm: "web".parse().unwrap(), epoch: Epoch(4) },
        report(2, 3, "web", 4, VmReport::Stopped),
        place("web", 1, 5),
        Command::Placement(PlacementCommand::EndRebalance),
        deploy("other", "other-1", |_| {}),
        place("other", 1, 2),
        report(1, 10, "other", 2, VmReport::Running { generation, health }),
        deploy("other", "other-2", |_| {}),
        report(1, 11, "other", 2, unhealthy(2)),
        deploy("other", "other-3", |_| {}),
    ];
    log.extend(fence.map(Command::Fence));
    log
}

/// One line for each entry: what it came to, and how the state's digest begins after it.
fn made_of(log: Vec<Command>) -> String {
    let replica = Replica::default();
    let (mut lines, by) = (String::new(), Some(Principal::User { node: NodeId(1), uid: 1000 }));
    for (index, command) in (1_u8..).zip(log) {
        let (request, at) = (RequestId([index; 16]), UnixMillis(index.into()));
        let entry = encode_envelope(&Envelope { request, at, by, command }).unwrap();
        let outcome = replica.apply(position(index.into()), &entry).unwrap();
        let outcome = match decode_outcome(&outcome).unwrap() {
            Ok(outcome) => format!("{outcome:?}"),
            Err(refused) => format!("{refused:?}"),
        };
        let outcome = outcome.split(' ').next().unwrap_or_default();
        let digest = replica.digest_now().1.to_string();
        writeln!(lines, "{index} {} {outcome}", &digest[7..19]).unwrap();
    }
    lines
}

#[test]
fn a_log_by_rules_1_gives_what_it_always_gave() {
    let log = [members(), lives(), troubles()].concat();
    insta::assert_snapshot!(made_of(log), @r"
    1 0B9DC3WC7LCU Changed
    2 QqdFhol1seyS Changed
    3 ZOMm1SbCW35b Changed
    4 Xzv1Uy7pzBtw Changed
    5 hBW1M5k6HL5G Changed
    6 ChPk8C+bBl7M Changed
    7 aI6lPcDp2z0O Changed
    8 eTo76bIFINJ6 Changed
    9 uhptLus+HLOm Unchanged
    10 dx94wYqkb34h Changed
    11 KthmAfhT+f2m Changed
    12 2Oz2I+lFSARF Changed
    13 qit6WO9GXK9c Certified
    14 PsFwSrieM9iB Certified
    15 fpfxJWZQ+o0y Certified
    16 7BG/FIVMb6br Changed
    17 FFf2NaTQgI4B Changed
    18 uwOuSaq09o9G Deployed
    19 HRGF7TgY6bzZ Deployed
    20 orU+bD4tmSV9 Deployed
    21 PiezhYJsNxnc Deployed
    22 28QZPu/YLgPz Changed
    23 M1CNrSilQv3h Changed
    24 9505Hnsqr1wy Changed
    25 9kUGj+he5xkn Changed
    26 7JrxC5wIY71I StillPlaced
    27 Sli5Pwmfgf42 Changed
    28 Br9BdHekbI1q Changed
    29 CrMFisMF/E8B Changed
    30 xejac7UNGiPR Overtaken
    31 Fg+8YA/EWsWl Changed
    32 OLWhEsERFwKn Changed
    33 qiU52WLWPLZ9 Changed
    34 LZFuEqsuPwmh Changed
    35 7geHKn97y1ZC Changed
    36 9jHOxBXuUrou Changed
    37 ElWImKwQU34Q Deployed
    38 mXNwRzh4VB/y Deployed
    39 EdEVyyx7HaY9 Unchanged
    40 4O7wNiFFyUYV Changed
    41 hrihVuzcL/u0 Changed
    42 KyPh7iW0bQWu Changed
    43 AwEjHd295gJ8 Changed
    44 +5SP5oXXGHou Changed
    45 UzVSRu156uAP Changed
    46 SFQZALTUECZh UnknownVm
    47 5HOh3zznfYxy Changed
    48 GqEXRJwlx+wi Unchanged
    49 2P9iJbr0rI7x Changed
    50 YX/2rchnKfy0 Changed
    51 L7S23tpvbtNF Changed
    52 EF7yT0XMx658 Changed
    53 UtPsEW18Zf6g Changed
    54 gW7P3ox4FxuJ Changed
    55 2/5n06A1s9ES Changed
    56 vn9SFG0Epz8S Changed
    57 egnW1KEhpdWs Changed
    58 j7TkdqPGZ3yU Changed
    59 n5lXWkwXYTHT Unchanged
    60 E1SRPxX9BVGi Deployed
    61 QnbcWEsn7a+n Changed
    62 PEfDCi8MZGj/ Changed
    63 mRQ/UB/zqTo4 Deployed
    64 +S8EudQcW1ih Changed
    65 sb8GSupSleSN Deployed
    66 vLe0pOIHYdzU Changed
    67 20RgKjMmpe/b Changed
    68 cUHIhNGmbWQS Changed
    69 xbfvGfFxVHFb Changed
    70 TVMaARbpeWEu Changed
    71 fkZcTUElAaMF Changed
    72 JyZEfIZH5ps9 Changed
    73 usbeyLtwJM5d Changed
    ");
}
