//! A rule that is broken on purpose is noticed: the simulation can fail.
//!
//! Within a few fixed seeds rather than with one: any change of the code moves what a seed does.

use blixard_sim::{BrokenRule, Shape, run};

const SEEDS: u64 = 6;
/// Of servers, where fewer seeds show a rule.
const SERVER_SEEDS: u64 = 20;
/// Of hosts, whose runs are longer: from one that has shown the rule on.
const HOST_SEEDS: u64 = 10;

#[track_caller]
fn noticed(rule: BrokenRule) {
    noticed_in(Shape::all_killed(), rule, SEEDS);
}

#[track_caller]
fn noticed_in(shape: Shape, rule: BrokenRule, seeds: u64) {
    noticed_from(shape, rule, 1, seeds);
}

#[track_caller]
fn noticed_from(shape: Shape, rule: BrokenRule, first: u64, seeds: u64) {
    let (shape, last) = (shape.breaking(rule), first + seeds - 1);
    let shown = (first..=last).any(|seed| !run(&shape, seed).violations.is_empty());
    assert!(shown, "no seed from {first} to {last} shows that {rule:?}");
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

#[test]
fn a_host_that_takes_a_vm_for_gone_too_early_is_noticed() {
    noticed_from(Shape::cluster(), BrokenRule::StopsTooEarly, 3, HOST_SEEDS);
}

#[test]
fn what_goes_on_after_its_lease_is_noticed() {
    noticed_from(Shape::fencing(), BrokenRule::OutlivesItsLease, 1, HOST_SEEDS);
}

#[test]
fn a_leader_that_grants_leases_without_asking_the_others_is_noticed() {
    noticed_from(Shape::fencing(), BrokenRule::GrantsUnasked, 4, HOST_SEEDS);
}
