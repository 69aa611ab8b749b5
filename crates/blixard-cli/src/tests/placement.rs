//! `rebalance` and `cluster preemption`.

use blixard_proto::v1::{HostShare, RebalanceResponse, VmMove};

use super::daemon::{Daemon, Script};

fn moves(unfinished: u64) -> Script {
    let one = |vm: &str, because: &str| VmMove {
        vm: vm.to_owned(),
        from: "a".to_owned(),
        to: "b".to_owned(),
        because: because.to_owned(),
    };
    let share = |node: &str, now, then| HostShare { node: node.to_owned(), now, then };
    let rebalanced = RebalanceResponse {
        moves: vec![one("shop/web", "its host does\nnot meet"), one("shop/db", "its host is 90 % full")],
        hosts: vec![share("a", 900, 454), share("b", 0, 450)],
        unfinished,
        under_way: 0,
        revision: 42,
    };
    Script { rebalanced, ..Script::default() }
}

#[tokio::test]
async fn what_would_move_is_shown_with_its_reasons() {
    let daemon = Daemon::start(moves(0));
    insta::assert_snapshot!(daemon.blixard("rebalance --dry-run").await, @"
    VM         FROM   WOULD GO TO   BECAUSE
    shop/web   a      b             its host does not meet
    shop/db    a      b             its host is 90 % full

    NODE   MEMORY BEFORE   AFTER
    a      90 %            45 %
    b      0 %             45 %
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("rebalance --dry-run -o json").await, @r#"
    {
      "moves": [
        {
          "vm": "shop/web",
          "from": "a",
          "to": "b",
          "because": "its host does\nnot meet"
        },
        {
          "vm": "shop/db",
          "from": "a",
          "to": "b",
          "because": "its host is 90 % full"
        }
      ],
      "hosts": [
        {
          "node": "a",
          "nowPercent": 90.0,
          "thenPercent": 45.4
        },
        {
          "node": "b",
          "nowPercent": 0.0,
          "thenPercent": 45.0
        }
      ],
      "unfinished": 0,
      "underWay": 0,
      "revision": 42
    }
    --- exit 0
    "#);
    insta::assert_snapshot!(daemon.asked(), @"
    rebalance dry true stop false, 1 at a time, wait 0 ms, id of 16 bytes
    rebalance dry true stop false, 1 at a time, wait 0 ms, id of 16 bytes
    ");
}

#[tokio::test]
async fn a_rebalancing_is_waited_for_and_what_is_left_is_a_failure_of_its_own_kind() {
    let daemon = Daemon::start(moves(1));
    insta::assert_snapshot!(daemon.blixard("rebalance --max-parallel 2").await, @"
    VM         FROM   TO   BECAUSE
    shop/web   a      b    its host does not meet
    shop/db    a      b    its host is 90 % full

    NODE   MEMORY BEFORE   AFTER
    a      90 %            45 %
    b      0 %             45 %
    --- stderr
    waiting up to 1800 s for all that moves to be healthy
    error: 1 of 2 moves are not done
    hint: it goes on once those are healthy; `blixard rebalance --stop` ends it
    --- exit 8
    ");
    insta::assert_snapshot!(daemon.blixard("rebalance --no-wait").await, @"
    VM         FROM   TO   BECAUSE
    shop/web   a      b    its host does not meet
    shop/db    a      b    its host is 90 % full

    NODE   MEMORY BEFORE   AFTER
    a      90 %            45 %
    b      0 %             45 %
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("rebalance --stop").await, @"
    no more microVMs are moved
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    rebalance dry false stop false, 2 at a time, wait 1800000 ms, id of 16 bytes
    rebalance dry false stop false, 1 at a time, wait 0 ms, id of 16 bytes
    rebalance dry false stop true, 1 at a time, wait 0 ms, id of 16 bytes
    ");
}

#[tokio::test]
async fn what_is_under_way_is_not_called_placed_best() {
    let rebalanced = RebalanceResponse { under_way: 3, ..RebalanceResponse::default() };
    let daemon = Daemon::start(Script { rebalanced, ..Script::default() });
    insta::assert_snapshot!(daemon.blixard("rebalance --dry-run").await, @"
    nothing else to move; earlier moves under way: 3
    --- exit 0
    ");
}

#[tokio::test]
async fn where_nothing_is_better_elsewhere_that_is_said() {
    let daemon = Daemon::start(Script::default());
    insta::assert_snapshot!(daemon.blixard("rebalance").await, @"
    every microVM is where it is placed best
    --- stderr
    waiting up to 1800 s for all that moves to be healthy
    --- exit 0
    ");
}

#[tokio::test]
async fn preemption_is_a_setting_of_the_cluster() {
    let daemon = Daemon::start(Script::default());
    insta::assert_snapshot!(daemon.blixard("cluster preemption on").await, @"
    microVMs make room for those of higher priority that say `placement.preempts`
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.blixard("cluster preemption off").await, @"
    microVMs make room for no others
    --- exit 0
    ");
    insta::assert_snapshot!(daemon.asked(), @"
    preemption true
    preemption false
    ");
}
