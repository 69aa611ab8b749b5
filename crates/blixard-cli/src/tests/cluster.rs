//! `blixard cluster …`, `blixard node remove`, `blixard events` and `blixard watch`.

use blixard_proto::v1::watch_response::Answer;
use blixard_proto::v1::{Compacted, Event, MemberReport, MemberRole, MemberStatus, RemoveNodeResponse};
use blixard_proto::v1::{StatusResponse, StorageUse, WatchResponse};

use super::daemon::{Daemon, Script};

fn status() -> StatusResponse {
    let storage = StorageUse { log_bytes: 5 << 20, free_bytes: 9 << 30, ..StorageUse::default() };
    let report = |applied_index| MemberReport {
        version: "0.1.0".to_owned(),
        term: 4,
        applied_index,
        snapshot_index: Some(100),
        storage: Some(storage),
        digest: vec![0xcd; 32].into(),
        ..MemberReport::default()
    };
    let member = |node: u64, role: MemberRole, report| MemberStatus {
        node,
        name: format!("n{node}"),
        address: format!("n{node}:7440"),
        role: role.into(),
        report,
        ..MemberStatus::default()
    };
    let gone = MemberStatus {
        unreachable: "no answer\nwithin 2 s".to_owned(),
        ..member(3, MemberRole::Learner, None)
    };
    StatusResponse {
        cluster_id: "0123456789abcdef".repeat(2),
        node_name: "n1".to_owned(),
        term: 4,
        leader: Some(2),
        authority: vec![0xab; 32].into(),
        members: vec![
            member(1, MemberRole::Voter, Some(report(110))),
            member(2, MemberRole::Voter, Some(report(120))),
            gone,
        ],
        ..StatusResponse::default()
    }
}

fn events() -> Vec<WatchResponse> {
    let placed = Event {
        revision: 7,
        at_ms: 1_700_000_000_000,
        kind: "placed".to_owned(),
        vm: "shop/web".to_owned(),
        node: Some(1),
        epoch: Some(2),
        ..Event::default()
    };
    let failed = Event {
        revision: 8,
        kind: "failed".to_owned(),
        detail: "exit\n1".to_owned(),
        by: "root on a".to_owned(),
        ..placed.clone()
    };
    [Answer::Event(placed), Answer::Event(failed), Answer::CaughtUp(9)]
        .map(|answer| WatchResponse { answer: Some(answer) })
        .to_vec()
}

#[tokio::test]
async fn a_cluster_is_made_and_says_how_others_join() {
    let daemon = Daemon::start(Script::default());
    insta::assert_snapshot!(daemon.blixard("cluster init").await, @"
    Others can join at a:7440.
    Fingerprint of the authority: abababababababababababababababababababababababababababababababab
    `blixard cluster token create` makes a token for a machine.
    --- exit 0
    ");
}

#[tokio::test]
async fn a_token_is_all_that_is_printed() {
    let daemon = Daemon::start(Script::default());
    let made = daemon.blixard("cluster token create --ttl 10m --role server --role builder").await;
    insta::assert_snapshot!(made, @"
    blixard1.x
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"token [1, 3] for 600000 ms, id of 16 bytes");
}

#[tokio::test]
async fn a_server_that_does_not_answer_is_shown_with_the_reason() {
    let daemon = Daemon::start(Script { status: status(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("cluster status --digest").await, @"
    Cluster 0123456789abcdef0123456789abcdef, term 4, leader: node 2
    Authority abababababababababababababababababababababababababababababababab

    ID   NAME   ROLE      ADDRESS   APPLIED   LAG   SNAPSHOT   LOG     FREE       STATE
    1    n1     voter     n1:7440   110       10    100        5 MiB   9216 MiB   ok cdcdcdcdcdcd
    2    n2     leader    n2:7440   120       0     100        5 MiB   9216 MiB   ok cdcdcdcdcdcd
    3    n3     learner   n3:7440   -         -     -          -       -          unreachable: no answer within 2 s
    --- exit 0
    ");
}

#[tokio::test]
async fn a_removal_that_waits_says_what_for_and_fails() {
    let removed = RemoveNodeResponse { gone: true, waiting_on: String::new() };
    let daemon = Daemon::start(Script { removed, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("node remove n3").await, @"
    n3: removed
    --- exit 0
    ");
    let waiting_on = "too few of the other servers answer".to_owned();
    let removed = RemoveNodeResponse { gone: false, waiting_on };
    let daemon = Daemon::start(Script { removed, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("node remove n3").await, @"
    n3: leaving
    --- stderr
    error: n3 is still there: too few of the other servers answer
    --- exit 8
    ");
}

#[tokio::test]
async fn events_are_a_line_each_and_forgotten_ones_are_said_to_be() {
    let daemon = Daemon::start(Script { watched: events(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("events --since 6").await, @"
    7 2023-11-14T22:13:20Z placed shop/web node 1 epoch 2
    8 2023-11-14T22:13:20Z failed shop/web node 1 epoch 2: exit 1 (by root on a)
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("watch -o json").await, @r#"
    {"revision":7,"atMs":1700000000000,"event":"placed","vm":"shop/web","node":1,"epoch":2,"generation":null,"detail":null,"by":null}
    {"revision":8,"atMs":1700000000000,"event":"failed","vm":"shop/web","node":1,"epoch":2,"generation":null,"detail":"exit\n1","by":"root on a"}
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.asked(), @"
    watch after Some(6) known only true
    watch after None known only false
    ");
    let forgotten = WatchResponse { answer: Some(Answer::Compacted(Compacted { oldest: 40 })) };
    let daemon = Daemon::start(Script { watched: vec![forgotten], ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("watch --since 6").await, @"
    --- stderr
    error: events up to revision 40 are forgotten
    hint: list what there is with `vm list`, then go on with `--since 40`
    --- exit 6
    ");
}
