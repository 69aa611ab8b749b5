//! Volumes that go while their vm stays, or is gone.

use std::collections::BTreeMap;

use blixard_types::Epoch;

use super::{acknowledged, active, nothing, run, shown};
use crate::assignment::AssignmentSet;
use crate::fixture::vm;
use crate::ports::BootMillis;
use crate::ports::units::ObservedUnit;
use crate::reconcile::{VmMemory, plan};
use crate::state::VmReport;

fn going() -> AssignmentSet {
    let volumes = [("data".parse().unwrap(), Epoch(1)), ("more".parse().unwrap(), Epoch(2))];
    AssignmentSet { deleted_volumes: [(vm("db"), volumes.into())].into(), ..AssignmentSet::default() }
}

#[track_caller]
fn check(granted: &AssignmentSet, unit: Option<ObservedUnit>, memory: VmMemory, expected: &str) {
    let units = unit.map(|unit| (vm("db"), ObservedUnit { vm: vm("db"), ..unit })).into_iter().collect();
    let plan = plan(granted, &units, &BTreeMap::from([(vm("db"), memory)]), BootMillis(1_000_000));
    assert_eq!(shown(&plan), expected);
}

#[test]
fn volumes_are_removed_one_by_one_and_each_is_said_to_be_gone() {
    let gone = |names: &[(&str, u64)], memory: VmMemory| {
        let deleted = names.iter().map(|&(name, life)| (name.parse().unwrap(), Epoch(life)));
        VmMemory { deleted: deleted.collect(), ..memory }
    };
    let said = |name: &str| VmReport::VolumeGone { volume: name.parse().unwrap() };
    check(&going(), None, nothing(), "delete data of 1");
    check(&going(), None, gone(&[("data", 1)], nothing()), "report at 1: data gone");
    let told = acknowledged(gone(&[("data", 1)], nothing()), 1, said("data"));
    check(&going(), None, told, "delete more of 2");
    // One of another life is another one.
    check(&going(), None, gone(&[("data", 7)], nothing()), "delete data of 1");
}

#[test]
fn what_runs_without_being_granted_is_stopped_before_a_volume_goes() {
    check(&going(), Some(active(1, 1)), nothing(), "stop the orphan");
    let mut placed = going();
    placed.assignments.insert(vm("db"), run(1, 1));
    check(&placed, None, nothing(), "report at 1: starting 1");
}
