//! Every command there and back; what is no command is refused and never a panic.

use blixard_core::command::{AdmitNode, FenceCommand, MembershipCommand, PlacementCommand, VolumeCommand};
use blixard_core::state::{Desired, Files, HealthStatus, NodeFacts, Preemption, Role, SharedStorage};
use blixard_core::state::{Terms, VmReport};
use blixard_types::spec::{Check, Hypervisor, OnPartition};
use blixard_types::{CertificateSerial, ClosureRef, GenerationNumber, Sha256Hash, Spec, StorePath, VmId};

use super::*;

fn vm() -> VmId {
    "shop/web-1".parse().unwrap()
}

fn store_path(name: &str) -> StorePath {
    format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-{name}").parse().unwrap()
}

fn definition(vm: &str, name: &str, spec: Spec) -> VmDefinition {
    let (nar_hash, closure_digest) = (Sha256Hash::of(b"nar"), Sha256Hash::of(b"closure"));
    let (path_count, nar_size) = (u64::MAX, u64::MAX);
    VmDefinition {
        vm: vm.parse().unwrap(),
        drv: store_path(&format!("{}.drv", &name[..name.len().min(207)])),
        system: "x86_64-linux".to_owned(),
        closure: ClosureRef { root: store_path(name), nar_hash, closure_digest, path_count, nar_size },
        spec,
    }
}

fn rich_spec() -> Spec {
    let mut spec = Spec::minimal(4, 2048);
    spec.tenant = "shop".parse().unwrap();
    spec.notify = true;
    spec.placement.on_partition = OnPartition::Keep;
    spec.placement.priority = -7;
    spec.health.checks =
        vec![Check::Http { address: "[fd00::2]:80".to_owned(), path: "/healthz?a=\"b\"".to_owned() }];
    spec.labels.insert("ä/\u{0}".to_owned(), "\u{1f980}".to_owned());
    spec
}

fn deploy(take_over: TakeOver, vms: Vec<VmDefinition>) -> Command {
    let source = "git+https://example.org/machines?dir=ä".parse().unwrap();
    let builder = Some(BuilderSignature { node: NodeId(2), signature: [9; 64] });
    Command::Deploy(Deploy { deployment: DeploymentId([3; 16]), source, take_over, vms, builder })
}

fn remember(attributes: Vec<&str>) -> Command {
    let vm = |attribute: &str| RememberedVm {
        attribute: attribute.to_owned(),
        drv: store_path("runner.drv"),
        out: store_path("runner"),
        system: "x86_64-linux".to_owned(),
        spec: Sha256Hash::of(attribute.as_bytes()),
    };
    let key = EvaluationKey(Sha256Hash::of(b"key"));
    Command::RememberEvaluation(RememberEvaluation { key, vms: attributes.into_iter().map(vm).collect() })
}

fn reports() -> Vec<VmReport> {
    let generation = GenerationNumber(3);
    let health = |health| VmReport::Running { generation, health };
    let reason = || "no answer: \u{1f980}\n".to_owned();
    vec![
        VmReport::Starting { generation },
        health(HealthStatus::Pending),
        health(HealthStatus::Healthy),
        health(HealthStatus::Unhealthy { reason: reason() }),
        health(HealthStatus::Unhealthy { reason: String::new() }),
        VmReport::Stopped,
        VmReport::FilesGone,
        VmReport::VolumeGone { volume: "data".parse().unwrap() },
        VmReport::Failed { generation: GenerationNumber(0), reason: reason() },
        VmReport::Hindered { generation, reason: reason() },
        VmReport::Preparing { generation, trouble: None },
        VmReport::Preparing { generation, trouble: Some(reason()) },
    ]
}

fn membership() -> Vec<Command> {
    let node = NodeId(u64::MAX);
    let hash = |text: &str| Sha256Hash::of(text.as_bytes());
    let admit = |roles: &[Role], address: Option<&str>| {
        MembershipCommand::AdmitNode(AdmitNode {
            token: hash("token"),
            key: hash("key"),
            name: "beta".parse().unwrap(),
            roles: roles.iter().copied().collect(),
            address: address.map(|address| address.parse().unwrap()),
        })
    };
    let all = vec![
        MembershipCommand::AdoptAuthority { fingerprint: hash("ca") },
        MembershipCommand::SetAddress { node, address: "[fd00::1]:1".parse().unwrap() },
        MembershipCommand::CreateToken { token: hash("token"), roles: [Role::Builder].into(), ttl_ms: 0 },
        admit(&[Role::Server, Role::Host], Some("n2:7440")),
        admit(&[], None),
        MembershipCommand::CertifyNode { node, shown: None },
        MembershipCommand::CertifyNode { node, shown: Some(CertificateSerial(u64::MAX)) },
        MembershipCommand::RemoveNode { node: NodeId(0) },
        MembershipCommand::ForgetNode { node },
    ];
    let (revision, digest) = (Revision(u64::MAX), hash("state"));
    let audits = [Rules::UNNUMBERED, Rules(u32::MAX)].map(|rules| Command::Audit { revision, digest, rules });
    let know = Command::KnowRules { node, newest: Rules(2) };
    all.into_iter().map(Command::Membership).chain(audits).chain([know]).collect()
}

/// Every command, each with every variant of what is in it, and with zeros, which protobuf leaves out.
fn commands() -> Vec<Command> {
    let facts = |cpus, kvm| NodeFacts {
        cpus,
        memory_mib: u64::MAX,
        system: "aarch64-linux".to_owned(),
        kvm,
        kernel: "6.12".to_owned(),
        version: String::new(),
        disk_mib: kvm.then_some(7),
        hypervisors: [Hypervisor::Qemu, Hypervisor::CloudHypervisor].into(),
        nix_version: "2.26".to_owned(),
        terms: Terms {
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            cpu_overcommit: 2,
            tenants: ["shop".parse().unwrap()].into(),
            hypervisors: [Hypervisor::Qemu].into(),
        },
        shared: [
            ("media".parse().unwrap(), SharedStorage::Fenced),
            ("more".parse().unwrap(), SharedStorage::Unfenced),
        ]
        .into(),
    };
    let (node, daemon, vm) = (NodeId(2), DaemonId([5; 16]), vm());
    let register = |roles: &[Role]| Command::RegisterNode {
        node,
        name: "alpha".parse().unwrap(),
        roles: roles.iter().copied().collect(),
    };
    let session = |boot: &str, facts| Command::OpenSession { node, daemon, boot: boot.to_owned(), facts };
    let report = |report| {
        let (sequence, epoch) = (u64::MAX, Epoch(u64::MAX));
        Command::Report { node, daemon, sequence, vm: vm.clone(), epoch, report }
    };
    let mut all = vec![
        Command::InitCluster { cluster: ClusterId([0; 16]), rules: Rules::UNNUMBERED },
        Command::InitCluster { cluster: ClusterId([7; 16]), rules: Rules(3) },
        register(&[]),
        Command::SetNodeKey { node, key: NodeKey([8; 32]) },
        Command::ForgetGenerations { keep: 3 },
        register(&[Role::Server]),
        register(&[Role::Server, Role::Host, Role::Builder]),
        session("boot", facts(u32::MAX, true)),
        session("", facts(0, false)),
        deploy(TakeOver::Refuse, vec![]),
        deploy(TakeOver::Allow, vec![definition("shop/web", "runner", rich_spec())]),
        deploy(
            TakeOver::Refuse,
            vec![
                definition("b", "runner-b", Spec::minimal(1, 16)),
                definition("a", "runner-a", Spec::minimal(1, 16)),
            ],
        ),
        Command::Place { vm: vm.clone(), node: NodeId(0), epoch: Epoch(0) },
        Command::Place { vm: vm.clone(), node, epoch: Epoch(1) },
        Command::SetDesired { vm: vm.clone(), desired: Desired::Running },
        Command::SetDesired { vm: vm.clone(), desired: Desired::Stopped },
        Command::DeleteVm { vm: vm.clone(), files: Files::Keep },
        Command::DeleteVm { vm: vm.clone(), files: Files::Discard },
        remember(vec![]),
        remember(vec!["web", "ä b"]),
        Command::RestartVm { vm: vm.clone() },
        Command::MoveVm { vm: vm.clone(), epoch: Epoch(4) },
    ];
    all.extend(reports().into_iter().map(report));
    all.push(Command::Fence(FenceCommand::DeclareLost { node: NodeId(2) }));
    let volume = |volume| Command::Volume(VolumeCommand::Forget { vm: vm.clone(), volume });
    all.extend([volume(None), volume(Some("data".parse().unwrap()))]);
    for life in [None, Some(Epoch(7))] {
        let volume = "shop/db:data".parse().unwrap();
        all.push(Command::Volume(VolumeCommand::Delete { volume, life }));
    }
    let moves = vec![(vm.clone(), Epoch(3)), ("b".parse().unwrap(), Epoch(9))];
    all.extend(
        [
            PlacementCommand::Rebalance { moves, max_parallel: 2 },
            PlacementCommand::Rebalance { moves: vec![], max_parallel: 0 },
            PlacementCommand::EndRebalance,
            PlacementCommand::SetPreemption { preemption: Preemption::On },
            PlacementCommand::SetPreemption { preemption: Preemption::Off },
            PlacementCommand::Preempt { vm: vm.clone(), epoch: Epoch(4), by: "b".parse().unwrap() },
        ]
        .map(Command::Placement),
    );
    all.extend(membership());
    all
}

fn envelope(command: Command) -> Envelope {
    Envelope { request: RequestId([9; 16]), at: UnixMillis(1_700_000_000_000), by: None, command }
}

/// The kind of a command. Exhaustive, so that a new one cannot be forgotten in the table above.
fn kind(command: &Command) -> usize {
    match command {
        Command::SetNodeKey { .. } => 160,
        Command::ForgetGenerations { .. } => 161,
        Command::InitCluster { .. } => 0,
        Command::RegisterNode { .. } => 1,
        Command::OpenSession { .. } => 2,
        Command::Deploy(_) => 3,
        Command::Place { .. } => 4,
        Command::Report { .. } => 5,
        Command::SetDesired { .. } => 6,
        Command::DeleteVm { .. } => 7,
        Command::RememberEvaluation(_) => 8,
        Command::RestartVm { .. } => 9,
        Command::Fence(_) => 18,
        Command::MoveVm { .. } => 19,
        Command::Volume(_) => 240,
        Command::Placement(_) => 260,
        Command::Audit { .. } => 10,
        Command::KnowRules { .. } => 142,
        Command::Membership(command) => match command {
            MembershipCommand::AdoptAuthority { .. } => 11,
            MembershipCommand::SetAddress { .. } => 12,
            MembershipCommand::CreateToken { .. } => 13,
            MembershipCommand::AdmitNode(_) => 14,
            MembershipCommand::CertifyNode { .. } => 15,
            MembershipCommand::RemoveNode { .. } => 16,
            MembershipCommand::ForgetNode { .. } => 17,
        },
    }
}

#[test]
fn every_command_reads_back_as_it_was() {
    let commands = commands();
    let kinds: std::collections::BTreeSet<_> = commands.iter().map(kind).collect();
    assert_eq!(kinds.len(), 25);
    for command in commands {
        let envelope = envelope(command);
        let bytes = encode_envelope(&envelope).unwrap();
        assert_eq!(decode_envelope(&bytes).as_ref(), Ok(&envelope));
        assert_eq!(encode_envelope(&envelope).unwrap(), bytes, "the encoding is one");
    }
}

/// What the decoder says of a message that was changed after it was made.
fn refused(change: impl FnOnce(&mut v1::Envelope)) -> String {
    let place = Command::Place { vm: vm(), node: NodeId(1), epoch: Epoch(1) };
    let bytes = encode_envelope(&envelope(place)).unwrap();
    let mut message = v1::Envelope::decode(bytes.as_slice()).unwrap();
    change(&mut message);
    decode_envelope(&message.encode_to_vec()).unwrap_err().to_string()
}

#[test]
fn a_server_stops_at_what_it_does_not_know_and_says_what_that_is() {
    let mut said = vec![
        refused(|message| message.version = 0),
        refused(|message| message.version = ENVELOPE_VERSION + 1),
        refused(|message| message.command = None),
        refused(|message| message.request_id = bytes::Bytes::from_static(b"short")),
    ];
    let vms = ["", "Web", "a/b/c", "../etc", "a/..", "web "];
    said.extend(vms.map(|vm| {
        refused(|message| {
            message.command = Some(envelope::Command::DeleteVm(envelope::DeleteVm {
                vm: vm.to_owned(),
                ..Default::default()
            }));
        })
    }));
    said.extend([0, 3, -1].map(|desired| {
        let vm = "web".to_owned();
        let set = envelope::SetDesired { vm, desired };
        refused(|message| message.command = Some(envelope::Command::SetDesired(set)))
    }));
    let register = envelope::RegisterNode { node: 1, name: "alpha".to_owned(), roles: vec![1, 9] };
    said.push(refused(|message| message.command = Some(envelope::Command::RegisterNode(register))));
    insta::assert_snapshot!(said.join("\n"), @r#"
    envelope: version 0 is unknown, this server reads 1 to 2
    envelope: version 3 is unknown, this server reads 1 to 2
    command: is unknown to this server
    request_id: expected 16 bytes, got 5
    vm: the vm name is empty
    vm: the vm name "Web" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    vm: "a/b/c" is not a vm: expected `name` or `tenant/name`
    vm: the tenant name ".." must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    vm: the vm name ".." must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    vm: the vm name "web " must be lower-case letters, digits and `-`, beginning and ending with a letter or digit
    desired: unknown value 0
    desired: unknown value 3
    desired: unknown value -1
    roles: unknown role 9
    "#);
}

#[test]
fn who_asks_reads_back_and_an_entry_that_does_not_say_it_is_one_of_before() {
    let command = Command::Place { vm: vm(), node: NodeId(1), epoch: Epoch(1) };
    let nobody = encode_envelope(&envelope(command.clone())).unwrap();
    assert_eq!(v1::Envelope::decode(nobody.as_slice()).unwrap().version, 1);
    let user = Principal::User { node: NodeId(4), uid: 1000 };
    for by in [user, Principal::Node { node: NodeId(2) }, Principal::TokenHolder] {
        let asked = Envelope { by: Some(by), ..envelope(command.clone()) };
        let bytes = encode_envelope(&asked).unwrap();
        assert_eq!(v1::Envelope::decode(bytes.as_slice()).unwrap().version, 2);
        assert_eq!(decode_envelope(&bytes).as_ref(), Ok(&asked));
    }
    let unknown = refused(|message| message.by = Some(envelope::Principal::default()));
    assert_eq!(unknown, "by: is unknown to this server");
}

#[test]
fn a_command_of_a_later_version_is_not_skipped() {
    // Field 24 of the envelope: where the next command will be. Key (24 << 3 | 2), length 0.
    let mut bytes = v1::Envelope {
        version: ENVELOPE_VERSION,
        request_id: bytes::Bytes::from_static(&[9; 16]),
        at_ms: 1,
        by: None,
        command: None,
    }
    .encode_to_vec();
    bytes.extend([0xc2, 0x01, 0x00]);
    let error = decode_envelope(&bytes).unwrap_err();
    assert_eq!(error, ConvertError::of("command", "is unknown to this server"));
}

#[test]
fn a_deployment_with_a_missing_or_malformed_part_is_refused() {
    type Change = fn(&mut envelope::VmDefinition);
    let refused = |change: Change| {
        let vms = vec![definition("web", "runner", Spec::minimal(1, 16))];
        let Command::Deploy(deploy) = deploy(TakeOver::Refuse, vms) else { panic!() };
        let mut message = deploy_to(&deploy).unwrap();
        change(&mut message.vms[0]);
        deploy_from(message).unwrap_err().field
    };
    let cases: [(Change, &str); 9] = [
        (|vm| vm.vm.push('/'), "vm"),
        (|vm| vm.drv = "/etc/passwd".to_owned(), "drv"),
        (|vm| vm.closure = None, "closure"),
        (|vm| vm.closure.as_mut().unwrap().root.push_str("/../x"), "closure.root"),
        (|vm| vm.closure.as_mut().unwrap().nar_hash.truncate(31), "closure.nar_hash"),
        (|vm| vm.closure.as_mut().unwrap().closure_digest.clear(), "closure.closure_digest"),
        (|vm| vm.spec.clear(), "spec"),
        (|vm| vm.spec = vm.spec.replace("\"memoryMib\":16", "\"memoryMib\":15"), "spec"),
        (|vm| vm.spec = vm.spec.replacen('{', "{\"unknown\":1,", 1), "spec"),
    ];
    for (change, field) in cases {
        assert_eq!(refused(change), field);
    }
}

#[test]
fn a_cut_or_damaged_entry_is_an_error_or_another_command_and_never_a_panic() {
    for command in commands() {
        let whole = envelope(command);
        let bytes = encode_envelope(&whole).unwrap();
        for length in 0..bytes.len() {
            assert_ne!(decode_envelope(&bytes[..length]).as_ref(), Ok(&whole), "cut at {length}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut damaged = bytes.clone();
                damaged[at] ^= 1 << bit;
                let _ = decode_envelope(&damaged);
            }
        }
    }
}

#[test]
fn random_bytes_are_no_command() {
    // A linear congruential generator (Knuth's MMIX): no dependency, the same bytes each run.
    let mut state = 1_u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    for round in 0..20_000 {
        let bytes: Vec<u8> = (0..round % 97).map(|_| next()).collect();
        assert!(decode_envelope(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_deployment_of_one_vm_costs_less_than_a_kibibyte_beyond_its_spec() {
    let long = |length: usize| "n".repeat(length);
    // The longest store path name that Nix allows, and the longest name of a vm that has no dashes.
    let vm = format!("{}/{}", long(63), long(63));
    let one = definition(&vm, &long(211), rich_spec());
    let spec = one.spec.to_canonical_json().unwrap().len();
    let whole = encode_envelope(&envelope(deploy(TakeOver::Allow, vec![one]))).unwrap().len();
    assert!(whole - spec < 1024, "{} bytes beyond the spec", whole - spec);
}

#[test]
fn with_its_remembered_evaluation_it_does_so_for_names_of_forty_letters() {
    let name = "n".repeat(40);
    let one = definition(&format!("{name}/{name}"), &name, rich_spec());
    let spec = one.spec.to_canonical_json().unwrap().len();
    let remember = Command::RememberEvaluation(RememberEvaluation {
        key: EvaluationKey(Sha256Hash::of(b"key")),
        vms: vec![RememberedVm {
            attribute: name,
            drv: one.drv.clone(),
            out: one.closure.root.clone(),
            system: one.system.clone(),
            spec: one.spec.digest().unwrap(),
        }],
    });
    let commands = [deploy(TakeOver::Allow, vec![one]), remember];
    let whole: usize =
        commands.into_iter().map(|command| encode_envelope(&envelope(command)).unwrap().len()).sum();
    assert!(whole - spec < 1024, "{} bytes beyond the spec", whole - spec);
}

#[test]
fn a_deployment_of_five_hundred_vms_with_long_names_is_a_command() {
    let name = "n".repeat(40);
    let vms = (0..500).map(|number| {
        let vm = format!("{name}/{name}-{number}");
        definition(&vm, &format!("microvm-qemu-{name}-{number}"), rich_spec())
    });
    let size = encode_envelope(&envelope(deploy(TakeOver::Allow, vms.collect()))).unwrap().len();
    assert!(size <= blixard_core::command::COMMAND_MAX_BYTES, "{size} bytes");
}
