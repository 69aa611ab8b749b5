//! Under what a host may start something, and which runs it takes for ended.

use blixard_types::Epoch;

use super::*;
use crate::assignment::RunIntent;
use crate::fixture::{closure, spec, vm};
use crate::ports::units::UnitState;
use crate::reconcile::Ended;
use blixard_types::GenerationNumber;

const END: Term = Term::Until(BootMillis(100));

fn name(text: &str) -> LeaseName {
    LeaseName(text.to_owned())
}

/// A host with a grant until 100 whose holder holds this lease.
fn holding(lease: &str) -> HostLease {
    let mut host = HostLease::default();
    host.granted(END, BootMillis(0));
    assert_eq!(host.held(Until::At(100), name(lease)), None);
    host
}

fn unit(variables: &[(&str, &str)]) -> ObservedUnit {
    let environment = variables.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    ObservedUnit {
        vm: vm("web"),
        epoch: Some(Epoch(1)),
        generation: Some(GenerationNumber(1)),
        state: UnitState::Active,
        restarts: 0,
        main_pid: Some(7),
        environment,
    }
}

fn fences(host: &HostLease, unit: ObservedUnit) -> bool {
    host.fences(&BTreeMap::from([(vm("web"), unit)]), &BTreeMap::new(), |_| false)
}

#[test]
fn nothing_is_started_before_the_holder_has_heard_and_after_the_end() {
    let mut host = HostLease::default();
    assert_eq!(*host.footing(BootMillis(0)), Footing::NotYet);
    host.granted(END, BootMillis(0));
    assert_eq!(*host.footing(BootMillis(0)), Footing::NotYet);
    host.held(Until::At(100), name("a"));
    assert_eq!(*host.footing(BootMillis(99)), Footing::Held(name("a")));
    assert_eq!(*host.footing(BootMillis(100)), Footing::NotYet);
}

#[test]
fn a_grant_that_comes_after_the_end_waits_for_the_holder_again() {
    let mut host = holding("a");
    host.granted(Term::Until(BootMillis(300)), BootMillis(100));
    assert_eq!(*host.footing(BootMillis(101)), Footing::NotYet);
    assert_eq!(host.held(Until::At(300), name("b")), Some(name("a")));
    assert_eq!(*host.footing(BootMillis(101)), Footing::Held(name("b")));
    // One that comes in time does not.
    host.granted(Term::Until(BootMillis(400)), BootMillis(200));
    assert_eq!(*host.footing(BootMillis(201)), Footing::Held(name("b")));
}

#[test]
fn a_host_that_is_alone_runs_without_a_holder_and_one_among_others_does_not() {
    let mut host = HostLease::default();
    host.granted(Term::Endless, BootMillis(0));
    host.not_held();
    assert_eq!(*host.footing(BootMillis(0)), Footing::Leaseless);
    host.granted(END, BootMillis(0));
    assert_eq!(*host.footing(BootMillis(0)), Footing::NotYet);
    host.not_held();
    assert_eq!(*host.footing(BootMillis(0)), Footing::NotYet);
}

#[test]
fn what_the_holder_has_heard_of_another_kind_of_grant_does_not_count() {
    let mut host = HostLease::default();
    host.granted(Term::Endless, BootMillis(0));
    host.granted(END, BootMillis(0));
    host.held(Until::Endless, name("a"));
    assert_eq!(*host.footing(BootMillis(0)), Footing::NotYet);
}

#[test]
fn a_host_is_fenced_when_all_that_may_stop_runs_under_the_lease_that_is_held() {
    let host = holding("a");
    assert!(fences(&host, unit(&[(ENV_LEASE, "a")])) && fences(&host, unit(&[(ENV_KEPT, "1")])));
    assert!(!fences(&host, unit(&[])), "it was started without a lease");
    assert!(!fences(&host, unit(&[(ENV_LEASE, "b")])), "it was started under another");
    let busy = VmMemory { work: Work::Busy, ..VmMemory::default() };
    let memories = BTreeMap::from([(vm("web"), busy)]);
    assert!(!host.fences(&BTreeMap::new(), &memories, |_| true), "it is being started without a lease");
    assert!(host.fences(&BTreeMap::new(), &memories, |_| false));
    let mut alone = HostLease::default();
    alone.granted(Term::Endless, BootMillis(0));
    alone.held(Until::Endless, name("a"));
    assert!(!fences(&alone, unit(&[(ENV_LEASE, "a")])), "without an end nothing is fenced");
}

#[test]
fn a_run_under_a_lease_that_is_over_has_ended() {
    let host = holding("b");
    assert!(host.has_ended(&unit(&[(ENV_LEASE, "a")])));
    for goes_on in [unit(&[(ENV_LEASE, "b")]), unit(&[]), unit(&[(ENV_LEASE, "a"), (ENV_KEPT, "1")])] {
        assert!(!host.has_ended(&goes_on), "{goes_on:?}");
    }
}

#[test]
fn while_it_is_not_known_what_the_lease_has_ended_nothing_is_taken_for_failed() {
    let host = holding("a");
    let late = BootMillis(100);
    let ended = |generation| Ended::failed(Epoch(1), GenerationNumber(generation), String::new());
    let run = || RunIntent {
        generation: GenerationNumber(1),
        closure: closure("a"),
        spec: spec(100),
        sources: Vec::new(),
        volumes: [].into(),
    };
    let start = Action::Start { epoch: Epoch(1), run: Box::new(run()) };
    let failed = Action::Stop(StopCause::Ended(ended(1)));
    for action in [&start, &failed, &Action::Probe(Box::new(run()))] {
        assert!(host.allows(action, BootMillis(99)) && !host.allows(action, late), "{action:?}");
    }
    for action in [Action::Stop(StopCause::Ended(ended(0))), Action::Stop(StopCause::Orphan)] {
        assert!(host.allows(&action, late), "{action:?}");
    }
}

#[test]
fn a_vm_that_is_kept_waits_for_a_grant_alone() {
    let mut host = HostLease::default();
    let mut spec = spec(100);
    spec.placement.on_partition = blixard_types::spec::OnPartition::Keep;
    let run = RunIntent {
        generation: GenerationNumber(1),
        closure: closure("a"),
        spec,
        sources: Vec::new(),
        volumes: [].into(),
    };
    let start = Action::Start { epoch: Epoch(1), run: Box::new(run) };
    assert!(!host.allows(&start, BootMillis(0)));
    host.granted(END, BootMillis(0));
    assert!(host.allows(&start, BootMillis(0)) && !host.allows(&start, BootMillis(100)));
}
