//! Which roots and directories a host may drop.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::{Epoch, GenerationNumber};

use super::{active, run};
use crate::assignment::AssignmentSet;
use crate::fixture::vm;
use crate::ports::BootMillis;
use crate::ports::units::ObservedUnit;
use crate::reconcile::{Action, StopCause, VmMemory, Work, forsaken, plan, stale_generations};
use crate::state::VmReport;

#[test]
fn a_root_is_dropped_only_when_nobody_keeps_it_and_nothing_runs_of_it_or_is_in_the_making() {
    let roots = |names: &[&str]| -> BTreeSet<_> {
        let both = |name: &&str| [(vm(name), GenerationNumber(1)), (vm(name), GenerationNumber(2))];
        names.iter().flat_map(both).collect()
    };
    let seen = ObservedUnit { vm: vm("runs"), ..active(1, 1) };
    let busy = VmMemory { work: Work::Busy, ..VmMemory::default() };
    let granted = AssignmentSet {
        assignments: BTreeMap::from([(vm("kept"), run(1, 2))]),
        retained: BTreeMap::from([(vm("kept"), BTreeSet::from([GenerationNumber(2)]))]),
        ..AssignmentSet::default()
    };
    let stale = stale_generations(
        &roots(&["busy", "gone", "kept", "runs"]),
        &granted,
        &BTreeMap::from([(vm("runs"), seen)]),
        &BTreeMap::from([(vm("busy"), busy), (vm("gone"), VmMemory::default())]),
    );
    let dropped = |name, generation| (vm(name), GenerationNumber(generation));
    assert_eq!(stale, [dropped("gone", 1), dropped("gone", 2), dropped("kept", 1), dropped("runs", 2)]);
}

#[test]
fn a_directory_is_forsaken_when_its_vm_has_left_the_host_and_nothing_of_it_goes_on() {
    let homes = ["busy", "gone", "kept", "placed", "runs"].map(vm).into();
    let seen = ObservedUnit { vm: vm("runs"), ..active(1, 1) };
    let busy = VmMemory { work: Work::Busy, ..VmMemory::default() };
    let granted = AssignmentSet {
        assignments: BTreeMap::from([(vm("placed"), run(1, 1))]),
        retained: BTreeMap::from([(vm("kept"), BTreeSet::new())]),
        ..AssignmentSet::default()
    };
    let forsaken = forsaken(
        &homes,
        &granted,
        &BTreeMap::from([(vm("runs"), seen)]),
        &BTreeMap::from([(vm("busy"), busy), (vm("gone"), VmMemory::default())]),
    );
    assert_eq!(forsaken, BTreeSet::from([vm("gone")]));
}

#[test]
fn files_are_discarded_once_nothing_runs_and_that_is_said_until_it_is_heard() {
    let granted =
        AssignmentSet { discarded: BTreeMap::from([(vm("web"), Epoch(3))]), ..AssignmentSet::default() };
    let next = |units: &[ObservedUnit], memory: VmMemory| {
        let units = units.iter().map(|unit| (unit.vm.clone(), unit.clone())).collect();
        let plan = plan(&granted, &units, &BTreeMap::from([(vm("web"), memory)]), BootMillis(0));
        plan.actions.into_values().next()
    };
    let gone = |discarded: u64| VmMemory { discarded: Some(Epoch(discarded)), ..VmMemory::default() };
    let discard = Some(Action::Discard { epoch: Epoch(3) });
    let report = Some(Action::Report { epoch: Epoch(3), report: VmReport::FilesGone });
    assert_eq!(next(&[active(3, 1)], VmMemory::default()), Some(Action::Stop(StopCause::Orphan)));
    assert_eq!(next(&[], VmMemory { work: Work::Busy, ..VmMemory::default() }), None);
    assert_eq!(next(&[], VmMemory::default()), discard);
    // What was removed after an earlier placement has been made anew since.
    assert_eq!(next(&[], gone(2)), discard);
    assert_eq!(next(&[], gone(3)), report);
    let heard = VmMemory { acknowledged: Some((Epoch(3), VmReport::FilesGone)), ..gone(3) };
    assert_eq!(next(&[], heard), None);
}
