//! What is remembered, whatever the leaders' clocks say.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// The latest that a call is repeated: a client's patience and a server's.
const LAST_REPETITION_MS: u64 = 38_000;

fn request(number: u64) -> RequestId {
    RequestId(u128::from(number).to_be_bytes())
}

fn apply(log: &mut RequestLog, number: u64, term: u64, at: u64) {
    log.advance(term, UnixMillis(at));
    if log.outcome(request(number)).is_none() && !log.is_full(Asker::Caller) {
        log.remember(request(number), Ok(Outcome::Unchanged));
    }
}

#[test]
fn an_outcome_is_remembered_for_a_minute_and_then_forgotten() {
    let mut log = RequestLog::default();
    apply(&mut log, 1, 1, 1_000);
    // A minute, and what the leader's first command may have been late.
    apply(&mut log, 2, 1, 71_000);
    assert!(log.outcome(request(1)).is_some());
    apply(&mut log, 3, 1, 71_001);
    assert!(log.outcome(request(1)).is_none());
    assert!(log.outcome(request(2)).is_some());
}

#[test]
fn many_calls_in_a_minute_push_none_out_and_are_refused_when_there_is_no_room() {
    let mut log = RequestLog::default();
    for number in 0..=REQUESTS_MAX as u64 {
        apply(&mut log, number, 1, 1_000);
    }
    assert!(log.is_full(Asker::Caller));
    assert!(log.outcome(request(0)).is_some(), "the oldest is pushed out");
    assert!(log.outcome(request(REQUESTS_MAX as u64)).is_none());
    apply(&mut log, REQUESTS_MAX as u64, 1, 71_001);
    assert!(log.outcome(request(REQUESTS_MAX as u64)).is_some());
    assert_eq!(log.outcomes.len(), 1);
}

#[test]
fn where_there_is_no_room_for_callers_there_is_some_for_the_cluster_but_not_without_end() {
    let mut log = RequestLog::default();
    for number in 0..REQUESTS_MAX as u64 {
        apply(&mut log, number, 1, 1_000);
    }
    for number in 0..REQUESTS_RESERVED as u64 {
        assert!(!log.is_full(Asker::Cluster));
        log.remember(request(1 << 32 | number), Ok(Outcome::Unchanged));
    }
    assert!(log.is_full(Asker::Cluster));
}

#[test]
fn a_leader_whose_clock_is_an_hour_ahead_or_behind_makes_nothing_forgotten() {
    let mut log = RequestLog::default();
    apply(&mut log, 1, 1, 4_000_000);
    apply(&mut log, 2, 2, 8_000_000);
    apply(&mut log, 3, 3, 1_000);
    assert!(log.outcome(request(1)).is_some());
    // And nothing is stuck afterwards.
    apply(&mut log, 4, 3, 72_000);
    assert!(log.outcome(request(1)).is_none());
}

#[test]
fn a_leader_whose_clock_is_set_back_goes_on_forgetting_from_there() {
    let mut log = RequestLog::default();
    apply(&mut log, 1, 1, 1_000_000);
    apply(&mut log, 2, 1, 100_000);
    assert!(log.outcome(request(1)).is_some());
    apply(&mut log, 3, 1, 171_001);
    assert!(log.outcome(request(1)).is_none() && log.outcome(request(2)).is_none());
}

#[test]
fn commands_that_come_late_do_not_make_time_pass_faster() {
    let mut log = RequestLog::default();
    apply(&mut log, 1, 1, 100_000);
    for number in 0..100 {
        apply(&mut log, 10 + number, 1, 92_000);
        apply(&mut log, 1_000 + number, 1, 100_000 + number);
    }
    assert!(log.outcome(request(1)).is_some());
}

#[test]
fn leaders_that_begin_with_late_commands_do_not_make_time_pass_faster() {
    let mut log = RequestLog::default();
    apply(&mut log, 1, 1, 100_000);
    // Five leaders within 35 s, the first command of each 8 s late.
    for term in 2..=6 {
        let now = 100_000 + term * 6_000;
        apply(&mut log, 10 * term, term, now - 8_000);
        apply(&mut log, 10 * term + 1, term, now + 5_000);
    }
    assert!(log.outcome(request(1)).is_some());
}

/// Some time passes, perhaps another leads, and a call is applied, perhaps again, and perhaps late.
fn steps() -> impl Strategy<Value = Vec<(u64, bool, u64, u64)>> {
    let passes = prop_oneof![4 => 0..50_u64, 2 => 0..20_000_u64, 1 => 0..200_000_u64];
    let late = prop_oneof![1 => Just(0), 2 => 0..8_000_u64];
    prop::collection::vec((passes, prop::bool::weighted(0.1), 0..40_u64, late), 1..300)
}

proptest! {
    #[test]
    fn no_call_is_applied_twice_within_the_time_in_which_it_is_repeated(
        steps in steps(),
        offsets in prop::collection::vec(0..10_000_000_u64, 1..30),
    ) {
        let mut log = RequestLog::default();
        let mut first: BTreeMap<u64, u64> = BTreeMap::new();
        let (mut now, mut term) = (0, 0_usize);
        for (passes, elected, call, late) in steps {
            now += passes;
            term += usize::from(elected);
            // Each leader has a clock of its own, and commands stand in the log in another order than stamped.
            let at = (10_000 + now + offsets[term % offsets.len()]) - late;
            log.advance(term as u64, UnixMillis(at));
            let known = log.outcome(request(call)).is_some();
            if let Some(before) = first.get(&call) {
                prop_assert!(known || now - before > LAST_REPETITION_MS, "call {call} at {now}, applied at {before}");
            }
            if !known {
                log.remember(request(call), Ok(Outcome::Unchanged));
                first.insert(call, now);
            }
            prop_assert_eq!(log.applied.len(), log.outcomes.len());
        }
    }
}
