//! Which roots and directories a host may drop.

use std::collections::{BTreeMap, BTreeSet};

use blixard_types::GenerationNumber;

use super::{active, run};
use crate::assignment::AssignmentSet;
use crate::fixture::vm;
use crate::ports::units::ObservedUnit;
use crate::reconcile::{VmMemory, Work, forsaken, stale_generations};

#[test]
fn a_root_is_dropped_only_when_nobody_keeps_it_and_nothing_of_its_vm_goes_on() {
    let roots = |names: &[&str]| -> BTreeSet<_> {
        let both = |name: &&str| [(vm(name), GenerationNumber(1)), (vm(name), GenerationNumber(2))];
        names.iter().flat_map(both).collect()
    };
    let seen = ObservedUnit { vm: vm("runs"), ..active(1, 1) };
    let busy = VmMemory { work: Work::Busy, ..VmMemory::default() };
    let granted = AssignmentSet {
        assignments: BTreeMap::from([(vm("kept"), run(1, 2))]),
        retained: BTreeMap::from([(vm("kept"), BTreeSet::from([GenerationNumber(2)]))]),
    };
    let stale = stale_generations(
        &roots(&["busy", "gone", "kept", "runs"]),
        &granted,
        &BTreeMap::from([(vm("runs"), seen)]),
        &BTreeMap::from([(vm("busy"), busy), (vm("gone"), VmMemory::default())]),
    );
    let dropped = |name, generation| (vm(name), GenerationNumber(generation));
    assert_eq!(stale, [dropped("gone", 1), dropped("gone", 2), dropped("kept", 1)]);
}

#[test]
fn a_directory_is_forsaken_when_its_vm_has_left_the_host_and_nothing_of_it_goes_on() {
    let homes = ["busy", "gone", "kept", "placed", "runs"].map(vm).into();
    let seen = ObservedUnit { vm: vm("runs"), ..active(1, 1) };
    let busy = VmMemory { work: Work::Busy, ..VmMemory::default() };
    let granted = AssignmentSet {
        assignments: BTreeMap::from([(vm("placed"), run(1, 1))]),
        retained: BTreeMap::from([(vm("kept"), BTreeSet::new())]),
    };
    let forsaken = forsaken(
        &homes,
        &granted,
        &BTreeMap::from([(vm("runs"), seen)]),
        &BTreeMap::from([(vm("busy"), busy), (vm("gone"), VmMemory::default())]),
    );
    assert_eq!(forsaken, BTreeSet::from([vm("gone")]));
}
