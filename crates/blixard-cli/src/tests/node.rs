//! `blixard node …` and `blixard status`.

use blixard_proto::v1::{HostTerms, ListNodesResponse, Node, NodeFacts, NodeState, Role, StatusResponse};

use blixard_proto::v1::{SetAdmissionResponse, StayingVm};

use super::daemon::{Daemon, Script};

fn nodes() -> ListNodesResponse {
    let facts = NodeFacts {
        cpus: 16,
        memory_mib: 65_536,
        system: "x86_64-linux".to_owned(),
        kvm: true,
        kernel: "6.12.4".to_owned(),
        version: "0.1.0".to_owned(),
        disk_mib: Some(400_000),
        hypervisors: vec!["qemu".to_owned(), "crosvm".to_owned()],
        nix_version: "2.26.3".to_owned(),
        terms: Some(HostTerms {
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            cpu_overcommit: 16,
            tenants: vec!["shop".to_owned()],
            hypervisors: vec![],
        }),
        shared_volumes: [].into(),
    };
    let first = Node {
        id: 1,
        name: "a".to_owned(),
        roles: [Role::Server, Role::Host, Role::Builder].map(i32::from).to_vec(),
        state: NodeState::Ready.into(),
        facts: Some(facts),
        vms: 3,
        used_memory_mib: 2048,
        used_vcpus: 4,
        used_disk_mib: 1024,
        ..Node::default()
    };
    let second = Node {
        id: 2,
        name: "witness".to_owned(),
        roles: vec![Role::Server.into(), 77],
        state: NodeState::Joining.into(),
        ..Node::default()
    };
    ListNodesResponse { nodes: vec![first, second], revision: 42 }
}

fn status() -> StatusResponse {
    StatusResponse {
        cluster_id: "0123456789abcdef".repeat(2),
        incarnation: 1,
        node: 1,
        node_name: "a".to_owned(),
        version: "0.1.0".to_owned(),
        term: 4,
        leader: Some(1),
        voters: vec![1, 2, 3],
        last_log_index: 120,
        applied_index: 119,
        snapshot_index: Some(100),
        vms: 5,
        vms_healthy: 4,
        nodes: 3,
        ..StatusResponse::default()
    }
}

#[tokio::test]
async fn nodes_are_listed_also_before_their_daemon_has_spoken() {
    let daemon = Daemon::start(Script { nodes: nodes(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("node list").await, @"
    ID   NAME      STATE     ROLES                 VMS   VCPUS   MEMORY           DISK              SYSTEM         KVM   HYPERVISORS   KERNEL   NIX      VERSION
    1    a         ready     server,host,builder   3     4/16    2048/65536 MiB   1024/400000 MiB   x86_64-linux   yes   qemu,crosvm   6.12.4   2.26.3   0.1.0
    2    witness   joining   server,unknown        0     0/-     0/- MiB          0/- MiB           -              -     -             -        -        -
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("node list -o json").await, @r#"
    {
      "nodes": [
        {
          "id": 1,
          "name": "a",
          "roles": [
            "server",
            "host",
            "builder"
          ],
          "state": "ready",
          "vms": 3,
          "usedVcpus": 4,
          "usedMemoryMib": 2048,
          "usedDiskMib": 1024,
          "facts": {
            "cpus": 16,
            "memoryMib": 65536,
            "diskMib": 400000,
            "system": "x86_64-linux",
            "kvm": true,
            "hypervisors": [
              "qemu",
              "crosvm"
            ],
            "kernel": "6.12.4",
            "nixVersion": "2.26.3",
            "version": "0.1.0",
            "terms": {
              "labels": {
                "zone": "a"
              },
              "cpuOvercommit": 16,
              "tenants": [
                "shop"
              ],
              "hypervisors": []
            }
          }
        },
        {
          "id": 2,
          "name": "witness",
          "roles": [
            "server",
            "unknown"
          ],
          "state": "joining",
          "vms": 0,
          "usedVcpus": 0,
          "usedMemoryMib": 0,
          "usedDiskMib": 0,
          "facts": null
        }
      ],
      "revision": 42
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn the_status_says_who_leads() {
    let daemon = Daemon::start(Script { status: status(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("status").await, @"
    Cluster:     0123456789abcdef0123456789abcdef
    Incarnation: 1
    Answered by: a (node 1)
    Version:     0.1.0
    Leader:      node 1
    Voters:      1, 2, 3
    Term:        4
    Log:         119 applied of 120, snapshot 100
    Nodes:       3
    Vms:         4 healthy of 5
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("status -o json").await, @r#"
    {
      "clusterId": "0123456789abcdef0123456789abcdef",
      "incarnation": 1,
      "node": 1,
      "nodeName": "a",
      "version": "0.1.0",
      "term": 4,
      "leader": 1,
      "voters": [
        1,
        2,
        3
      ],
      "lastLogIndex": 120,
      "appliedIndex": 119,
      "snapshotIndex": 100,
      "nodes": 3,
      "vms": 5,
      "vmsHealthy": 4
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn a_cluster_without_leader_or_snapshot_has_a_status_too() {
    let status = StatusResponse { leader: None, snapshot_index: None, ..status() };
    let daemon = Daemon::start(Script { status, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("status").await, @"
    Cluster:     0123456789abcdef0123456789abcdef
    Incarnation: 1
    Answered by: a (node 1)
    Version:     0.1.0
    Leader:      none
    Voters:      1, 2, 3
    Term:        4
    Log:         119 applied of 120
    Nodes:       3
    Vms:         4 healthy of 5
    --- exit 0
    ");
}

#[tokio::test]
async fn a_node_is_cordoned_drained_and_taken_back() {
    let admitted = SetAdmissionResponse {
        node: "b".to_owned(),
        state: NodeState::Cordoned.into(),
        vms: 2,
        staying: vec![],
    };
    let daemon = Daemon::start(Script { admitted, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("node cordon b").await, @"
    b: cordoned, 2 vms
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("node uncordon b -o json").await, @r#"
    {
      "node": "b",
      "state": "cordoned",
      "vms": 2,
      "staying": []
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.blixard("node drain b --no-wait").await, @"
    b: cordoned, 2 vms
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("node drain b --max-parallel 0").await, @"
    --- stderr
    error: invalid value '0' for '--max-parallel <N>': 0 is not in 1..=4294967295

    For more information, try '--help'.
    --- exit 2
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    b Cordoned, 0 at a time, until None ms, wait 0 ms
    b Open, 0 at a time, until None ms, wait 0 ms
    b Draining, 1 at a time, until None ms, wait 0 ms
    ");
}

#[tokio::test]
async fn a_drain_that_does_not_end_says_what_stays() {
    let stays = StayingVm { vm: "shop/db".to_owned(), reason: "no other\nhost will do".to_owned() };
    let state = NodeState::Draining.into();
    let admitted = SetAdmissionResponse { node: "b".to_owned(), state, vms: 1, staying: vec![stays] };
    let daemon = Daemon::start(Script { admitted, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("node drain b --deadline 10m --max-parallel 3").await, @"
    b: draining, 1 vms
      shop/db stays: no other host will do
    --- stderr
    waiting up to 900 s for it to be empty
    error: 1 vms are still on b
    hint: the drain goes on; `blixard node uncordon` ends it
    --- exit 8
    ");
    insta::assert_snapshot!(daemon.asked(), @"b Draining, 3 at a time, until Some(600000) ms, wait 900000 ms");
}

#[tokio::test]
async fn a_machine_is_declared_lost_only_by_who_confirms_it() {
    let daemon = Daemon::start(Script::default());
    insta::assert_snapshot!(daemon.blixard("node lost b").await, @"
    --- stderr
    error: the following required arguments were not provided:
      --confirm

    Usage: blixard node lost --confirm <NODE>

    For more information, try '--help'.
    --- exit 2
    ");
    insta::assert_snapshot!(daemon.blixard("node lost b --confirm").await, @"
    b: declared lost, 2 vms are still waited for
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("node lost b --confirm --force").await, @"
    b: declared lost, 2 vms are still waited for
      warning: its daemon answers
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    lost b
    lost b by force
    ");
}
