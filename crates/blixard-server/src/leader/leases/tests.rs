//! The rules that the keeper implements, by their names in docs/adr/0035: rounds, silence, giving up, clocks, times.

pub(crate) mod bench;

use std::sync::Arc;

use blixard_core::command::{Command, FenceCommand};
use blixard_core::lease::Profile;
use blixard_core::state::Presence;
use blixard_types::NodeId;

use super::*;
use bench::{Bench, Fate, HERE, HOST, OPEN, heartbeat, settle};

const L: u64 = 6000;
const W: u64 = 7500;
const TICK: u64 = 250;

fn lost(term: u64) -> Command {
    let authority = Authority { incarnation: Incarnation(1), term };
    Command::Fence(FenceCommand::NodeLost { node: NodeId(HOST), authority })
}

fn back(term: u64) -> Command {
    let authority = Authority { incarnation: Incarnation(1), term };
    Command::Fence(FenceCommand::NodeBack { node: NodeId(HOST), authority })
}

fn lease(answer: &Answer) -> Option<u64> {
    answer.as_ref().expect("a grant").lease_ms
}

fn withheld(answer: Answer) -> Withheld {
    match answer {
        Err(NotGranted::Withheld(why)) => why,
        other => panic!("not withheld: {other:?}"),
    }
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_is_granted_by_a_round_that_was_begun_after_its_receipt() {
    let bench = Bench::leading().await;
    let first = bench.ask(HOST).await;
    // This one comes when the round is under way already.
    let mut second = bench.ask(OPEN).await;
    bench.log.end_round(Ok(())).await;
    assert_eq!(lease(&first.answer().await.unwrap()), Some(L));
    assert!(second.waits().await, "a round that was begun before the heartbeat came serves it");
    bench.log.end_round(Ok(())).await;
    assert_eq!(lease(&second.answer().await.unwrap()), Some(L));
}

#[tokio::test(start_paused = true)]
async fn one_round_serves_all_that_wait() {
    let bench = Bench::leading().await;
    let before = bench.log.rounds_begun();
    let mut asked = vec![bench.ask(HOST).await];
    for node in [OPEN, HOST, OPEN, HOST] {
        asked.push(bench.ask(node).await);
    }
    bench.log.end_round(Ok(())).await;
    bench.log.end_round(Ok(())).await;
    for asked in asked {
        assert_eq!(lease(&asked.answer().await.unwrap()), Some(L));
    }
    assert_eq!(bench.log.rounds_begun() - before, 2, "one for the first, one for all others");
}

#[tokio::test(start_paused = true)]
async fn a_round_that_fails_grants_nothing() {
    let bench = Bench::leading().await;
    let asked = bench.ask(HOST).await;
    bench.log.end_round(Err(LinearizeError::NoQuorum)).await;
    let answer = asked.answer().await.unwrap();
    assert!(matches!(answer, Err(NotGranted::NoRound(LinearizeError::NoQuorum))), "{answer:?}");
}

#[tokio::test(start_paused = true)]
async fn a_round_that_another_leadership_has_outlived_grants_nothing() {
    for leader in [None, Some(7), Some(1)] {
        let bench = Bench::leading().await;
        let asked = bench.ask(HOST).await;
        // Also if this server leads again by then: between the two somebody else may have led.
        bench.log.led_by(leader, 3).await;
        bench.log.end_round(Ok(())).await;
        let answer = asked.answer().await.unwrap();
        assert!(matches!(answer, Err(NotGranted::NoRound(LinearizeError::NotLeader { .. }))), "{answer:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_applied_during_the_round_is_in_the_grant() {
    let bench = Bench::leading().await;
    let asked = bench.ask(HOST).await;
    bench.log.append(Command::Fence(FenceCommand::SetLeaseTimes { times: Profile::Fast.times() }));
    let applied = bench.server.replica.read(|state| state.applied.revision());
    bench.log.end_round(Ok(())).await;
    let granting = asked.answer().await.unwrap().unwrap();
    assert_eq!((granting.revision, granting.lease_ms), (applied, Some(2000)));
    assert_eq!((granting.term, granting.pace.heartbeat_ms), (1, 300));
}

#[tokio::test(start_paused = true)]
async fn who_does_not_lead_answers_at_once_and_asks_nobody() {
    let bench = Bench::leading().await;
    let before = bench.log.rounds_begun();
    bench.log.led_by(Some(7), 2).await;
    let answer = bench.ask(HOST).await.answer().await.unwrap();
    let expected = LinearizeError::NotLeader { leader: Some(NodeId(7)) };
    assert!(matches!(&answer, Err(NotGranted::NoRound(error)) if *error == expected), "{answer:?}");
    assert_eq!(bench.log.rounds_begun(), before);
}

#[tokio::test(start_paused = true)]
async fn a_host_is_given_up_once_the_receipt_that_was_answered_is_w_ago() {
    let bench = Bench::leading().await;
    bench.pass(2000).await;
    let asked = bench.ask(HOST).await;
    // The round takes a while; the silence counts from before it.
    bench.pass(1000).await;
    bench.log.end_round(Ok(())).await;
    assert!(asked.answer().await.unwrap().is_ok());
    bench.pass(W - 1000).await;
    assert_eq!(bench.log.commands(), [], "not before W is over");
    bench.pass(2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_got_no_answer_does_not_end_a_silence() {
    let bench = Bench::leading().await;
    bench.pass(W - 1000).await;
    let asked = bench.ask(HOST).await;
    bench.log.end_round(Err(LinearizeError::NoQuorum)).await;
    assert!(asked.answer().await.unwrap().is_err());
    bench.pass(1000 + 2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(1)]);
}

#[tokio::test(start_paused = true)]
async fn silence_begins_with_the_first_round_of_a_leadership() {
    let bench = Bench::elected(None);
    // Its first entry is not applied yet: what the state says may be out of date.
    bench.pass(3 * W).await;
    assert_eq!(bench.log.commands(), []);
    bench.log.end_round(Ok(())).await;
    bench.pass(W).await;
    assert_eq!(bench.log.commands(), []);
    bench.pass(2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_leadership_knows_nothing_of_the_one_before() {
    let bench = Bench::leading().await;
    bench.pass(W - 500).await;
    bench.log.led_by(Some(7), 2).await;
    bench.pass(TICK).await;
    bench.log.led_by(Some(1), 3).await;
    bench.pass(TICK).await;
    bench.log.end_round(Ok(())).await;
    bench.pass(W).await;
    assert_eq!(bench.log.commands(), []);
    bench.pass(2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_term_that_follows_unseen_is_another_leadership() {
    let bench = Bench::leading().await;
    bench.pass(W - 500).await;
    bench.log.led_by(Some(1), 3).await;
    bench.pass(2 * TICK).await;
    bench.log.end_round(Ok(())).await;
    bench.pass(W).await;
    assert_eq!(bench.log.commands(), []);
    bench.pass(2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(3)]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_has_stood_still_counts_silence_anew() {
    let bench = Bench::leading().await;
    bench.pass(1000).await;
    tokio::time::advance(Duration::from_millis(3 * W)).await;
    bench.pass(W - TICK).await;
    assert_eq!(bench.log.commands(), []);
    bench.pass(3 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_being_given_up_is_granted_nothing_until_the_outcome_is_known() {
    let bench = Bench::leading().await;
    let (release, held) = tokio::sync::oneshot::channel();
    bench.log.next_fate(Fate::Held(held));
    bench.pass(W + 2 * TICK).await;
    assert_eq!(bench.log.commands(), [lost(1)]);
    let why = withheld(bench.granted(HOST).await);
    assert_eq!(why, Withheld::GivingUp { node: NodeId(HOST) });
    assert!(bench.granted(OPEN).await.is_ok(), "the others are granted what is theirs");
    release.send(()).unwrap();
    settle().await;
    let presence = bench.server.replica.read(|state| state.nodes[&NodeId(HOST)].presence);
    assert_eq!(presence, Presence::Lost);
    let (_never, held) = tokio::sync::oneshot::channel();
    bench.log.next_fate(Fate::Held(held));
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::Lost { node: NodeId(HOST) });
}

#[tokio::test(start_paused = true)]
async fn an_unknown_outcome_is_asked_for_under_the_same_request_until_it_is_known() {
    let bench = Bench::leading().await;
    bench.log.next_fate(Fate::Unknown);
    bench.log.next_fate(Fate::Unknown);
    bench.pass(W + 2 * TICK).await;
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::GivingUp { node: NodeId(HOST) });
    bench.pass(1000).await;
    let proposed = bench.log.proposed();
    let requests: std::collections::BTreeSet<_> = proposed.iter().map(|(request, _)| *request).collect();
    assert_eq!((proposed.len(), requests.len()), (3, 1), "{proposed:?}");
    let (_never, held) = tokio::sync::oneshot::channel();
    bench.log.next_fate(Fate::Held(held));
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::Lost { node: NodeId(HOST) });
}

#[tokio::test(start_paused = true)]
async fn what_there_was_no_room_for_is_asked_again_until_there_is() {
    let bench = Bench::leading().await;
    bench.log.next_fate(Fate::NoRoom);
    bench.log.next_fate(Fate::NoRoom);
    bench.pass(W + 2 * TICK).await;
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::GivingUp { node: NodeId(HOST) });
    bench.pass(1000).await;
    let presence = bench.server.replica.read(|state| state.nodes[&NodeId(HOST)].presence);
    assert_eq!(presence, Presence::Lost);
}

#[tokio::test(start_paused = true)]
async fn what_a_leader_has_waited_for_is_proposed_to_its_own_log_and_to_no_other() {
    let bench = Bench::leading().await;
    bench.pass(W + 2 * TICK).await;
    assert_eq!((bench.log.commands(), bench.elsewhere.commands()), (vec![lost(1)], vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_lost_host_that_speaks_is_granted_something_once_the_log_says_that_it_is_back() {
    let bench = Bench::leading().await;
    bench.pass(W + 2 * TICK).await;
    let (release, held) = tokio::sync::oneshot::channel();
    bench.log.next_fate(Fate::Held(held));
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::Lost { node: NodeId(HOST) });
    assert_eq!(bench.log.commands(), [lost(1), back(1)]);
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::Lost { node: NodeId(HOST) });
    assert_eq!(bench.log.commands(), [lost(1), back(1)], "it is proposed once");
    release.send(()).unwrap();
    settle().await;
    assert_eq!(lease(&bench.granted(HOST).await), Some(L));
}

#[tokio::test(start_paused = true)]
async fn a_host_that_says_that_it_holds_a_lease_is_armed_in_the_log() {
    let bench = Bench::leading().await;
    let held = bench.server.replica.read(|state| state.fencing.since.unwrap());
    let asked = bench.ask_with(Heartbeat { fenced_by: Some(held), ..heartbeat(OPEN) }).await;
    bench.log.end_round(Ok(())).await;
    assert!(asked.answer().await.unwrap().is_ok());
    let (node, daemon) = (NodeId(OPEN), bench::daemon(OPEN));
    assert_eq!(bench.log.commands(), [Command::Fence(FenceCommand::FenceArmed { node, daemon, held })]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_whose_clock_is_slewed_grants_nothing_gives_nobody_up_and_hands_over() {
    let bench = Bench::leading().await;
    bench.pass(3000).await;
    for _ in 0..8 {
        bench.clock.slew(100);
        bench.pass(TICK).await;
    }
    assert_eq!(bench.members.handed_to(), [NodeId(7)], "once, to another voter");
    assert_ne!(HERE, NodeId(7));
    assert_eq!(withheld(bench.granted(HOST).await), Withheld::ClockOff);
    for _ in 0..2 * W / TICK {
        bench.clock.slew(100);
        bench.pass(TICK).await;
    }
    assert_eq!(bench.log.commands(), []);
}

#[tokio::test(start_paused = true)]
async fn the_log_gets_the_times_of_the_configuration_and_both_count_until_the_old_ones_are_over() {
    let bench = Bench::elected(Some(Profile::Fast.times()));
    bench.log.end_round(Ok(())).await;
    bench.pass(2 * TICK).await;
    let set = Command::Fence(FenceCommand::SetLeaseTimes { times: Profile::Fast.times() });
    assert_eq!(bench.log.commands(), std::slice::from_ref(&set));
    assert_eq!(lease(&bench.granted(HOST).await), Some(2000));
    // A lease of six seconds may be held by whoever was granted one a moment before.
    bench.pass(W - 500).await;
    assert_eq!(bench.log.commands(), std::slice::from_ref(&set));
    bench.pass(2000).await;
    let authority = Authority { incarnation: Incarnation(1), term: 1 };
    let settles = |command: &Command| match command {
        Command::Fence(FenceCommand::SettleLeases { authority: by, since }) => {
            *by == authority && since.0 > 0
        }
        _ => false,
    };
    assert!(bench.log.commands().iter().any(settles), "{:?}", bench.log.commands());
}
