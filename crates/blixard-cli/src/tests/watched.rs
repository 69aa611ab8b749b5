//! `blixard deploy` on a terminal, and where an evaluation failed.

use blixard_proto::SourcePosition;
use blixard_proto::position::with_position;
use tonic::Status;

use super::daemon::{Daemon, Script};
use super::deploy::{Events, all_well, deploy, one_failed};
use super::nix::FakeNix;
use crate::run::{World, run};

/// Deploys on a terminal of 60 columns; `<` stands for the clearing of a line.
async fn watched(events: Events) -> String {
    let daemon = Daemon::start(Script { events, ..Script::default() });
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let interrupt = Box::pin(std::future::pending());
    let terminal: Option<fn() -> usize> = Some(|| 60);
    let nix = FakeNix::new();
    let world = World { out: &mut out, err: &mut err, terminal, nix: nix.nix(), interrupt };
    let socket = daemon.socket();
    run(["blixard", "--socket", socket.to_str().unwrap(), "deploy"].map(Into::into), world).await;
    String::from_utf8(err).unwrap().replace("\r\u{1b}[K", "<")
}

#[tokio::test]
async fn what_passes_stands_at_the_foot_and_what_stays_above_it() {
    insta::assert_snapshot!(watched(all_well()).await, @"
    locking .
    <evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-sour<evaluation warning: `x` is old
    evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-sour<use `y`
    evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-sour<building [--------------------] 0/3<building [--------------------] 0/3 microvm-hello<building [--------------------] 0/3 microvm-web<building [######--------------] 1/3 microvm-web<building [####################] 3/3<vm default/hello: generation 1 (added)
    building [####################] 3/3<vm shop/web: generation 7 (changed)
    building [####################] 3/3<vm shop/idle: unchanged (generation 2)
    building [####################] 3/3<<rolling out [--------------------] 0/3 default/hello: placi<rolling out [--------------------] 0/3 shop/web: placing: w<shop/idle: stopped
    rolling out [--------------------] 0/3 shop/web: placing: w<rolling out [######--------------] 1/3<rolling out [######--------------] 1/3 default/hello: start<rolling out [######--------------] 1/3 default/hello: runni<default/hello: healthy on a
    rolling out [######--------------] 1/3 default/hello: runni<rolling out [#############-------] 2/3<shop/web: healthy on b
    rolling out [#############-------] 2/3<rolling out [####################] 3/3<deployed 3 vms (0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f)
    rolling out [####################] 3/3<
    ");
}

#[tokio::test]
async fn a_failure_begins_on_a_line_of_its_own() {
    let text = watched(one_failed()).await;
    let (_, end) = text.split_once("shop/web: failed").unwrap();
    insta::assert_snapshot!(format!("shop/web: failed{end}"), @"
    shop/web: failed: no host has 8192 MiB
    rolling out [#############-------] 2/3<rolling out [####################] 3/3<error: 1 of 3 vms has not come up
      shop/web: failed: no host has 8192 MiB
    hint: `blixard vm show` and `blixard vm logs` tell more of each
    ");
}

#[tokio::test]
async fn a_position_leads_to_the_users_own_file() {
    let at = |file: &str| {
        let position = SourcePosition { file: file.to_owned(), line: 3, column: 7 };
        let status = Status::invalid_argument("evaluation failed: microvms.web: undefined variable `lib`");
        vec![Err(with_position(status, &position))]
    };
    // The flake is /home/me/infra?dir=sub/vm: a position is relative to the whole tree.
    insta::assert_snapshot!(deploy(at("sub/vm/flake.nix"), &FakeNix::new(), "").await, @"
    --- stderr
    locking .
    error: evaluation failed: microvms.web: undefined variable `lib`
      at /home/me/infra/sub/vm/flake.nix:3:7
    --- exit 7
    ");
    let ran = deploy(at("/nix/store/x-nixpkgs/lib/a\u{1b}[2J.nix"), &FakeNix::new(), "").await;
    assert!(ran.err.contains("\n  at /nix/store/x-nixpkgs/lib/a.nix:3:7\n"), "{ran}");
}
