//! `blixard vm …`, except logs.

use blixard_proto::v1::{ClosureRef, Desired, Generation, Vm, VmStatus};
use tonic::Status;

use super::daemon::{Daemon, Script};

pub(super) fn vm(name: &str, status: VmStatus) -> Vm {
    Vm {
        vm: name.to_owned(),
        status: status.into(),
        desired: Desired::Running.into(),
        node: "a".to_owned(),
        epoch: 3,
        generation: 2,
        running_generation: Some(2),
        source: "git+file:///home/me/infra".to_owned(),
        spec: r#"{"schema":1,"resources":{"vcpus":1,"memoryMib":256},"stopTimeoutMs":30000}"#.to_owned(),
        ..Vm::default()
    }
}

fn generation(number: u64) -> Generation {
    Generation {
        number,
        closure: Some(ClosureRef {
            root: format!("/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfz{number}-microvm-run"),
            nar_hash: vec![7; 32].into(),
            closure_digest: vec![8; 31].into(),
            path_count: 1500,
            nar_size: 1_130_000_000,
        }),
        drv: "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-run.drv".to_owned(),
        deployment_id: "ab".repeat(16),
        at_ms: 1_763_930_000_000 + number * 3_600_000,
        by: "root on alpha".to_owned(),
    }
}

fn shop() -> Script {
    let waiting = Vm {
        node: String::new(),
        running_generation: None,
        reason: "no host has room:\n  a: 100 MiB free".to_owned(),
        ..vm("shop/web", VmStatus::Pending)
    };
    let updating = Vm { generation: 12, ..vm("shop/db", VmStatus::Starting) };
    let newer = Vm { status: 99, ..vm("shop/of-the-future", VmStatus::Healthy) };
    Script {
        vms: vec![vm("default/hello", VmStatus::Healthy), waiting, updating, newer],
        ..Script::default()
    }
}

#[tokio::test]
async fn the_list_is_a_table() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm list").await, @"
    NAME                 STATUS     NODE   GENERATION   REASON
    default/hello        healthy    a      2/2
    shop/web             pending    -      -/2          no host has room: a: 100 MiB free
    shop/db              starting   a      2/12
    shop/of-the-future   unknown    a      2/2
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @r#"list """#);
}

#[tokio::test]
async fn the_list_of_a_tenant_has_only_its_vms() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm list --tenant shop").await, @"
    NAME                 STATUS     NODE   GENERATION   REASON
    shop/web             pending    -      -/2          no host has room: a: 100 MiB free
    shop/db              starting   a      2/12
    shop/of-the-future   unknown    a      2/2
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm list --tenant nobody").await, @"
    --- stderr
    no vms
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm list --tenant nobody -o json").await, @r#"
    {
      "vms": [],
      "revision": 42
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.blixard("vm list --tenant NOBODY").await, @r#"
    --- stderr
    error: invalid value 'NOBODY' for '--tenant <TENANT>': the tenant name "NOBODY" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit

    For more information, try '--help'.
    --- exit 2
    "#);
}

#[tokio::test]
async fn the_list_as_json_has_everything() {
    let hello =
        Vm { generations: vec![generation(1), generation(2)], ..vm("default/hello", VmStatus::Healthy) };
    let bare = Vm { vm: "default/bare".to_owned(), ..Vm::default() };
    let daemon = Daemon::start(Script { vms: vec![hello, bare], ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("-o json vm list").await, @r#"
    {
      "vms": [
        {
          "vm": "default/hello",
          "status": "healthy",
          "desired": "running",
          "node": "a",
          "epoch": 3,
          "generation": 2,
          "runningGeneration": 2,
          "reason": null,
          "source": "git+file:///home/me/infra",
          "failures": 0,
          "wishes": 0,
          "generations": [
            {
              "number": 1,
              "deployment": "abababababababababababababababab",
              "atMs": 1763933600000,
              "by": "root on alpha",
              "drv": "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-run.drv",
              "closure": {
                "root": "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfz1-microvm-run",
                "narHash": "sha256-BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
                "closureDigest": null,
                "pathCount": 1500,
                "narSize": 1130000000
              }
            },
            {
              "number": 2,
              "deployment": "abababababababababababababababab",
              "atMs": 1763937200000,
              "by": "root on alpha",
              "drv": "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-run.drv",
              "closure": {
                "root": "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfz2-microvm-run",
                "narHash": "sha256-BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=",
                "closureDigest": null,
                "pathCount": 1500,
                "narSize": 1130000000
              }
            }
          ],
          "spec": {
            "resources": {
              "memoryMib": 256,
              "vcpus": 1
            },
            "schema": 1,
            "stopTimeoutMs": 30000
          }
        },
        {
          "vm": "default/bare",
          "status": "unknown",
          "desired": "unknown",
          "node": null,
          "epoch": 0,
          "generation": 0,
          "runningGeneration": null,
          "reason": null,
          "source": "",
          "failures": 0,
          "wishes": 0,
          "generations": [],
          "spec": null
        }
      ],
      "revision": 42
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn a_vm_is_shown_with_its_generations_newest_first() {
    let hello =
        Vm { generations: vec![generation(1), generation(2)], ..vm("default/hello", VmStatus::Healthy) };
    let daemon = Daemon::start(Script { vms: vec![hello], ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm show hello").await, @r#"
    Name:        default/hello
    Status:      healthy
    Desired:     running
    Node:        a
    Generation:  2/2 (running/target)
    Epoch:       3
    Failures:    0
    Source:      git+file:///home/me/infra

    GENERATION   DEPLOYED               SIZE       PATHS   RUNNER
    2            2025-11-23T22:33:20Z   1078 MiB   1500    /nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfz2-microvm-run
    1            2025-11-23T21:33:20Z   1078 MiB   1500    /nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfz1-microvm-run

    Spec:
    {
      "resources": {
        "memoryMib": 256,
        "vcpus": 1
      },
      "schema": 1,
      "stopTimeoutMs": 30000
    }
    --- exit 0
    "#);
}

#[tokio::test]
async fn a_vm_is_found_with_and_without_its_tenant() {
    let daemon = Daemon::start(shop());
    assert_eq!(daemon.blixard("vm show hello").await.out, daemon.blixard("vm show default/hello").await.out);
    insta::assert_snapshot!(daemon.blixard("vm show shop/web").await, @r#"
    Name:        shop/web
    Status:      pending
    Reason:      no host has room:
                     a: 100 MiB free
    Desired:     running
    Node:        -
    Generation:  -/2 (running/target)
    Epoch:       3
    Failures:    0
    Source:      git+file:///home/me/infra

    Spec:
    {
      "resources": {
        "memoryMib": 256,
        "vcpus": 1
      },
      "schema": 1,
      "stopTimeoutMs": 30000
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.blixard("vm show web").await, @"
    --- stderr
    error: no vm default/web
    hint: `blixard vm list` shows the vms there are
    --- exit 5
    ");
}

#[tokio::test]
async fn a_bad_name_is_refused_before_any_call() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm show Hello").await, @r#"
    --- stderr
    error: invalid value 'Hello' for '<VM>': the vm name "Hello" must be lower-case letters, digits and `-`, beginning and ending with a letter or digit

    For more information, try '--help'.
    --- exit 2
    "#);
    insta::assert_snapshot!(daemon.blixard("vm stop a/b/c").await, @r#"
    --- stderr
    error: invalid value 'a/b/c' for '<VM>': "a/b/c" is not a vm: expected `name` or `tenant/name`

    For more information, try '--help'.
    --- exit 2
    "#);
    assert_eq!(daemon.asked(), "");
}

#[tokio::test]
async fn a_started_vm_is_waited_for() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm start hello").await, @"
    default/hello: healthy on a
    --- stderr
    waiting up to 120 s for default/hello
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"set default/hello Running wait 120000 ms, id of 16 bytes");
}

#[tokio::test]
async fn a_vm_that_does_not_come_up_is_a_failure_of_its_own_kind() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm start shop/web").await, @"
    --- stderr
    waiting up to 120 s for shop/web
    error: vm shop/web is pending: no host has room:
        a: 100 MiB free
    hint: `blixard vm show shop/web` and `blixard vm logs shop/web` may tell more
    --- exit 8
    ");
    let failed = Vm { reason: "exited with 1".to_owned(), ..vm("default/hello", VmStatus::Failed) };
    let daemon = Daemon::start(Script { changed: Some(Ok(failed)), ..shop() });
    let ran = daemon.blixard("vm start hello -o json").await;
    assert!(ran.out.contains(r#""status": "failed""#), "{ran}");
    assert_eq!(ran.code, 8, "{ran}");
}

#[tokio::test]
async fn without_waiting_any_status_will_do() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm start shop/web --no-wait").await, @"
    shop/web: pending
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm stop hello --no-wait").await, @"
    default/hello: healthy
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm delete hello --no-wait").await, @"
    default/hello: deleting
    --- stderr
    files of its guest, if there are any, stay on a in vms/default/hello of its state directory
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    set shop/web Running wait 0 ms, id of 16 bytes
    set default/hello Stopped wait 0 ms, id of 16 bytes
    delete default/hello wait 0 ms, id of 16 bytes
    ");
}

#[tokio::test]
async fn a_vm_may_take_as_long_to_stop_as_its_flake_says() {
    let stopped = Vm { desired: Desired::Stopped.into(), ..vm("default/hello", VmStatus::Stopped) };
    let daemon = Daemon::start(Script { changed: Some(Ok(stopped)), ..shop() });
    insta::assert_snapshot!(daemon.blixard("vm stop hello").await, @"
    default/hello: stopped
    --- stderr
    waiting up to 90 s for default/hello
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    get default/hello
    set default/hello Stopped wait 90000 ms, id of 16 bytes
    ");
}

#[tokio::test]
async fn a_vm_that_still_stops_has_not_stopped() {
    let stopping = vm("default/hello", VmStatus::Stopping);
    let daemon = Daemon::start(Script { changed: Some(Ok(stopping)), ..shop() });
    insta::assert_snapshot!(daemon.blixard("vm stop hello").await, @"
    --- stderr
    waiting up to 90 s for default/hello
    error: vm default/hello is stopping
    hint: `blixard vm show default/hello` and `blixard vm logs default/hello` may tell more
    --- exit 8
    ");
}

#[tokio::test]
async fn a_deleted_vm_is_gone_or_is_said_not_to_be() {
    let daemon = Daemon::start(Script { gone: true, ..shop() });
    insta::assert_snapshot!(daemon.blixard("vm delete hello").await, @"
    default/hello: deleted
    --- stderr
    waiting up to 90 s for default/hello
    files of its guest, if there are any, stay on a in vms/default/hello of its state directory
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm delete hello -o json").await, @r#"
    {
      "vm": "default/hello",
      "gone": true,
      "keptOn": "a"
    }
    --- stderr
    waiting up to 90 s for default/hello
    files of its guest, if there are any, stay on a in vms/default/hello of its state directory
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.asked(), @"
    get default/hello
    delete default/hello wait 90000 ms, id of 16 bytes
    get default/hello
    delete default/hello wait 90000 ms, id of 16 bytes
    ");
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm delete hello").await, @"
    --- stderr
    waiting up to 90 s for default/hello
    files of its guest, if there are any, stay on a in vms/default/hello of its state directory
    error: vm default/hello is still being stopped
    hint: it goes on by itself; `blixard vm list` shows when it is gone
    --- exit 8
    ");
    insta::assert_snapshot!(daemon.blixard("vm delete nobody").await, @"
    --- stderr
    error: no vm default/nobody
    hint: `blixard vm list` shows the vms there are
    --- exit 5
    ");
}

#[tokio::test]
async fn files_go_with_the_vm_where_that_is_asked_for() {
    let daemon = Daemon::start(Script { gone: true, ..shop() });
    insta::assert_snapshot!(daemon.blixard("vm delete hello --volumes --dry-run").await.out, @"
    default/hello: would be stopped on a (generation 2 runs)
    default/hello: would be forgotten, with its roots (generations -)
    default/hello: its volumes would be removed, with all that its guest has left
    ");
    let ran = daemon.blixard("vm delete hello --volumes --no-wait").await;
    assert!(ran.code == 0 && ran.err.is_empty(), "{ran}");
    assert!(daemon.asked().ends_with("delete default/hello with its files wait 0 ms, id of 16 bytes"));
}

#[tokio::test]
async fn a_dry_run_of_a_deletion_says_what_would_go_and_orders_nothing() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm delete hello --dry-run").await, @"
    default/hello: would be stopped on a (generation 2 runs)
    default/hello: would be forgotten, with its roots (generations -)
    default/hello: its volumes would stay
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm delete hello --dry-run -o json").await, @r#"
    {
      "vm": "default/hello",
      "stopsOn": "a",
      "generations": [],
      "volumes": false
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.asked(), @"
    get default/hello
    get default/hello
    ");
}

#[tokio::test]
async fn what_the_cluster_refuses_is_told_with_its_hint() {
    let refused = Status::failed_precondition("vm default/hello is being deleted");
    let refused = blixard_proto::hint::with_hint(refused, "wait until `blixard vm list` no longer shows it");
    let daemon = Daemon::start(Script { changed: Some(Err(refused)), ..shop() });
    insta::assert_snapshot!(daemon.blixard("vm start hello").await, @"
    --- stderr
    waiting up to 120 s for default/hello
    error: vm default/hello is being deleted
    hint: wait until `blixard vm list` no longer shows it
    --- exit 6
    ");
}

#[tokio::test]
async fn a_restarted_vm_is_given_time_to_stop_and_to_start() {
    let daemon = Daemon::start(shop());
    insta::assert_snapshot!(daemon.blixard("vm restart hello").await, @"
    default/hello: healthy on a
    --- stderr
    waiting up to 210 s for default/hello
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("vm restart hello --no-wait").await, @"
    default/hello: healthy on a
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    get default/hello
    restart default/hello wait 210000 ms, id of 16 bytes
    restart default/hello wait 0 ms, id of 16 bytes
    ");
}

#[tokio::test]
async fn the_history_of_a_vm_begins_with_its_newest_generation() {
    let generation = |number: u64| Generation {
        number,
        deployment_id: format!("{number:032x}"),
        at_ms: number * 86_400_000,
        by: if number > 1 { format!("uid {number} on alpha") } else { String::new() },
        ..Generation::default()
    };
    let hello = Vm {
        generation: 3,
        running_generation: Some(2),
        generations: (1..=3).map(generation).collect(),
        ..vm("default/hello", VmStatus::Starting)
    };
    let daemon = Daemon::start(Script { vms: vec![hello], ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("vm history hello").await, @"
    GENERATION   STATE                  DEPLOYED               BY               DEPLOYMENT                         RUNNER
    3            wanted                 1970-01-04T00:00:00Z   uid 3 on alpha   00000000000000000000000000000003   -
    2            runs, to be replaced   1970-01-03T00:00:00Z   uid 2 on alpha   00000000000000000000000000000002   -
    1            -                      1970-01-02T00:00:00Z   -                00000000000000000000000000000001   -
    --- exit 0
    ");
    let json = daemon.blixard("vm history hello -o json").await.out;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(
        (&json["generations"][1]["number"], &json["generations"][1]["runs"]),
        (&2.into(), &true.into())
    );
}
