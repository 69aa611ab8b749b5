//! A rule that is broken on purpose is noticed: the simulation can fail.
//!
//! Within a few fixed seeds rather than with one: any change of the code moves what a seed does.

use blixard_sim::{BrokenRule, Shape, run};

const SEEDS: u64 = 6;

#[track_caller]
fn noticed(rule: BrokenRule) {
    let shape = Shape::all_killed().breaking(rule);
    let shown = (1..=SEEDS).any(|seed| !run(&shape, seed).violations.is_empty());
    assert!(shown, "no seed up to {SEEDS} shows that {rule:?}");
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
