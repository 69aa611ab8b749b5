//! Heartbeats, grants and reports, over the wire and back.

use blixard_core::state::{HealthStatus, SharedStorage, Terms};
use blixard_types::{ClosureRef, Sha256Hash, Spec};
use prost::Message;

use super::*;

/// What is sent is encoded to bytes and decoded from them.
fn wire<M: Message + Default>(message: &M) -> M {
    M::decode(message.encode_to_vec().as_slice()).unwrap()
}

fn hello() -> Hello {
    let facts = NodeFacts {
        cpus: 4,
        memory_mib: 16_384,
        system: "x86_64-linux".to_owned(),
        kvm: true,
        kernel: "6.12".to_owned(),
        version: "0.1.0".to_owned(),
        disk_mib: Some(100),
        hypervisors: [].into(),
        nix_version: String::new(),
        terms: Terms::default(),
        shared: [("media".parse().unwrap(), SharedStorage::Fenced)].into(),
    };
    Hello { node: NodeId(2), daemon: DaemonId([5; 16]), boot: "boot".to_owned(), facts }
}

fn vm(text: &str) -> VmId {
    text.parse().unwrap()
}

fn volume(name: &str, epoch: u64, made: Made) -> (VolumeName, VolumeLife) {
    (name.parse().unwrap(), VolumeLife { epoch: Epoch(epoch), made })
}

fn run(epoch: u64) -> Assignment {
    let root = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-runner".parse().unwrap();
    let (nar_hash, closure_digest) = (Sha256Hash::of(b"nar"), Sha256Hash::of(b"closure"));
    let closure = ClosureRef { root, nar_hash, closure_digest, path_count: 3, nar_size: 0 };
    let run = RunIntent {
        generation: GenerationNumber(7),
        closure,
        spec: Spec::minimal(2, 512),
        sources: vec![NodeId(3)],
        volumes: [volume("data", 2, Made::Promised), volume("more", 1, Made::Made)].into(),
    };
    Assignment { epoch: Epoch(epoch), intent: Intent::Run(Box::new(run)) }
}

fn set() -> AssignmentSet {
    let stop = Assignment { epoch: Epoch(0), intent: Intent::Stop };
    let generations = |numbers: &[u64]| numbers.iter().copied().map(GenerationNumber).collect();
    AssignmentSet {
        assignments: BTreeMap::from([(vm("web"), run(1)), (vm("shop/web"), run(u64::MAX)), (vm("db"), stop)]),
        retained: BTreeMap::from([(vm("web"), generations(&[6, 7])), (vm("old"), generations(&[]))]),
        discarded: BTreeMap::from([(vm("gone"), Epoch(4))]),
        deleted_volumes: [(vm("old"), [("data".parse().unwrap(), Epoch(3))].into())].into(),
    }
}

fn grant(lease_ms: Option<u64>, content: GrantContent) -> Grant {
    let (incarnation, revision) = (Incarnation(2), Revision(99));
    let pace = Pace { heartbeat_ms: 300, grace_ms: 500 };
    Grant { n: 5, term: 3, incarnation, revision, lease_ms, pace, content }
}

#[test]
fn a_hello_reads_back_as_it_was() {
    assert_eq!(decode_hello(wire(&encode_hello(&hello()))), Ok(hello()));
}

#[test]
fn a_heartbeat_reads_back_with_what_is_known_from_the_hello() {
    let running = RunningVm { vm: vm("shop/web"), epoch: Epoch(4), generation: GenerationNumber(7) };
    for (running, holds) in [
        (vec![], None),
        (vec![running.clone()], Some((Incarnation(2), Revision(99)))),
        (vec![running.clone(), RunningVm { vm: vm("db"), ..running }], Some((Incarnation(0), Revision(0)))),
    ] {
        let Hello { node, daemon, boot, .. } = hello();
        let fenced_by = holds.map(|(_, revision)| revision);
        let heartbeat = Heartbeat { node, boot, daemon, n: u64::MAX, running, holds, fenced_by };
        assert_eq!(decode_heartbeat(&hello(), wire(&encode_heartbeat(&heartbeat))), Ok(heartbeat));
    }
}

#[test]
fn a_grant_reads_back_and_no_deadline_is_not_a_deadline_of_zero() {
    for lease_ms in [None, Some(0), Some(6000)] {
        for content in [
            GrantContent::Unchanged,
            GrantContent::Whole(AssignmentSet::default()),
            GrantContent::Whole(set()),
        ] {
            let grant = grant(lease_ms, content);
            assert_eq!(decode_grant(wire(&encode_grant(&grant).unwrap())), Ok(grant));
        }
    }
}

#[test]
fn a_report_reads_back_as_it_was() {
    let generation = GenerationNumber(7);
    let unhealthy = HealthStatus::Unhealthy { reason: "no answer".to_owned() };
    for report in [
        VmReport::Fetching { generation },
        VmReport::Starting { generation },
        VmReport::Running { generation, health: HealthStatus::Pending },
        VmReport::Running { generation, health: HealthStatus::Healthy },
        VmReport::Running { generation, health: unhealthy },
        VmReport::Stopped,
        VmReport::FilesGone,
        VmReport::VolumeGone { volume: "data".parse().unwrap() },
        VmReport::Failed { generation, reason: "boom".to_owned() },
        VmReport::Hindered { generation, reason: "boom".to_owned() },
        VmReport::Preparing { generation, trouble: None },
        VmReport::Preparing { generation, trouble: Some("n2 is away".to_owned()) },
    ] {
        let report = HostReport { sequence: 3, vm: vm("shop/web"), epoch: Epoch(4), report };
        assert_eq!(decode_host_report(wire(&encode_host_report(&report))), Ok(report));
    }
}

#[test]
fn an_empty_message_is_no_order() {
    // Above all: a grant without content is not an empty set, at which a host would stop everything.
    assert_eq!(decode_grant(v1::Grant::default()), Err(ConvertError::missing("content")));
    let without_intent = v1::Assignment { vm: "web".to_owned(), epoch: 1, intent: None };
    let set = v1::AssignmentSet { assignments: vec![without_intent], retained: vec![], ..Default::default() };
    let grant = v1::Grant { content: Some(grant::Content::Whole(set)), ..v1::Grant::default() };
    assert_eq!(decode_grant(grant), Err(ConvertError::missing("intent")));
    let report = v1::Report { vm: "web".to_owned(), ..v1::Report::default() };
    assert_eq!(decode_host_report(report), Err(ConvertError::missing("report")));
    assert!(decode_hello(v1::Hello::default()).is_err());
}

#[test]
fn a_health_without_meaning_is_refused() {
    for health in [0, 4, -1] {
        let running = v1::vm_report::Running { generation: 1, health, reason: String::new() };
        let report = v1::VmReport { report: Some(v1::vm_report::Report::Running(running)) };
        let report = v1::Report { vm: "web".to_owned(), report: Some(report), ..v1::Report::default() };
        assert_eq!(decode_host_report(report).unwrap_err().field, "health");
    }
}

#[test]
fn a_malformed_part_of_a_grant_refuses_the_whole() {
    type Change = fn(&mut v1::AssignmentSet);
    let cases: [(Change, &str); 3] = [
        (|set| set.assignments[0].vm = "../etc".to_owned(), "vm"),
        (|set| set.retained[0].vm.clear(), "vm"),
        (
            |set| {
                for assignment in &mut set.assignments {
                    if let Some(assignment::Intent::Run(run)) = &mut assignment.intent {
                        run.spec = "{}".to_owned();
                    }
                }
            },
            "spec",
        ),
    ];
    for (change, field) in cases {
        let mut message = encode_grant(&grant(None, GrantContent::Whole(set()))).unwrap();
        let Some(grant::Content::Whole(set)) = &mut message.content else { panic!() };
        change(set);
        assert_eq!(decode_grant(message).unwrap_err().field, field);
    }
}
