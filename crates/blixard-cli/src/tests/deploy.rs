//! `blixard deploy`.

use std::io::{self, Write};
use std::rc::Rc;

use blixard_proto::hint::with_hint;
use blixard_proto::v1::deploy_event::{
    Accepted, BuildLog, BuildStarted, Building, Evaluating, Event, Finished, Message, Planned, StageReached,
};
use blixard_proto::v1::{DeployEvent, DeployedVm, Fate, PlannedVm, Stage, VmChange};
use tokio::sync::Notify;
use tonic::Status;

use super::daemon::{Daemon, Script};
use super::nix::FakeNix;
use super::{Ran, blixard};
use crate::run::{World, run};

const STORE: &str = "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm";

pub(super) type Events = Vec<Result<DeployEvent, Status>>;

#[expect(clippy::unnecessary_wraps, reason = "a stream has results")]
fn event(event: Event) -> Result<DeployEvent, Status> {
    Ok(DeployEvent { event: Some(event) })
}

fn building(done: u64, expected: u64) -> Result<DeployEvent, Status> {
    event(Event::Building(Building { done, expected }))
}

fn stage(vm: &str, stage: Stage, node: &str, detail: &str) -> Result<DeployEvent, Status> {
    let (vm, node, detail) = (vm.to_owned(), node.to_owned(), detail.to_owned());
    event(Event::Stage(StageReached { vm, stage: stage.into(), node, detail }))
}

fn evaluated() -> Events {
    let log = BuildLog {
        drv: "/nix/store/7rjj2w2qgyxk6kf8w4ccvg0dfhhrsfzm-microvm-run.drv".to_owned(),
        line: "\u{1b}[31mpatching\u{1b}[0m".to_owned(),
    };
    let warning = Message { text: "evaluation warning: `x` is old\nuse `y`".to_owned() };
    vec![
        event(Event::Evaluating(Evaluating {})),
        event(Event::Message(warning)),
        building(0, 3),
        building(0, 3),
        event(Event::BuildLog(log)),
        event(Event::BuildStarted(BuildStarted { drv: format!("{STORE}-microvm-hello.drv") })),
        event(Event::BuildStarted(BuildStarted { drv: format!("{STORE}-microvm-web.drv") })),
        building(1, 3),
        building(3, 3),
    ]
}

fn accepted() -> Events {
    let vm = |vm: &str, generation, change: VmChange| DeployedVm {
        vm: vm.to_owned(),
        generation,
        change: change.into(),
    };
    let vms = vec![
        vm("default/hello", 1, VmChange::Added),
        vm("shop/web", 7, VmChange::Changed),
        vm("shop/idle", 2, VmChange::Unchanged),
    ];
    let accepted = Accepted { deployment_id: "0f".repeat(16), vms };
    let mut events = evaluated();
    events.extend([
        event(Event::Accepted(accepted)),
        stage("default/hello", Stage::Placing, "", ""),
        stage("shop/web", Stage::Placing, "", "waits for room:\nno host has 8192 MiB"),
        stage("shop/idle", Stage::Stopped, "", ""),
        stage("default/hello", Stage::Starting, "a", ""),
        stage("default/hello", Stage::Checking, "a", ""),
        stage("default/hello", Stage::Healthy, "a", ""),
    ]);
    events
}

pub(super) fn all_well() -> Events {
    let mut events = accepted();
    events.push(stage("shop/web", Stage::Healthy, "b", ""));
    events.push(event(Event::Finished(Finished { good: true })));
    events
}

pub(super) fn one_failed() -> Events {
    let mut events = accepted();
    events.push(stage("shop/web", Stage::Failed, "", "no host has 8192 MiB"));
    events.push(event(Event::Finished(Finished { good: false })));
    events
}

fn ending_with(mut events: Events, last: Status) -> Events {
    events.push(Err(last));
    events
}

pub(super) async fn deploy(events: Events, nix: &FakeNix, words: &str) -> Ran {
    let daemon = Daemon::start(Script { events, ..Script::default() });
    blixard(&daemon.socket(), &nix.nix(), &format!("deploy {words}")).await
}

#[tokio::test]
async fn every_change_is_a_line() {
    insta::assert_snapshot!(deploy(all_well(), &FakeNix::new(), "").await, @"
    --- stderr
    locking .
    evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    evaluation warning: `x` is old
    use `y`
    building 0/3
    building 0/3 microvm-hello
    building 0/3 microvm-web
    building 1/3 microvm-web
    building 3/3
    vm default/hello: generation 1 (added)
    vm shop/web: generation 7 (changed)
    vm shop/idle: unchanged (generation 2)
    default/hello: placing
    shop/web: placing: waits for room:
      no host has 8192 MiB
    shop/idle: stopped
    default/hello: starting on a
    default/hello: running on a, checking health
    default/hello: healthy on a
    shop/web: healthy on b
    deployed 3 vms (0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f)
    --- exit 0
    ");
}

fn planned() -> Events {
    let vm = |vm: &str, change: VmChange, before, generation, fate: Fate| PlannedVm {
        vm: vm.to_owned(),
        change: change.into(),
        generation_before: before,
        generation,
        fate: fate.into(),
        ..PlannedVm::default()
    };
    let on = |node: &str, vm: PlannedVm| PlannedVm { node: node.to_owned(), ..vm };
    let vms = vec![
        on("a", PlannedVm { builds: true, ..vm("default/new", VmChange::Added, None, 1, Fate::Placed) }),
        on("a", vm("shop/web", VmChange::Changed, Some(7), 8, Fate::Restarts)),
        on("b", vm("shop/same", VmChange::Unchanged, Some(2), 2, Fate::Stays)),
        vm("shop/idle", VmChange::Changed, Some(2), 3, Fate::Stopped),
        PlannedVm {
            detail: "no host will do:\na: needs 8192 MiB of memory, 100 free".to_owned(),
            ..vm("shop/huge", VmChange::Added, None, 1, Fate::Waits)
        },
    ];
    vec![event(Event::Planned(Planned { vms })), event(Event::Finished(Finished { good: true }))]
}

#[tokio::test]
async fn a_dry_run_gives_a_line_for_each_vm_and_claims_nothing() {
    insta::assert_snapshot!(deploy(planned(), &FakeNix::new(), "--dry-run").await, @"
    default/new: added, generation 1, to be built, starts on a
    shop/web: changed, generation 7 -> 8, restarts on a
    shop/same: unchanged, generation 2, stays on b
    shop/idle: changed, generation 2 -> 3, stopped
    shop/huge: added, generation 1, waits: no host will do: a: needs 8192 MiB of memory, 100 free
    --- stderr
    locking .
    --- exit 0
    ");
}

#[tokio::test]
async fn build_logs_are_printed_when_asked_for() {
    let ran = deploy(all_well(), &FakeNix::new(), "-L").await;
    assert!(ran.err.contains("building 0/3\nmicrovm-run> patching\nbuilding 0/3 microvm-hello\n"), "{ran}");
}

#[tokio::test]
async fn the_result_is_json_when_asked_for() {
    insta::assert_snapshot!(deploy(all_well(), &FakeNix::new(), "-o json").await.out, @r#"
    {
      "deployment": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
      "good": true,
      "vms": [
        {
          "vm": "default/hello",
          "generation": 1,
          "change": "added",
          "stage": "healthy",
          "node": "a",
          "detail": null
        },
        {
          "vm": "shop/web",
          "generation": 7,
          "change": "changed",
          "stage": "healthy",
          "node": "b",
          "detail": null
        },
        {
          "vm": "shop/idle",
          "generation": 2,
          "change": "unchanged",
          "stage": "stopped",
          "node": null,
          "detail": null
        }
      ]
    }
    "#);
    let ran = deploy(one_failed(), &FakeNix::new(), "-o json").await;
    assert_eq!(ran.code, 8, "{ran}");
    insta::assert_snapshot!(ran.out, @r#"
    {
      "deployment": "0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f",
      "good": false,
      "vms": [
        {
          "vm": "default/hello",
          "generation": 1,
          "change": "added",
          "stage": "healthy",
          "node": "a",
          "detail": null
        },
        {
          "vm": "shop/web",
          "generation": 7,
          "change": "changed",
          "stage": "failed",
          "node": null,
          "detail": "no host has 8192 MiB"
        },
        {
          "vm": "shop/idle",
          "generation": 2,
          "change": "unchanged",
          "stage": "stopped",
          "node": null,
          "detail": null
        }
      ]
    }
    "#);
}

#[tokio::test]
async fn a_vm_that_does_not_come_up_is_named_with_its_reason() {
    let ran = deploy(one_failed(), &FakeNix::new(), "").await;
    let (_, end) = ran.err.split_once("shop/web: failed").unwrap();
    insta::assert_snapshot!(format!("shop/web: failed{end}--- exit {}", ran.code), @"
    shop/web: failed: no host has 8192 MiB
    error: 1 of 3 vms has not come up
      shop/web: failed: no host has 8192 MiB
    hint: `blixard vm show` and `blixard vm logs` tell more of each
    --- exit 8
    ");
}

/// Standard error, and a bell that rings once a word is written to it.
struct Bell {
    text: Vec<u8>,
    word: &'static str,
    ring: Rc<Notify>,
}

impl Write for Bell {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.text.extend_from_slice(bytes);
        if String::from_utf8_lossy(&self.text).contains(self.word) {
            self.ring.notify_one();
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Deploys, interrupts once the word is read, and gives what was said from there on.
async fn interrupted(events: Events, word: &'static str) -> String {
    let daemon = Daemon::start(Script { events, hang: true, ..Script::default() });
    let ring = Rc::new(Notify::new());
    let mut err = Bell { text: Vec::new(), word, ring: Rc::clone(&ring) };
    let interrupt = Box::pin(async move { ring.notified().await });
    let nix = FakeNix::new();
    let world = World { out: &mut Vec::new(), err: &mut err, terminal: None, nix: nix.nix(), interrupt };
    let socket = daemon.socket();
    let words = ["blixard", "--socket", socket.to_str().unwrap(), "deploy"];
    let code = run(words.map(Into::into), world).await;
    let text = String::from_utf8(err.text).unwrap();
    let (_, end) = text.split_once("error: ").unwrap();
    format!("{end}--- exit {code}")
}

#[tokio::test]
async fn an_interruption_says_whether_the_deployment_goes_on() {
    insta::assert_snapshot!(interrupted(evaluated(), "building 3/3").await, @"
    interrupted
    hint: the cluster had not said that it accepted the deployment; `blixard vm list` shows whether it has
    --- exit 130
    ");
    insta::assert_snapshot!(interrupted(accepted(), "default/hello: healthy").await, @"
    interrupted
    hint: the deployment goes on by itself; `blixard vm list` shows how far it is
    --- exit 130
    ");
}

#[tokio::test]
async fn a_failed_evaluation_and_a_failed_build_are_the_flakes_fault() {
    let status = Status::invalid_argument("evaluation failed: undefined variable `lib`");
    let events = ending_with(vec![event(Event::Evaluating(Evaluating {}))], status);
    insta::assert_snapshot!(deploy(events, &FakeNix::new(), ".").await, @"
    --- stderr
    locking .
    evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    error: evaluation failed: undefined variable `lib`
    --- exit 7
    ");
    let status = with_hint(Status::aborted("building /nix/store/x.drv failed\n  > no space"), "`nix log`");
    assert_eq!(deploy(ending_with(evaluated(), status), &FakeNix::new(), ".").await.code, 7);
}

#[tokio::test]
async fn a_deployment_that_the_cluster_refuses_is_not() {
    let status = Status::failed_precondition("vm shop/web is defined by github:owner/shop");
    let status = with_hint(status, "`--take-over` takes it over");
    insta::assert_snapshot!(deploy(ending_with(evaluated(), status), &FakeNix::new(), ".").await, @"
    --- stderr
    locking .
    evaluating /nix/store/f6jk96ama4nm1qmqckjx98kq8k38j8ag-source
    evaluation warning: `x` is old
    use `y`
    building 0/3
    building 0/3 microvm-hello
    building 0/3 microvm-web
    building 1/3 microvm-web
    building 3/3
    error: vm shop/web is defined by github:owner/shop
    hint: `--take-over` takes it over
    --- exit 6
    ");
}

#[tokio::test]
async fn a_daemon_that_goes_away_after_accepting_does_not_end_the_deployment() {
    let events = ending_with(accepted(), Status::unavailable("this server has stopped"));
    let ran = deploy(events, &FakeNix::new(), "").await;
    let (_, end) = ran.err.split_once("healthy on a\n").unwrap();
    insta::assert_snapshot!(format!("{end}--- exit {}", ran.code), @"
    error: this server has stopped
    hint: `journalctl -u blixardd` may tell more
    hint: the deployment goes on by itself; `blixard vm list` shows how far it is
    --- exit 3
    ");
    let ran = deploy(evaluated(), &FakeNix::new(), "").await;
    let (_, end) = ran.err.split_once("building 3/3\n").unwrap();
    insta::assert_snapshot!(format!("{end}--- exit {}", ran.code), @"
    error: the daemon went away before the deployment had ended
    --- exit 3
    ");
}
