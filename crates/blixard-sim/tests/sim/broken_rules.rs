//! A rule that is broken on purpose is noticed: the simulation can fail.
//!
//! Within a few fixed seeds rather than with one: any change of the code moves what a seed does.

use blixard_sim::{BrokenRule, Shape, run};

const SEEDS: u64 = 6;
/// Of servers, where fewer seeds show a rule.
const SERVER_SEEDS: u64 = 20;

#[track_caller]
fn noticed(rule: BrokenRule) {
    noticed_in(Shape::all_killed(), rule, SEEDS);
}

#[track_caller]
fn noticed_in(shape: Shape, rule: BrokenRule, seeds: u64) {
    let shape = shape.breaking(rule);
    let shown = (1..=seeds).any(|seed| !run(&shape, seed).violations.is_empty());
    assert!(shown, "no seed up to {seeds} shows that {rule:?}");
}

#[test]
fn acknowledging_before_the_sync_is_noticed() {
    noticed(BrokenRule::AcknowledgesBeforeSync);
}

#[test]
fn forgetting_the_vote_over_a_restart_is_noticed() {
    noticed(BrokenRule::ForgetsItsVote);
}

#[test]
fn a_restarted_leader_that_goes_on_in_its_old_term_is_noticed() {
    noticed(BrokenRule::RestoresLeadership);
}

#[test]
fn forwarding_each_attempt_as_a_new_call_is_noticed() {
    noticed_in(Shape::servers(), BrokenRule::ForwardsAsNewCalls, SERVER_SEEDS);
}

#[test]
fn a_watch_that_goes_on_one_revision_too_late_is_noticed() {
    noticed_in(Shape::servers(), BrokenRule::ResumesTooLate, SERVER_SEEDS);
}
