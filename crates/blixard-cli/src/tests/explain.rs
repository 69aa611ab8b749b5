//! `blixard vm explain`.

use blixard_proto::v1::node_verdict::{Merit, Verdict};
use blixard_proto::v1::{Event, ExplainVmResponse, NodeVerdict, VmStatus};

use super::daemon::{Daemon, Script};

fn explained() -> ExplainVmResponse {
    let merit = Merit { points: -5, affinity: 10, anti_affinity: -20, history: 5, free_memory_mib: 512 };
    let verdict = |node, name: &str, verdict| NodeVerdict { node, name: name.to_owned(), verdict };
    let asked = Event {
        revision: 40,
        at_ms: 1_700_000_000_000,
        kind: "desired-set".to_owned(),
        vm: "shop/web".to_owned(),
        detail: "running".to_owned(),
        by: "uid 1000 on b".to_owned(),
        ..Event::default()
    };
    ExplainVmResponse {
        vm: "shop/web".to_owned(),
        status: VmStatus::Pending.into(),
        waiting_on: "no host will do: c: is lost".to_owned(),
        best: "b".to_owned(),
        verdicts: vec![
            verdict(2, "b", Some(Verdict::Merit(merit))),
            verdict(4, "d", Some(Verdict::Merit(Merit { history: -50, points: -50, ..Merit::default() }))),
            verdict(3, "c", Some(Verdict::Refusal("is\nlost".to_owned()))),
            verdict(9, "of-the-future", None),
        ],
        revision: 42,
        asked: Some(asked),
        ..ExplainVmResponse::default()
    }
}

#[tokio::test]
async fn each_node_is_told_with_its_reasons() {
    let daemon = Daemon::start(Script { explained: explained(), ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm explain shop/web").await, @"
    shop/web is pending and on no host.
    Asked last: desired-set: running, by uid 1000 on b, at 2023-11-14T22:13:20Z (revision 40)
    It waits: no host will do: c: is lost
    Placed now, it would go to b.

    NODE            POINTS   FREE MEMORY   BECAUSE
    b               -5       512 MiB       near vms it likes (+10), near vms it avoids (-20), was there last (+5)
    d               -50      0 MiB         failed there (-50)
    c               -        -             refused: is lost
    of-the-future   -        -             unknown
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"explain shop/web");
    insta::assert_snapshot!(daemon.blixard("vm explain shop/web -o json").await, @r#"
    {
      "vm": "shop/web",
      "status": "pending",
      "node": null,
      "waitingOn": "no host will do: c: is lost",
      "best": "b",
      "nodes": [
        {
          "id": 2,
          "name": "b",
          "refusal": null,
          "merit": {
            "points": -5,
            "affinity": 10,
            "antiAffinity": -20,
            "history": 5,
            "freeMemoryMib": 512
          }
        },
        {
          "id": 4,
          "name": "d",
          "refusal": null,
          "merit": {
            "points": -50,
            "affinity": 0,
            "antiAffinity": 0,
            "history": -50,
            "freeMemoryMib": 0
          }
        },
        {
          "id": 3,
          "name": "c",
          "refusal": "is\nlost",
          "merit": null
        },
        {
          "id": 9,
          "name": "of-the-future",
          "refusal": null,
          "merit": null
        }
      ],
      "asked": {
        "revision": 40,
        "atMs": 1700000000000,
        "event": "desired-set",
        "vm": "shop/web",
        "node": null,
        "epoch": null,
        "generation": null,
        "detail": "running",
        "by": "uid 1000 on b"
      },
      "revision": 42
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn a_vm_that_runs_is_told_with_its_host() {
    let there = ExplainVmResponse { node: "b".to_owned(), status: VmStatus::Healthy.into(), ..explained() };
    let there = ExplainVmResponse { waiting_on: String::new(), best: String::new(), ..there };
    let daemon = Daemon::start(Script { explained: there, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm explain shop/web").await, @"
    shop/web is healthy on b.
    Asked last: desired-set: running, by uid 1000 on b, at 2023-11-14T22:13:20Z (revision 40)
    Placed now, it would find no host.

    NODE            POINTS   FREE MEMORY   BECAUSE
    b               -5       512 MiB       near vms it likes (+10), near vms it avoids (-20), was there last (+5)
    d               -50      0 MiB         failed there (-50)
    c               -        -             refused: is lost
    of-the-future   -        -             unknown
    --- exit 0
    ");
}
