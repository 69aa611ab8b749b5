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
    1 LTO9h/s/DSgD Changed
    2 VGoef2Iifai1 Changed
    3 U4TSy4w18Z/c Changed
    4 MO8NC7H/MXGf Changed
    5 4uNlK2CQEzwP Changed
    6 SpgYDBMsLVbi Changed
    7 usHt/kICAqiq Changed
    8 YLJvv4z3Emfg Changed
    9 o/rqfw2SgznK Unchanged
    10 LOxdyFpLaGWk Changed
    11 SdhvnRSfxJ82 Changed
    12 NXshy1piwmbC Changed
    13 dRQ+wkOjq+EY Certified
    14 5gAskGPucm17 Certified
    15 WahUDyDRubw+ Certified
    16 i5segXreOMjX Changed
    17 WwLx5PNYD11q Changed
    18 ubxXO6NMUSVp Deployed
    19 T6DNwqsdUOGt Deployed
    20 7gVreGCXHcJp Deployed
    21 ly+6fonjHIho Deployed
    22 giT5Jz4iFV2w Changed
    23 eHDnyWBm5oYX Changed
    24 wANte/RTsnAJ Changed
    25 k5fcwrB1f83n Changed
    26 UUKEl/mnfsui StillPlaced
    27 7y+dsjuS0cvk Changed
    28 byhe7SgUnI8e Changed
    29 6f61VirlP6K6 Changed
    30 iyp53+6l4QDF Overtaken
    31 d15hDuHqx06q Changed
    32 ERHXjyf612yA Changed
    33 IvPNGpWG3Scq Changed
    34 /a6R0LEr3Pkk Changed
    35 Y/6k6Kt1gcn7 Changed
    36 BIDhPMIopFpw Changed
    37 2effFR+Du2ec Deployed
    38 9K+KpUgavZZU Deployed
    39 k1NoEH3ywkhA Unchanged
    40 EeNHSxgBrDGg Changed
    41 ECEnEBzG3Bcw Changed
    42 BWUsvvdhe7sR Changed
    43 xmbmeH6ztaHP Changed
    44 zItHZ/JRw0Kb Changed
    45 1JfqRDdEfn8x Changed
    46 1lF25OOxffMN UnknownVm
    47 fHYe+A+Fw+pU Changed
    48 mngshn/cFbEp Unchanged
    49 pu2dl7d6qmqn Changed
    50 qh7YUmhTn2v3 Changed
    51 3eRYtAOoqQx+ Changed
    52 g9WCDfwsBIE0 Changed
    53 otcKA2bJaQ5q Changed
    54 PF05yO8ZEdcS Changed
    55 3igwtMXQ66Vs Changed
    56 Vh1FCywahJNT Changed
    57 3WZXO6bq1GPZ Changed
    58 iZXwh6+5aIJW Changed
    59 G9GNuYMxTM9c Unchanged
    60 d8GB+D6C0PPS Deployed
    61 6cxtFfpfCybO Changed
    62 qlryEMRr2SPQ Changed
    63 klKbQAx+OaVT Deployed
    64 gdYomGpvSjta Changed
    65 B/lprE902umK Deployed
    66 mboilN/rLFNR Changed
    67 s/TI2sCMtOGh Changed
    68 9Kj1535WQJOr Changed
    69 x6IXFBgAPM/E Changed
    70 V52guxS3AePM Changed
    71 3qBuuZwiknBT Changed
    72 EoiZQbl4A7g6 Changed
    73 oz+9yEtdof6f Changed
    ");
}
