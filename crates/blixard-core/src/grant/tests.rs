//! Which grants a host takes, and until when they hold.

use super::*;

fn grant(n: u64, revision: u64, content: GrantContent) -> Grant {
    let (incarnation, revision) = (Incarnation(1), Revision(revision));
    Grant { n, term: 1, incarnation, revision, lease_ms: None, pace: Pace::default(), content }
}

fn whole() -> GrantContent {
    GrantContent::Whole(AssignmentSet::default())
}

#[test]
fn nothing_is_held_before_the_first_grant() {
    let mut gate = GrantGate::default();
    gate.next_heartbeat(BootMillis(0));
    assert_eq!(gate.assignments(), None);
    assert_eq!(
        gate.take(grant(1, 5, GrantContent::Unchanged), BootMillis(0)),
        Err(GrantRefusal::NothingHeld)
    );
}

#[test]
fn a_grant_must_answer_a_heartbeat_of_this_daemon_that_is_open() {
    let mut gate = GrantGate::default();
    assert!(gate.take(grant(1, 5, whole()), BootMillis(0)).is_err(), "nothing was asked");
    gate.next_heartbeat(BootMillis(0));
    gate.take(grant(1, 5, whole()), BootMillis(0)).unwrap();
    assert!(gate.take(grant(1, 5, whole()), BootMillis(0)).is_err(), "answered twice");
    gate.next_heartbeat(BootMillis(0));
    gate.next_heartbeat(BootMillis(0));
    gate.take(grant(3, 5, GrantContent::Unchanged), BootMillis(0)).unwrap();
    assert!(gate.take(grant(2, 6, whole()), BootMillis(0)).is_err(), "overtaken");
}

#[test]
fn an_older_set_never_replaces_a_newer_one() {
    let mut gate = GrantGate::default();
    gate.next_heartbeat(BootMillis(0));
    gate.take(grant(1, 5, whole()), BootMillis(0)).unwrap();
    gate.next_heartbeat(BootMillis(0));
    assert!(matches!(gate.take(grant(2, 4, whole()), BootMillis(0)), Err(GrantRefusal::Older { .. })));
    let mut newer = grant(2, 4, whole());
    newer.incarnation = Incarnation(2);
    gate.take(newer, BootMillis(0)).unwrap();
    assert_eq!(gate.holds(), Some((Incarnation(2), Revision(4))));
}

fn leased(n: u64, lease_ms: u64) -> Grant {
    Grant { lease_ms: Some(lease_ms), ..grant(n, 5, whole()) }
}

#[test]
fn a_lease_runs_from_the_sending_of_its_heartbeat() {
    let mut gate = GrantGate::default();
    assert!(!gate.may_start(BootMillis(0)));
    gate.next_heartbeat(BootMillis(1000));
    assert_eq!(gate.take(leased(1, 6000), BootMillis(6999)), Ok(Term::Until(BootMillis(7000))));
    assert!(gate.may_start(BootMillis(6999)) && !gate.may_start(BootMillis(7000)));
}

#[test]
fn a_grant_that_comes_after_its_lease_is_not_taken_and_changes_nothing() {
    let mut gate = GrantGate::default();
    gate.next_heartbeat(BootMillis(1000));
    let before = gate.clone();
    assert_eq!(gate.take(leased(1, 6000), BootMillis(7010)), Err(GrantRefusal::Late { by_ms: 10 }));
    assert_eq!(gate, before);
}

#[test]
fn a_shorter_lease_does_not_take_back_what_a_longer_one_gave() {
    let mut gate = GrantGate::default();
    gate.next_heartbeat(BootMillis(0));
    gate.next_heartbeat(BootMillis(100));
    gate.take(leased(1, 6000), BootMillis(200)).unwrap();
    assert_eq!(gate.take(leased(2, 2000), BootMillis(200)), Ok(Term::Until(BootMillis(6000))));
}

#[test]
fn a_host_that_is_alone_again_has_no_deadline() {
    let mut gate = GrantGate::default();
    gate.next_heartbeat(BootMillis(0));
    gate.next_heartbeat(BootMillis(100));
    gate.take(leased(1, 6000), BootMillis(200)).unwrap();
    assert_eq!(gate.take(grant(2, 6, whole()), BootMillis(200)), Ok(Term::Endless));
    assert!(gate.may_start(BootMillis(u64::MAX)));
}
